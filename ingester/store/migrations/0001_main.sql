-- The tables of the main job: directory, mails, claims, receipts, refusals, dead letters.
--
-- Every tenant table has tenant_id first in its primary key and in every unique key (law 4), so that the schema can be
-- distributed by tenant as it stands. Only tenants and domains are reference tables. Between message-scoped tables there
-- are no foreign keys: they would block detaching a partition.

CREATE TABLE tenants (
    id          uuid PRIMARY KEY,
    slug        text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9_][a-z0-9_-]{0,62}$'),
    name        text NOT NULL,
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    status_since timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE domains (
    name        text NOT NULL,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'verified')),
    invalid_tokens text NOT NULL DEFAULT 'store' CHECK (invalid_tokens IN ('store', 'refuse')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
CREATE UNIQUE INDEX domains_verified_name ON domains (name) WHERE status = 'verified';
CREATE INDEX domains_name ON domains (name);

CREATE TABLE mailboxes (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    id          uuid NOT NULL,
    domain      text NOT NULL,
    local_part  text NOT NULL,
    external_id text,
    email_type  text NOT NULL DEFAULT 'transactional' CHECK (email_type IN ('transactional', 'marketing')),
    accepts_cold_inbound boolean NOT NULL DEFAULT true,
    unsubscribable boolean NOT NULL DEFAULT false,
    auth_policy text NOT NULL DEFAULT 'monitor' CHECK (auth_policy IN ('off', 'monitor', 'quarantine', 'enforce')),
    strict_senders boolean NOT NULL DEFAULT false,
    system      text CHECK (system IN ('postmaster', 'reply')),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    status_since timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
-- A system mailbox does not take the address from an ordinary one: a tenant may have a postmaster@ of its own.
CREATE UNIQUE INDEX mailboxes_address ON mailboxes (tenant_id, domain, local_part) WHERE system IS NULL;
CREATE UNIQUE INDEX mailboxes_system ON mailboxes (tenant_id, domain, system) WHERE system IS NOT NULL;

CREATE TABLE routes (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    domain      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('exact', 'alias', 'catch_all')),
    local_part  text NOT NULL DEFAULT '' CHECK ((kind = 'catch_all') = (local_part = '') AND local_part = lower(local_part)),
    mailbox_id  uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailboxes (tenant_id, id)
);
CREATE UNIQUE INDEX routes_address ON routes (tenant_id, domain, local_part, kind);

-- The system tenant, and the mailbox of the bare `postmaster` (RFC 5321, 4.5.1), which names no domain.
INSERT INTO tenants (id, slug, name) VALUES ('00000000-0000-0000-0000-000000000000', 'system', 'The system');
INSERT INTO mailboxes (tenant_id, id, domain, local_part, system)
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', '', 'postmaster', 'postmaster');

-- Daemons cache the directory; whoever changes it tells them. Never fired inside a mail's transaction.
CREATE FUNCTION directory_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ingester_directory', '');
    RETURN NULL;
END $$;
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON tenants FOR EACH STATEMENT EXECUTE FUNCTION directory_changed();
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON domains FOR EACH STATEMENT EXECUTE FUNCTION directory_changed();
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON mailboxes FOR EACH STATEMENT EXECUTE FUNCTION directory_changed();
CREATE TRIGGER directory_changed AFTER INSERT OR UPDATE OR DELETE ON routes FOR EACH STATEMENT EXECUTE FUNCTION directory_changed();

CREATE TABLE raws (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    sha256      bytea NOT NULL,
    size        bigint NOT NULL,
    data        bytea,
    blob_key    text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK ((data IS NULL) <> (blob_key IS NULL))
);
-- Mail does not compress well, and an uncompressed value can be read by ranges: a part is a view on it.
ALTER TABLE raws ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE messages (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    mailbox_id  uuid NOT NULL,
    thread_id   uuid NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    kind        text NOT NULL CHECK (kind IN ('reply', 'new', 'auto_reply', 'bounce', 'complaint', 'read_receipt', 'calendar',
                                   'list', 'report')),
    details     jsonb NOT NULL DEFAULT '{}',
    status      text NOT NULL,
    rfc_message_id text NOT NULL,
    rfc_id_hash bytea NOT NULL,
    provider_message_id text,
    in_reply_to text,
    reference_ids text[] NOT NULL DEFAULT '{}',
    cited_hashes bytea[] NOT NULL DEFAULT '{}',
    from_address text,
    from_name   text,
    to_addresses text[] NOT NULL DEFAULT '{}',
    cc_addresses text[] NOT NULL DEFAULT '{}',
    reply_to_addresses text[] NOT NULL DEFAULT '{}',
    header_to   text,
    delivery_role text CHECK (delivery_role IN ('to', 'cc', 'bcc')),
    recipient_tag text,
    envelope_from text,
    subject     text NOT NULL DEFAULT '',
    body_text   text NOT NULL DEFAULT '',
    body_html   text,
    reply_text  text,
    reply_match_status text NOT NULL CHECK (reply_match_status IN ('matched', 'unmatched')),
    reply_match_method text CHECK (reply_match_method IN ('token_recipient', 'token_header', 'token_reference',
                                   'in_reply_to', 'references', 'report', 'late_join')),
    reply_to_email_id uuid,
    contact_id  uuid,
    sender_verified boolean NOT NULL DEFAULT false,
    sender_expected boolean NOT NULL DEFAULT false,
    spf         text NOT NULL DEFAULT 'unknown',
    dkim        text NOT NULL DEFAULT 'unknown',
    dmarc       text NOT NULL DEFAULT 'unknown',
    arc         text NOT NULL DEFAULT 'unknown',
    quarantined boolean NOT NULL DEFAULT false,
    flags       text[] NOT NULL DEFAULT '{}',
    decision    jsonb NOT NULL DEFAULT '{}',
    raw_id      uuid,
    size        bigint NOT NULL DEFAULT 0,
    sent_at     timestamptz,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((reply_match_status = 'matched') = (reply_match_method IS NOT NULL))
);
-- By hash: a long Message-ID breaks a btree.
CREATE INDEX messages_rfc_id ON messages (tenant_id, mailbox_id, rfc_id_hash);
CREATE INDEX messages_thread ON messages (tenant_id, thread_id, received_at);
CREATE INDEX messages_mailbox ON messages (tenant_id, mailbox_id, received_at);

CREATE TABLE parts (
    tenant_id   uuid NOT NULL,
    message_id  uuid NOT NULL,
    ordinal     integer NOT NULL,
    parent_ordinal integer,
    path        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('body', 'attachment', 'inline')),
    content_type text NOT NULL,
    charset     text,
    filename    text,
    original_filename text,
    content_id  text,
    encoding    text NOT NULL,
    "offset"    bigint,
    length      bigint,
    decoded_size bigint NOT NULL,
    sha256      bytea NOT NULL,
    flags       text[] NOT NULL DEFAULT '{}',
    data        bytea,
    PRIMARY KEY (tenant_id, message_id, ordinal),
    CHECK (("offset" IS NULL) = (length IS NULL)),
    CHECK (("offset" IS NULL) = (data IS NOT NULL))
);

