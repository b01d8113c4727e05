-- Conversations that we began: outbound messages with their reply tokens, who takes part, and who may register them.

ALTER TABLE messages
    -- Of an outbound message: the domain that its token is signed for, and until when replies to the token count.
    ADD COLUMN reply_domain text,
    ADD COLUMN token_expires_at timestamptz,
    ADD COLUMN idempotency_key text,
    -- The Message-ID that a provider put in the place of ours; replies may cite either.
    ADD COLUMN sent_message_id text,
    ADD COLUMN sent_id_hash bytea;
CREATE UNIQUE INDEX messages_idempotency ON messages (tenant_id, mailbox_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX messages_sent_id ON messages (tenant_id, mailbox_id, sent_id_hash) WHERE sent_id_hash IS NOT NULL;

-- Whether the conversation holds a message of ours: only such a one opens a thread-only mailbox.
ALTER TABLE threads ADD COLUMN has_outbound boolean NOT NULL DEFAULT false;

-- Who takes part: whom we wrote to, and verified senders. By hash: an address may be too long for a btree.
CREATE TABLE participants (
    tenant_id   uuid NOT NULL,
    thread_id   uuid NOT NULL,
    address_hash bytea NOT NULL,
    address     text NOT NULL,
    role        text NOT NULL CHECK (role IN ('recipient', 'sender')),
    contact_id  uuid,
    added_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, address_hash)
);

-- What one transaction's recipients must share: the mail is answered once for all of them.
CREATE FUNCTION mailbox_policy(m mailboxes) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT concat_ws(' ', m.auth_policy, CASE WHEN m.require_alignment THEN 'aligned' END,
                     CASE WHEN NOT m.accept_forwarded THEN 'direct' END,
                     CASE WHEN NOT m.accepts_cold_inbound THEN 'thread-only' END)
$$;

CREATE INDEX participants_contact ON participants (tenant_id, contact_id) WHERE contact_id IS NOT NULL;

-- Refusals are looked for by tenant and time: why was a mail not taken?
CREATE INDEX refusals_tenant ON refusals (tenant_id, minute);

-- Mails and bytes a day (UTC); NULL is no limit. A share of it, in percent, is left to mail that joins a conversation.
ALTER TABLE tenants
    ADD COLUMN quota_mails bigint CHECK (quota_mails >= 0),
    ADD COLUMN quota_bytes bigint CHECK (quota_bytes >= 0),
    ADD COLUMN quota_matched_share smallint NOT NULL DEFAULT 0 CHECK (quota_matched_share BETWEEN 0 AND 100);
ALTER TABLE mailboxes
    ADD COLUMN quota_mails bigint CHECK (quota_mails >= 0),
    ADD COLUMN quota_bytes bigint CHECK (quota_bytes >= 0),
    ADD COLUMN quota_matched_share smallint NOT NULL DEFAULT 0 CHECK (quota_matched_share BETWEEN 0 AND 100);

-- Only what has a quota is counted: a tenant's row is written by all its mails. The nil mailbox stands for the tenant.
CREATE TABLE quota_usage (
    tenant_id   uuid NOT NULL,
    mailbox_id  uuid NOT NULL,
    day         date NOT NULL,
    mails       bigint NOT NULL,
    bytes       bigint NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, day)
);

-- A key is shown once, when it is made; only its hash is kept.
CREATE TABLE api_keys (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    name        text NOT NULL,
    hash        bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    last_used_at timestamptz
);

-- The messages that bear a Message-ID, as we made it or as a provider sent it: ours first, those whose sender failed
-- DMARC last (else whoever sends an id first has all that cite it), and then the oldest.
CREATE FUNCTION bearers(p_tenant uuid, p_mailbox uuid, p_hash bytea)
RETURNS TABLE (id uuid, thread_id uuid, failed boolean, ours boolean) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT x.id, x.thread_id, x.failed, x.direction = 'outbound' FROM (
        SELECT y.id, y.thread_id, y.direction, y.received_at, y.dmarc = 'fail' AS failed FROM messages y
        WHERE y.tenant_id = p_tenant AND y.mailbox_id = p_mailbox AND y.rfc_id_hash = p_hash
        UNION
        SELECT y.id, y.thread_id, y.direction, y.received_at, y.dmarc = 'fail' FROM messages y
        WHERE y.tenant_id = p_tenant AND y.mailbox_id = p_mailbox AND y.sent_id_hash = p_hash
    ) x
    ORDER BY x.direction = 'outbound' DESC, x.failed, x.received_at, x.id