CREATE TABLE threads (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    mailbox_id  uuid NOT NULL,
    subject     text NOT NULL DEFAULT '',
    is_read     boolean NOT NULL DEFAULT false,
    message_count integer NOT NULL DEFAULT 0,
    root_message_id uuid NOT NULL,
    last_message_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX threads_mailbox ON threads (tenant_id, mailbox_id, last_message_at);

-- Which conversation a Message-ID belongs to, whether we hold that message or a mail only cites it.
CREATE TABLE thread_ids (
    tenant_id   uuid NOT NULL,
    mailbox_id  uuid NOT NULL,
    id_hash     bytea NOT NULL,
    thread_id   uuid NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, id_hash)
);
CREATE INDEX thread_ids_thread ON thread_ids (tenant_id, thread_id);

CREATE TABLE receipts (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    arrival_id  uuid NOT NULL,
    message_id  uuid,
    dead_letter_id uuid,
    door        text NOT NULL,
    provider    text,
    provider_event_id text,
    envelope_from text NOT NULL,
    envelope_to text[] NOT NULL,
    client_ip   text,
    helo        text,
    tls         text,
    raw_sha256  bytea NOT NULL,
    auth_report jsonb NOT NULL DEFAULT '{}',
    received_at timestamptz NOT NULL,
    duplicate   boolean NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (message_id IS NOT NULL OR dead_letter_id IS NOT NULL)
);
CREATE INDEX receipts_message ON receipts (tenant_id, message_id);
CREATE INDEX receipts_arrival ON receipts (tenant_id, arrival_id);
CREATE INDEX receipts_dead_letter ON receipts (tenant_id, dead_letter_id) WHERE dead_letter_id IS NOT NULL;

CREATE TABLE claims (
    tenant_id   uuid NOT NULL,
    key         bytea NOT NULL,
    message_id  uuid,
    dead_letter_id uuid,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key),
    CHECK ((message_id IS NULL) <> (dead_letter_id IS NULL))
);
CREATE INDEX claims_expiry ON claims (expires_at);
CREATE INDEX claims_dead_letter ON claims (tenant_id, dead_letter_id) WHERE dead_letter_id IS NOT NULL;

-- Before DATA: counted per minute with at most three samples. After DATA (arrival_id set): one row each.
CREATE TABLE refusals (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    door        text NOT NULL,
    reason      text NOT NULL,
    client_prefix text NOT NULL,
    minute      timestamptz NOT NULL,
    count       integer NOT NULL DEFAULT 1,
    samples     jsonb NOT NULL DEFAULT '[]',
    arrival_id  uuid,
    envelope    jsonb,
    detail      text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX refusals_minute ON refusals (minute);
CREATE UNIQUE INDEX refusals_counted ON refusals (tenant_id, door, reason, client_prefix, minute) WHERE arrival_id IS NULL;

CREATE TABLE dead_letters (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    kind        text NOT NULL,
    state       text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'redriven', 'discarded')),
    reason      text NOT NULL,
    detail      text NOT NULL,
    envelope    jsonb NOT NULL,
    client_prefix text NOT NULL,
    raw_id      uuid NOT NULL,
    attempts    integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX dead_letters_created ON dead_letters (tenant_id, created_at);

-- Write the deliveries of several mails of one tenant: claims, raw bytes, threads, messages, parts, receipts, refusals.
--
-- p_mails is an array of mails in the shape that store/messages.py builds, p_raws their bytes; p_claim_* and p_mention_*
-- are the claims and the own and cited ids of all deliveries, in the order of the batch. What other transactions may want
-- too is taken for the whole batch at once and in key order, against deadlocks: claims, then conversations (p_roots, in
-- ascending order: keys made of the oldest cited id, which nearly all mails of a conversation share), then threads, then
-- thread_ids. The roots only spare waiting in a circle; what is right does not depend on them.
--
-- Writing the same mails twice (a COMMIT whose answer was lost) finds its own claims and changes nothing: that is how an
-- unknown commit is settled. Each statement takes a fresh snapshot (READ COMMITTED), which the conflict clauses rely on.
CREATE FUNCTION store_mails(p_tenant uuid, p_mails jsonb, p_raws bytea[],
                            p_claim_messages uuid[], p_claim_keys bytea[], p_claim_since timestamptz[],
                            p_claim_until timestamptz[],
                            p_mention_messages uuid[], p_mention_mailboxes uuid[], p_mention_hashes bytea[],
                            p_mention_threads uuid[], p_roots bigint[])
RETURNS TABLE (mail integer, mailbox uuid, message uuid, duplicate boolean, matched boolean)
LANGUAGE plpgsql
-- Plans are cached for the life of a connection, often from a time when the tables were empty. Every look-up here is by key.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    m record;
    d record;
    v_new uuid[];
    v_fresh bytea[];
    v_raw_stored boolean;
    v_message uuid;
    v_dead uuid;
    v_matched boolean;
    v_root bigint;