$$;

-- As before, but: threads that are named outright (a token's, that of a message of ours) are taken together with those of
-- the ids. Taken after them they would be out of order: two batches with a token each for what the other cites wait for
-- each other.
CREATE OR REPLACE FUNCTION take_threads(p_tenant uuid, p_new uuid[], p_messages uuid[], p_mailboxes uuid[], p_hashes bytea[],
                                        p_threads uuid[])
RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
    v_fresh bytea[];
BEGIN
    PERFORM lock_threads(p_tenant, p_mailboxes, p_hashes, p_threads);
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
    PERFORM lock_threads(p_tenant, p_mailboxes, p_hashes, p_threads);
    RETURN coalesce(v_fresh, '{}');
END $$;

DROP FUNCTION lock_threads(uuid, uuid[], bytea[]);
CREATE FUNCTION lock_threads(p_tenant uuid, p_mailboxes uuid[], p_hashes bytea[], p_threads uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- One look-up by key for each, and an array: plans from when the tables were empty would go through all ids and all
    -- threads of the tenant.
    v_ids uuid[] := p_threads || ARRAY(
        SELECT k.thread_id
        FROM unnest(p_mailboxes, p_hashes) AS u(mailbox_id, hash)
        CROSS JOIN LATERAL (
            SELECT t.thread_id FROM thread_ids t
            WHERE t.tenant_id = p_tenant AND t.mailbox_id = u.mailbox_id AND t.id_hash = u.hash LIMIT 1) k);
BEGIN
    PERFORM FROM threads h WHERE h.tenant_id = p_tenant AND h.id = ANY (v_ids) ORDER BY h.id FOR UPDATE;
END $$;

-- As before, but: an answered message may bear the id that its provider gave it, and a verified sender takes part.
CREATE OR REPLACE FUNCTION store_message(p_tenant uuid, p_mailbox uuid, p_message uuid, p_thread uuid, p_doc jsonb, p_fresh bytea[])
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
            FROM bearers(p_tenant, p_mailbox, v_cite.hash) x LIMIT 1;
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
    IF p_doc->>'answered_status' IS NOT NULL THEN
        UPDATE messages SET status = p_doc->>'answered_status'
        WHERE tenant_id = p_tenant AND id = r.reply_to_email_id AND direction = 'outbound';
    END IF;
    IF r.sender_verified AND r.from_address IS NOT NULL AND p_doc ? 'from_hash' THEN
        INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)
        VALUES (p_tenant, v_thread, (p_doc->>'from_hash')::bytea, lower(r.from_address), 'sender', r.contact_id, r.received_at)
        ON CONFLICT DO NOTHING;
    END IF;

    -- A forged mail may bear the very id that others wait for: it adopts nobody.
    IF coalesce((p_doc->>'adopts')::boolean, true) AND uuid_send(p_mailbox) || r.rfc_id_hash <> ALL (p_fresh) THEN
        SELECT t.thread_id INTO v_held FROM thread_ids t
        WHERE t.tenant_id = p_tenant AND t.mailbox_id = p_mailbox AND t.id_hash = r.rfc_id_hash;
        PERFORM adopt_orphans(p_tenant, p_mailbox, v_held, v_thread, p_message, r.rfc_id_hash);
    END IF;
    RETURN r.reply_to_email_id IS NOT NULL;
END $$;

-- One thread becomes part of another: who took part goes with it, and what nobody has read stays unread.
CREATE FUNCTION absorb_thread(p_tenant uuid, p_from uuid, p_into uuid)
RETURNS void LANGUAGE sql AS $$
    UPDATE threads h SET has_outbound = h.has_outbound OR f.has_outbound, is_read = h.is_read AND f.is_read
    FROM threads f
    WHERE h.tenant_id = p_tenant AND h.id = p_into AND f.tenant_id = p_tenant AND f.id = p_from;
    INSERT INTO participants SELECT p_tenant, p_into, address_hash, address, role, contact_id, added_at
    FROM participants WHERE tenant_id = p_tenant AND thread_id = p_from ON CONFLICT DO NOTHING;
    DELETE FROM participants WHERE tenant_id = p_tenant AND thread_id = p_from;
    DELETE FROM threads WHERE tenant_id = p_tenant AND id = p_from;
$$;

-- As before, but: ids of providers count, and what a thread that moves knows goes with it.
CREATE OR REPLACE FUNCTION adopt_orphans(p_tenant uuid, p_mailbox uuid, p_from uuid, p_into uuid, p_parent uuid, p_hash bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_whole boolean;
    v_moved integer;
    v_last timestamptz;
    v_ours boolean;
    v_bearer uuid;
    v_sent_by_us boolean;
    v_squatters uuid[] := '{}';
BEGIN
    SELECT o.id, o.ours INTO v_bearer, v_sent_by_us FROM bearers(p_tenant, p_mailbox, p_hash) o LIMIT 1;
    IF v_bearer <> p_parent THEN
        RETURN;
    END IF;
    -- Strangers who sent the id of a message of ours before it was known here have not been answered: ours was.
    IF v_sent_by_us THEN
        v_squatters := ARRAY(SELECT b.id FROM bearers(p_tenant, p_mailbox, p_hash) b WHERE NOT b.ours);
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
            PERFORM absorb_thread(p_tenant, p_from, p_into);
        END IF;
        WITH moved AS (
            UPDATE messages SET thread_id = p_into
            WHERE tenant_id = p_tenant AND thread_id = p_from
              AND (v_whole OR reply_to_email_id = ANY (v_squatters)
                   OR (reply_match_status = 'unmatched' AND p_hash = ANY (cited_hashes)))
            RETURNING rfc_id_hash, received_at, direction
        ), named AS (
            UPDATE thread_ids SET thread_id = p_into
            WHERE tenant_id = p_tenant AND mailbox_id = p_mailbox AND thread_id = p_from
              AND (v_whole OR id_hash = p_hash OR id_hash IN (SELECT rfc_id_hash FROM moved))
        )
        SELECT count(*), max(received_at), coalesce(bool_or(direction = 'outbound'), false)
        INTO v_moved, v_last, v_ours FROM moved;
        UPDATE threads h
        SET message_count = h.message_count + v_moved, last_message_at = greatest(h.last_message_at, v_last),
            has_outbound = h.has_outbound OR v_ours,
            is_read = h.is_read AND (v_moved = 0 OR coalesce((
                SELECT f.is_read FROM threads f WHERE f.tenant_id = p_tenant AND f.id = p_from), true))
        WHERE h.tenant_id = p_tenant AND h.id = p_into;
        UPDATE threads SET message_count = message_count - v_moved WHERE tenant_id = p_tenant AND id = p_from;
    END IF;
    -- Those that answer an older message only because this one was missing answer this one from now on.
    UPDATE messages m SET reply_match_status = 'matched', reply_match_method = 'late_join', reply_to_email_id = p_parent,
                          decision = m.decision || jsonb_build_object('late_join', p_parent)
    WHERE m.tenant_id = p_tenant AND m.mailbox_id = p_mailbox AND m.thread_id = p_into AND m.id <> p_parent
      AND m.direction = 'inbound' AND p_hash = ANY (m.cited_hashes)
      AND (m.reply_match_method IS NULL OR m.reply_to_email_id = ANY (v_squatters)
           OR (m.reply_match_method IN ('references', 'late_join')
               AND array_position(m.cited_hashes, p_hash) < (
                   SELECT array_position(m.cited_hashes, o.rfc_id_hash) FROM messages o
                   WHERE o.tenant_id = p_tenant AND o.id = m.reply_to_email_id)));
END $$;

-- Write one message of ours: its contacts, its thread, itself, and what waited for it. Gives its thread.
--
-- p_doc as for store_message, with `to`: [{id, address, hash}] for those it is written to. A thread that is named is
-- entered through the message that is answered (reply_to_email_id); its row is locked first, as the mails do it.
CREATE FUNCTION store_outbound(p_tenant uuid, p_mailbox uuid, p_message uuid, p_thread uuid, p_doc jsonb)
RETURNS uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    v_hashes bytea[] := ARRAY[(p_doc->>'rfc_id_hash')::bytea]
        || ARRAY(SELECT c.hash FROM jsonb_to_recordset(p_doc->'cites') AS c(hash bytea));
    v_many integer := cardinality(v_hashes);
    v_fresh bytea[];
    v_thread uuid;
BEGIN
    v_fresh := take_threads(p_tenant, ARRAY[p_message], array_fill(p_message, ARRAY[v_many]),
                            array_fill(p_mailbox, ARRAY[v_many]), v_hashes,
                            array_fill(coalesce((p_doc->>'thread_id')::uuid, p_thread), ARRAY[v_many]));
    INSERT INTO contacts (tenant_id, id, address, address_hash, created_at)
    SELECT p_tenant, t.id, t.address, t.hash, (p_doc->>'received_at')::timestamptz
    FROM jsonb_to_recordset(p_doc->'to') AS t(id uuid, address text, hash bytea) ORDER BY t.hash
    ON CONFLICT DO NOTHING;
    PERFORM store_message(p_tenant, p_mailbox, p_message, p_thread, p_doc, v_fresh);
    -- Who writes has read what is there; but not the answers that came before the message was registered.
    UPDATE threads h SET has_outbound = true, is_read = NOT EXISTS (
        SELECT FROM messages a
        WHERE a.tenant_id = p_tenant AND a.thread_id = m.thread_id AND a.reply_to_email_id = p_message)
    FROM messages m
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND h.tenant_id = p_tenant AND h.id = m.thread_id
    RETURNING h.id INTO v_thread;
    INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)
    SELECT p_tenant, v_thread, t.hash, t.address, 'recipient', c.id, (p_doc->>'received_at')::timestamptz
    FROM jsonb_to_recordset(p_doc->'to') AS t(id uuid, address text, hash bytea)
    LEFT JOIN contacts c ON c.tenant_id = p_tenant AND c.address_hash = t.hash
    ON CONFLICT (tenant_id, thread_id, address_hash) DO UPDATE SET role = 'recipient';
    RETURN v_thread;
END $$;

-- Note what a provider made of a message of ours, and match what answered it by that name before we knew it.
CREATE FUNCTION record_sent(p_tenant uuid, p_message uuid, p_provider_id text, p_rfc_id text, p_hash bytea, p_at timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_mailbox uuid;
    v_thread uuid;
    v_held uuid;
BEGIN
    SELECT m.mailbox_id, m.thread_id INTO v_mailbox, v_thread FROM messages m
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND m.direction = 'outbound';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_hash IS NOT NULL THEN
        PERFORM take_threads(p_tenant, ARRAY[p_message], ARRAY[p_message], ARRAY[v_mailbox], ARRAY[p_hash], ARRAY[v_thread]);
    END IF;
    -- A bounce may be faster than the application: what it said stays.
    UPDATE messages SET status = CASE WHEN status = 'registered' THEN 'sent' ELSE status END,
                        sent_at = coalesce(sent_at, p_at),
                        provider_message_id = coalesce(p_provider_id, provider_message_id),
                        sent_message_id = coalesce(p_rfc_id, sent_message_id), sent_id_hash = coalesce(p_hash, sent_id_hash)
    WHERE tenant_id = p_tenant AND id = p_message
    RETURNING thread_id INTO v_thread;
    IF p_hash IS NOT NULL THEN
        SELECT t.thread_id INTO v_held FROM thread_ids t
        WHERE t.tenant_id = p_tenant AND t.mailbox_id = v_mailbox AND t.id_hash = p_hash;
        PERFORM adopt_orphans(p_tenant, v_mailbox, v_held, v_thread, p_message, p_hash);
    END IF;
    RETURN true;
END $$;

-- Write a batch as store_mails does, and count what is new against the quotas, last of all and in key order.
CREATE FUNCTION store_batch(p_tenant uuid, p_mails jsonb, p_raws bytea[],
                            p_claim_messages uuid[], p_claim_keys bytea[], p_claim_since timestamptz[],
                            p_claim_until timestamptz[],
                            p_mention_messages uuid[], p_mention_mailboxes uuid[], p_mention_hashes bytea[],
                            p_mention_threads uuid[], p_roots bigint[])
RETURNS TABLE (mail integer, mailbox uuid, message uuid, duplicate boolean, matched boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_mailboxes uuid[] := '{}';
    v_mails integer[] := '{}';
BEGIN
    FOR mail, mailbox, message, duplicate, matched IN
        SELECT s.mail, s.mailbox, s.message, s.duplicate, s.matched
        FROM store_mails(p_tenant, p_mails, p_raws, p_claim_messages, p_claim_keys, p_claim_since, p_claim_until,
                         p_mention_messages, p_mention_mailboxes, p_mention_hashes, p_mention_threads, p_roots) s
    LOOP
        IF NOT duplicate THEN
            v_mailboxes := v_mailboxes || mailbox;
            v_mails := v_mails || mail;
        END IF;
        RETURN NEXT;
    END LOOP;
    INSERT INTO quota_usage AS u (tenant_id, mailbox_id, day, mails, bytes)
    SELECT p_tenant, c.mailbox_id, c.day, count(*), sum(c.size)
    FROM (
        SELECT v.mailbox_id, d.day, d.size
        FROM unnest(v_mailboxes, v_mails) AS v(mailbox_id, n), LATERAL (
            SELECT (p_mails->v.n->>'raw_size')::bigint AS size,
                   ((p_mails->v.n->'receipt'->>'received_at')::timestamptz AT TIME ZONE 'UTC')::date AS day) d
        WHERE EXISTS (SELECT FROM mailboxes m WHERE m.tenant_id = p_tenant AND m.id = v.mailbox_id
                      AND (m.quota_mails IS NOT NULL OR m.quota_bytes IS NOT NULL))
        UNION ALL
        SELECT '00000000-0000-0000-0000-000000000000', d.day, d.size
        FROM unnest(v_mails) AS v(n), LATERAL (
            SELECT (p_mails->v.n->>'raw_size')::bigint AS size,
                   ((p_mails->v.n->'receipt'->>'received_at')::timestamptz AT TIME ZONE 'UTC')::date AS day) d
        WHERE EXISTS (SELECT FROM tenants t WHERE t.id = p_tenant
                      AND (t.quota_mails IS NOT NULL OR t.quota_bytes IS NOT NULL))
    ) c
    GROUP BY c.mailbox_id, c.day
    ORDER BY c.mailbox_id, c.day
    ON CONFLICT (tenant_id, mailbox_id, day) DO UPDATE SET mails = u.mails + excluded.mails, bytes = u.bytes + excluded.bytes;
END $$;

-- Match a stored message that was unmatched, by hand of an operator. Its thread moves whole when it began it, else it
-- moves alone. False when it is matched already, or one of the two is gone.
CREATE FUNCTION rematch_message(p_tenant uuid, p_message uuid, p_parent uuid, p_method text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_from uuid;
    v_into uuid;
    v_whole boolean;
    v_moved integer;
    v_last timestamptz;
BEGIN
    SELECT m.thread_id, o.thread_id INTO v_from, v_into FROM messages m, messages o
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND m.reply_match_status = 'unmatched'
      AND o.tenant_id = p_tenant AND o.id = p_parent AND o.mailbox_id = m.mailbox_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM threads h WHERE h.tenant_id = p_tenant AND h.id IN (v_from, v_into) ORDER BY h.id FOR UPDATE;
    -- Either may have moved while this waited for the locks; then the next run does it.
    PERFORM FROM messages m, messages o
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND m.thread_id = v_from AND m.reply_match_status = 'unmatched'
      AND o.tenant_id = p_tenant AND o.id = p_parent AND o.thread_id = v_into;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE messages SET reply_match_status = 'matched', reply_match_method = p_method, reply_to_email_id = p_parent,
                        decision = decision || jsonb_build_object('rematch', p_parent)
    WHERE tenant_id = p_tenant AND id = p_message;
    IF v_from = v_into THEN
        RETURN true;
    END IF;
    SELECT t.root_message_id = p_message INTO v_whole FROM threads t WHERE t.tenant_id = p_tenant AND t.id = v_from;
    WITH moved AS (
        UPDATE messages SET thread_id = v_into
        WHERE tenant_id = p_tenant AND thread_id = v_from AND (v_whole OR id = p_message)
        RETURNING rfc_id_hash, received_at
    ), named AS (
        UPDATE thread_ids SET thread_id = v_into
        WHERE tenant_id = p_tenant AND thread_id = v_from AND (v_whole OR id_hash IN (SELECT rfc_id_hash FROM moved))
    )
    SELECT count(*), max(received_at) INTO v_moved, v_last FROM moved;
    UPDATE threads SET message_count = message_count + v_moved, last_message_at = greatest(last_message_at, v_last)
    WHERE tenant_id = p_tenant AND id = v_into;
    IF v_whole THEN
        PERFORM absorb_thread(p_tenant, v_from, v_into);
    ELSE
        UPDATE threads h SET is_read = h.is_read AND f.is_read FROM threads f
        WHERE h.tenant_id = p_tenant AND h.id = v_into AND f.tenant_id = p_tenant AND f.id = v_from;
        UPDATE threads SET message_count = message_count - v_moved WHERE tenant_id = p_tenant AND id = v_from;
    END IF;
    RETURN true;
END $$;

-- Bring home a message that lies where false tokens are kept: its token is true after all. It moves alone, into the
-- mailbox and the thread of the message that it answers. False when somebody was faster, or one of the two is gone.
CREATE FUNCTION rehome_message(p_tenant uuid, p_message uuid, p_parent uuid, p_claims bytea[], p_until timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    r messages;
    o messages;
    v_left integer;
BEGIN
    -- In the order of all writers: claims, then threads by id. A retry of the same mail must find it in its new place.
    INSERT INTO claims (tenant_id, key, message_id, created_at, expires_at)
    SELECT p_tenant, k.key, p_message, now(), p_until FROM unnest(p_claims) AS k(key) ORDER BY k.key ON CONFLICT DO NOTHING;
    PERFORM FROM threads h
    WHERE h.tenant_id = p_tenant AND h.id IN (
        SELECT m.thread_id FROM messages m WHERE m.tenant_id = p_tenant AND m.id IN (p_message, p_parent))
    ORDER BY h.id FOR UPDATE;
    SELECT m.* INTO r FROM messages m
    JOIN mailboxes b ON b.tenant_id = p_tenant AND b.id = m.mailbox_id AND b.system = 'reply'
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND m.reply_match_status = 'unmatched';
    SELECT m.* INTO o FROM messages m WHERE m.tenant_id = p_tenant AND m.id = p_parent AND m.direction = 'outbound';
    IF r.id IS NULL OR o.id IS NULL THEN
        RETURN false;
    END IF;
    UPDATE messages SET mailbox_id = o.mailbox_id, thread_id = o.thread_id, reply_match_status = 'matched',
                        reply_match_method = 'token_recipient', reply_to_email_id = p_parent,
                        decision = decision || jsonb_build_object('rematch', p_parent)
    WHERE tenant_id = p_tenant AND id = p_message;
    UPDATE threads SET message_count = message_count - 1 WHERE tenant_id = p_tenant AND id = r.thread_id
    RETURNING message_count INTO v_left;
    IF v_left = 0 THEN
        DELETE FROM participants WHERE tenant_id = p_tenant AND thread_id = r.thread_id;
        DELETE FROM thread_ids WHERE tenant_id = p_tenant AND mailbox_id = r.mailbox_id AND thread_id = r.thread_id;
        DELETE FROM threads WHERE tenant_id = p_tenant AND id = r.thread_id;
    END IF;
    INSERT INTO thread_ids (tenant_id, mailbox_id, id_hash, thread_id)
    VALUES (p_tenant, o.mailbox_id, r.rfc_id_hash, o.thread_id) ON CONFLICT DO NOTHING;
    UPDATE threads SET message_count = message_count + 1, is_read = false,
                       last_message_at = greatest(last_message_at, r.received_at)
    WHERE tenant_id = p_tenant AND id = o.thread_id;
    RETURN true;
END $$;