BEGIN
    v_new := take_claims(p_tenant, p_claim_messages, p_claim_keys, p_claim_since, p_claim_until);
    FOREACH v_root IN ARRAY p_roots LOOP
        PERFORM pg_advisory_xact_lock(v_root);
    END LOOP;
    v_fresh := take_threads(p_tenant, v_new, p_mention_messages, p_mention_mailboxes, p_mention_hashes, p_mention_threads);
    FOR m IN
        SELECT x.ordinality::integer - 1 AS n, y.*
        FROM jsonb_array_elements(p_mails) WITH ORDINALITY AS x(doc, ordinality),
             jsonb_to_record(x.doc) AS y(raw_id uuid, raw integer, raw_sha256 bytea, raw_size bigint, receipt jsonb,
                                         message jsonb, parts jsonb, deliveries jsonb, refusals jsonb)
    LOOP
        v_raw_stored := m.raw IS NULL;
        FOR d IN
            SELECT * FROM jsonb_to_recordset(m.deliveries) AS y(
                message_id uuid, mailbox_id uuid, thread_id uuid, receipt_id uuid, envelope_to text[], own jsonb)
        LOOP
            v_dead := NULL;
            IF d.message_id = ANY (v_new) THEN
                IF NOT v_raw_stored THEN
                    INSERT INTO raws (tenant_id, id, sha256, size, data)
                    VALUES (p_tenant, m.raw_id, m.raw_sha256, m.raw_size, p_raws[m.raw + 1]);
                    v_raw_stored := true;
                END IF;
                v_matched := store_message(p_tenant, d.mailbox_id, d.message_id, d.thread_id, m.message || d.own, v_fresh);
                INSERT INTO parts (tenant_id, message_id, ordinal, parent_ordinal, path, role, content_type, charset,
                                   filename, original_filename, content_id, encoding, "offset", length, decoded_size,
                                   sha256, flags, data)
                SELECT p_tenant, d.message_id, p.ordinal, p.parent_ordinal, p.path, p.role, p.content_type, p.charset,
                       p.filename, p.original_filename, p.content_id, p.encoding, p."offset", p.length, p.decoded_size,
                       p.sha256, p.flags, p.data
                FROM jsonb_populate_recordset(NULL::parts, m.parts) AS p;
                v_message := d.message_id;
                duplicate := false;
            ELSE
                SELECT h.message_id, h.dead_letter_id INTO v_message, v_dead
                FROM holder_of_claims(p_tenant, d.message_id, p_claim_messages, p_claim_keys) AS h;
                SELECT x.reply_match_status = 'matched' INTO v_matched
                FROM messages x WHERE x.tenant_id = p_tenant AND x.id = v_message;
                duplicate := v_message IS DISTINCT FROM d.message_id;
            END IF;

            INSERT INTO receipts (tenant_id, id, arrival_id, message_id, dead_letter_id, door, provider, provider_event_id,
                                  envelope_from, envelope_to, client_ip, helo, tls, raw_sha256, auth_report, received_at,
                                  duplicate)
            SELECT p_tenant, d.receipt_id, r.arrival_id, v_message, v_dead, r.door, r.provider, r.provider_event_id,
                   r.envelope_from, d.envelope_to, r.client_ip, r.helo, r.tls, m.raw_sha256, r.auth_report, r.received_at,
                   store_mails.duplicate
            FROM jsonb_populate_record(NULL::receipts, m.receipt) AS r
            ON CONFLICT (tenant_id, id) DO NOTHING;

            mail := m.n;
            mailbox := d.mailbox_id;
            message := coalesce(v_message, v_dead);
            matched := coalesce(v_matched, false);
            RETURN NEXT;
        END LOOP;
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count, samples, arrival_id, envelope,
                              detail)
        SELECT p_tenant, r.id, r.door, r.reason, r.client_prefix, r.minute, 1, '[]', r.arrival_id, r.envelope, r.detail
        FROM jsonb_populate_recordset(NULL::refusals, m.refusals) AS r
        ON CONFLICT (tenant_id, id) DO NOTHING;
    END LOOP;
END $$;

-- Take the claims of a batch. Returns the messages that are new: every claim of theirs was free, or over its time.
CREATE FUNCTION take_claims(p_tenant uuid, p_messages uuid[], p_keys bytea[], p_since timestamptz[], p_until timestamptz[])
RETURNS uuid[] LANGUAGE sql AS $$
    WITH wanted AS (
        SELECT * FROM unnest(p_messages, p_keys, p_since, p_until) WITH ORDINALITY AS w(message_id, key, since, until, n)
    ), first AS (
        SELECT DISTINCT ON (key) * FROM wanted ORDER BY key, n
    ), taken AS (
        INSERT INTO claims AS x (tenant_id, key, message_id, created_at, expires_at)
        SELECT p_tenant, key, message_id, since, until FROM first ORDER BY key
        ON CONFLICT (tenant_id, key) DO UPDATE
        SET message_id = excluded.message_id, dead_letter_id = NULL,
            created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE x.expires_at <= excluded.created_at
        RETURNING key, message_id
    )
    SELECT coalesce(array_agg(new.message_id), '{}') FROM (
        SELECT w.message_id FROM wanted w LEFT JOIN taken t USING (key)
        GROUP BY w.message_id HAVING bool_and(t.message_id IS NOT DISTINCT FROM w.message_id)
    ) new
$$;

-- Who holds the claims of a delivery that is not new: another message, a dead letter, or it itself (written before).
-- Claims that the delivery took a moment ago belong to the holder as well.
CREATE FUNCTION holder_of_claims(p_tenant uuid, p_message uuid, p_messages uuid[], p_keys bytea[],
                                 OUT message_id uuid, OUT dead_letter_id uuid)
LANGUAGE plpgsql AS $$
DECLARE
    v_keys bytea[] := ARRAY(SELECT u.key FROM unnest(p_messages, p_keys) AS u(message_id, key) WHERE u.message_id = p_message);
BEGIN
    SELECT c.message_id, c.dead_letter_id INTO holder_of_claims.message_id, holder_of_claims.dead_letter_id
    FROM claims c
    WHERE c.tenant_id = p_tenant AND c.key = ANY (v_keys) AND c.message_id IS DISTINCT FROM p_message
    ORDER BY c.created_at, c.key LIMIT 1;
    IF NOT FOUND THEN
        holder_of_claims.message_id := p_message;
        RETURN;
    END IF;
    UPDATE claims c SET message_id = holder_of_claims.message_id, dead_letter_id = holder_of_claims.dead_letter_id
    WHERE c.tenant_id = p_tenant AND c.key = ANY (v_keys) AND c.message_id = p_message;
END $$;

-- Take the conversations of the new messages of a batch: the threads that their own and cited ids name, in id order, and
-- the ids that nobody has mentioned yet, in hash order. The row of a thread is the lock on all that belongs to it, its
-- thread_ids included. Whoever mentions a new id in another transaction waits at that id; what has committed meanwhile
-- may name further threads, which are taken last.
--
-- Returns the ids (mailbox and hash) that nobody has mentioned before and that one message of the batch alone mentions.
CREATE FUNCTION take_threads(p_tenant uuid, p_new uuid[], p_messages uuid[], p_mailboxes uuid[], p_hashes bytea[],
                             p_threads uuid[])
RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
    v_fresh bytea[];
BEGIN
    PERFORM lock_threads(p_tenant, p_mailboxes, p_hashes);
    WITH mentioned AS (
        SELECT w.mailbox_id, w.hash, (array_agg(w.thread_id ORDER BY w.n))[1] AS thread_id, count(*) AS times
        FROM unnest(p_messages, p_mailboxes, p_hashes, p_threads) WITH ORDINALITY
             AS w(message_id, mailbox_id, hash, thread_id, n)
        WHERE w.message_id = ANY (p_new)
        GROUP BY w.mailbox_id, w.hash
    ), added AS (
        INSERT INTO thread_ids (tenant_id, mailbox_id, id_hash, thread_id)
        SELECT p_tenant, mailbox_id, hash, thread_id FROM mentioned ORDER BY mailbox_id, hash
        ON CONFLICT DO NOTHING
        RETURNING mailbox_id, id_hash
    )
    SELECT array_agg(uuid_send(a.mailbox_id) || a.id_hash) INTO v_fresh
    FROM added a JOIN mentioned x ON x.mailbox_id = a.mailbox_id AND x.hash = a.id_hash
    WHERE x.times = 1;
    PERFORM lock_threads(p_tenant, p_mailboxes, p_hashes);
    RETURN coalesce(v_fresh, '{}');
END $$;

CREATE FUNCTION lock_threads(p_tenant uuid, p_mailboxes uuid[], p_hashes bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM threads h
    WHERE h.tenant_id = p_tenant AND h.id IN (
        SELECT t.thread_id
        FROM unnest(p_mailboxes, p_hashes) AS u(mailbox_id, hash)
        JOIN thread_ids t ON t.tenant_id = p_tenant AND t.mailbox_id = u.mailbox_id AND t.id_hash = u.hash)
    ORDER BY h.id FOR UPDATE;
END $$;

-- Put one message into its conversation and insert it. Returns whether it was matched.
--
-- p_doc holds the message's columns and `cites`: [{hash, method}] in order of preference, empty where the attaching rule
-- forbids it. `reply_to_email_id` is set where the answered message was found before, `thread_id` is then its thread. The
-- write looks again, because the answered message may stand in the same batch or have been committed since. Its ids
-- and their threads were taken by take_threads; p_fresh names the ids that were not known before.
CREATE FUNCTION store_message(p_tenant uuid, p_mailbox uuid, p_message uuid, p_thread uuid, p_doc jsonb, p_fresh bytea[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    r messages;
    v_hint uuid;
    v_thread uuid;
    v_held uuid;
    v_cite record;
BEGIN
    r := jsonb_populate_record(NULL::messages, p_doc);
    r.tenant_id := p_tenant;
    r.mailbox_id := p_mailbox;
    r.id := p_message;
    v_hint := coalesce(r.thread_id, p_thread);

    IF r.reply_to_email_id IS NULL THEN
        FOR v_cite IN SELECT * FROM jsonb_to_recordset(p_doc->'cites') AS c(hash bytea, method text) LOOP
            SELECT x.id, v_cite.method INTO r.reply_to_email_id, r.reply_match_method
            FROM messages x
            WHERE x.tenant_id = p_tenant AND x.mailbox_id = p_mailbox AND x.rfc_id_hash = v_cite.hash
            ORDER BY x.direction = 'outbound' DESC, x.received_at, x.id LIMIT 1;
            EXIT WHEN FOUND;
        END LOOP;
    END IF;

    -- The thread's row is the lock. A thread that was merged meanwhile is gone: then its successor is looked up.
    FOR attempt IN 1..10 LOOP
        IF r.reply_to_email_id IS NOT NULL THEN
            SELECT x.thread_id INTO v_thread FROM messages x WHERE x.tenant_id = p_tenant AND x.id = r.reply_to_email_id;
        ELSE
            -- A mail that cites the same absent message is in this conversation too, though it answers nothing we hold.
            SELECT t.thread_id INTO v_thread FROM thread_ids t
            WHERE t.tenant_id = p_tenant AND t.mailbox_id = p_mailbox AND t.id_hash = ANY (r.cited_hashes)
              AND t.thread_id <> p_thread
            ORDER BY array_position(r.cited_hashes, t.id_hash) LIMIT 1;
        END IF;
        EXIT WHEN v_thread IS NULL;
        UPDATE threads SET message_count = message_count + 1, is_read = false,
                           last_message_at = greatest(last_message_at, r.received_at)
        WHERE tenant_id = p_tenant AND id = v_thread;
        EXIT WHEN FOUND;
        v_thread := NULL;
    END LOOP;
    IF v_thread IS NULL THEN
        v_thread := p_thread;
        INSERT INTO threads (tenant_id, id, mailbox_id, subject, message_count, root_message_id, last_message_at)
        VALUES (p_tenant, p_thread, p_mailbox, r.subject, 1, p_message, r.received_at);
    END IF;
    IF v_thread <> v_hint THEN
        UPDATE thread_ids t SET thread_id = v_thread
        WHERE t.tenant_id = p_tenant AND t.mailbox_id = p_mailbox AND t.thread_id = v_hint
          AND (t.id_hash = r.rfc_id_hash OR t.id_hash = ANY (r.cited_hashes));
    END IF;

    r.thread_id := v_thread;
    r.reply_match_status := CASE WHEN r.reply_to_email_id IS NULL THEN 'unmatched' ELSE 'matched' END;
    INSERT INTO messages SELECT r.*;

    IF uuid_send(p_mailbox) || r.rfc_id_hash <> ALL (p_fresh) THEN
        SELECT t.thread_id INTO v_held FROM thread_ids t
        WHERE t.tenant_id = p_tenant AND t.mailbox_id = p_mailbox AND t.id_hash = r.rfc_id_hash;
        PERFORM adopt_orphans(p_tenant, p_mailbox, v_held, v_thread, p_message, r.rfc_id_hash);
    END IF;
    RETURN r.reply_to_email_id IS NOT NULL;
END $$;

-- Late join: what waited for the message that has now come (p_parent, in thread p_into) is matched to it.
--
-- A thread that begins with what waited for it moves whole. Of any other thread only the waiting messages move: else a stranger
-- who cites two conversations could glue them together. Never does the parent move to the orphans.
CREATE FUNCTION adopt_orphans(p_tenant uuid, p_mailbox uuid, p_from uuid, p_into uuid, p_parent uuid, p_hash bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_whole boolean;
    v_moved integer;
    v_last timestamptz;
BEGIN
    -- Where another message bears the same id, the oldest is the parent, and that is not this one.
    PERFORM FROM messages o
    WHERE o.tenant_id = p_tenant AND o.mailbox_id = p_mailbox AND o.rfc_id_hash = p_hash AND o.id <> p_parent;
    IF FOUND THEN
        RETURN;
    END IF;
    IF p_from <> p_into THEN
        -- What the thread's first message answers, and that one, up to a message which answers nothing we hold.
        WITH RECURSIVE up (id, parent, cited, depth) AS (
            SELECT m.id, m.reply_to_email_id, m.cited_hashes, 1
            FROM threads t JOIN messages m ON m.tenant_id = p_tenant AND m.id = t.root_message_id
            WHERE t.tenant_id = p_tenant AND t.id = p_from AND t.mailbox_id = p_mailbox
            UNION ALL
            SELECT m.id, m.reply_to_email_id, m.cited_hashes, up.depth + 1
            FROM up JOIN messages m ON m.tenant_id = p_tenant AND m.id = up.parent
            WHERE up.depth < 1000
        )
        SELECT up.parent IS NULL AND p_hash = ANY (up.cited) INTO v_whole FROM up ORDER BY up.depth DESC LIMIT 1;
        IF v_whole THEN
            DELETE FROM threads WHERE tenant_id = p_tenant AND id = p_from;
        END IF;
        WITH moved AS (
            UPDATE messages SET thread_id = p_into
            WHERE tenant_id = p_tenant AND thread_id = p_from
              AND (v_whole OR (reply_match_status = 'unmatched' AND p_hash = ANY (cited_hashes)))
            RETURNING rfc_id_hash, received_at
        ), named AS (
            UPDATE thread_ids SET thread_id = p_into
            WHERE tenant_id = p_tenant AND mailbox_id = p_mailbox AND thread_id = p_from
              AND (v_whole OR id_hash = p_hash OR id_hash IN (SELECT rfc_id_hash FROM moved))
        )
        SELECT count(*), max(received_at) INTO v_moved, v_last FROM moved;
        UPDATE threads SET message_count = message_count + v_moved, last_message_at = greatest(last_message_at, v_last)
        WHERE tenant_id = p_tenant AND id = p_into;
        UPDATE threads SET message_count = message_count - v_moved WHERE tenant_id = p_tenant AND id = p_from;
    END IF;
    -- Those that answer an older message only because this one was missing answer this one from now on.
    UPDATE messages m SET reply_match_status = 'matched', reply_match_method = 'late_join', reply_to_email_id = p_parent,
                          decision = m.decision || jsonb_build_object('late_join', p_parent)
    WHERE m.tenant_id = p_tenant AND m.mailbox_id = p_mailbox AND m.thread_id = p_into AND m.id <> p_parent
      AND m.direction = 'inbound' AND p_hash = ANY (m.cited_hashes)
      AND (m.reply_match_method IS NULL
           OR (m.reply_match_method IN ('references', 'late_join')
               AND array_position(m.cited_hashes, p_hash) < (
                   SELECT array_position(m.cited_hashes, o.rfc_id_hash) FROM messages o
                   WHERE o.tenant_id = p_tenant AND o.id = m.reply_to_email_id)));
END $$;
