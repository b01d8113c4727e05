-- no transaction
-- A batch of mails is written in few statements: table by table for the mails that have nothing to do with each other,
-- and one by one as before only where it matters who comes first.
--
-- A function in plpgsql keeps the plans of its statements for the life of a connection; one in plain SQL is parsed and
-- planned again at each call. Custom plans are planned at each call too: what is asked for here is always one row by key,
-- so that a plan for these very values is never a better one.

-- Whoever bears a Message-ID; as messages_rfc_id, but made anew, with a condition that every row meets. Where nothing is
-- known of the table yet, all indexes that begin with the tenant look equally good to the planner. It takes the smallest,
-- and of equals the newest one: this.
DROP INDEX CONCURRENTLY IF EXISTS messages_bearers;
-- next
CREATE INDEX CONCURRENTLY messages_bearers ON messages (tenant_id, mailbox_id, rfc_id_hash) WHERE rfc_id_hash IS NOT NULL;
-- next
DROP INDEX CONCURRENTLY IF EXISTS messages_rfc_id;
-- next
-- As before, but planned once.
CREATE OR REPLACE FUNCTION take_claims(p_tenant uuid, p_messages uuid[], p_keys bytea[], p_since timestamptz[],
                                       p_until timestamptz[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    v_keys bytea[];
    v_holders uuid[];
BEGIN
    WITH taken AS (
        INSERT INTO claims AS x (tenant_id, key, message_id, created_at, expires_at)
        SELECT DISTINCT ON (w.key) p_tenant, w.key, w.message_id, w.since, w.until
        FROM unnest(p_messages, p_keys, p_since, p_until) WITH ORDINALITY AS w(message_id, key, since, until, n)
        ORDER BY w.key, w.n
        ON CONFLICT (tenant_id, key) DO UPDATE
        SET message_id = excluded.message_id, dead_letter_id = NULL,
            created_at = excluded.created_at, expires_at = excluded.expires_at
        WHERE x.expires_at <= excluded.created_at
        RETURNING key, message_id
    )
    SELECT array_agg(key), array_agg(message_id) INTO v_keys, v_holders FROM taken;
    IF cardinality(v_keys) = cardinality(p_keys) THEN  -- every claim was free, and nobody in the batch has another's
        RETURN p_messages;
    END IF;
    RETURN ARRAY(
        SELECT w.message_id FROM unnest(p_messages, p_keys) AS w(message_id, key)
        LEFT JOIN unnest(v_keys, v_holders) AS t(key, message_id) USING (key)
        GROUP BY w.message_id HAVING bool_and(t.message_id IS NOT DISTINCT FROM w.message_id));
END $$;

-- The threads that ids belong to. One look-up by key for each: plans from when the tables were empty would go through all
-- ids of the mailbox.
CREATE OR REPLACE FUNCTION threads_of_ids(p_tenant uuid, p_mailboxes uuid[], p_hashes bytea[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT k.thread_id
        FROM unnest(p_mailboxes, p_hashes) AS u(mailbox_id, hash)
        CROSS JOIN LATERAL (
            SELECT t.thread_id FROM thread_ids t
            WHERE t.tenant_id = p_tenant AND t.mailbox_id = u.mailbox_id AND t.id_hash = u.hash LIMIT 1) k);
END $$;

-- As before, but: threads are locked a second time only where there are others than the first time.
CREATE OR REPLACE FUNCTION take_threads(p_tenant uuid, p_new uuid[], p_messages uuid[], p_mailboxes uuid[], p_hashes bytea[],
                                        p_threads uuid[])
RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
    v_fresh bytea[];
    v_threads uuid[] := p_threads || threads_of_ids(p_tenant, p_mailboxes, p_hashes);
    v_now uuid[];
BEGIN
    PERFORM FROM threads h WHERE h.tenant_id = p_tenant AND h.id = ANY (v_threads) ORDER BY h.id FOR UPDATE;
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
    SELECT array_agg(uuid_send(a.mailbox_id) || a.id_hash) INTO v_fresh FROM added a
    WHERE uuid_send(a.mailbox_id) || a.id_hash <> ALL (
        ARRAY(SELECT uuid_send(x.mailbox_id) || x.hash FROM mentioned x WHERE x.times > 1));
    v_now := threads_of_ids(p_tenant, p_mailboxes, p_hashes);
    IF NOT v_now <@ v_threads THEN
        PERFORM FROM threads h WHERE h.tenant_id = p_tenant AND h.id = ANY (v_now) ORDER BY h.id FOR UPDATE;
    END IF;
    RETURN coalesce(v_fresh, '{}');
END $$;

-- As before, but not sorted twice: a message that bears an id in both ways may come twice.
CREATE OR REPLACE FUNCTION bearers(p_tenant uuid, p_mailbox uuid, p_hash bytea)
RETURNS TABLE (id uuid, thread_id uuid, failed boolean, ours boolean) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT x.id, x.thread_id, x.failed, x.direction = 'outbound' FROM (
        SELECT y.id, y.thread_id, y.direction, y.received_at, y.dmarc = 'fail' AS failed FROM messages y
        WHERE y.tenant_id = p_tenant AND y.mailbox_id = p_mailbox AND y.rfc_id_hash = p_hash
        UNION ALL
        SELECT y.id, y.thread_id, y.direction, y.received_at, y.dmarc = 'fail' FROM messages y
        WHERE y.tenant_id = p_tenant AND y.mailbox_id = p_mailbox AND y.sent_id_hash = p_hash
    ) x
    ORDER BY x.direction = 'outbound' DESC, x.failed, x.received_at, x.id
$$;

-- What many deliveries must know before they are decided, each within its tenant and mailbox; see store/finding.py. The
-- first four arrays are the deliveries, the others come in pairs: what is asked for, and the place of who asks.
CREATE OR REPLACE FUNCTION find_for_deliveries(p_tenants uuid[], p_mailboxes uuid[], p_senders bytea[], p_days date[],
                                    p_hash_of integer[], p_hashes bytea[], p_pattern_of integer[], p_patterns text[],
                                    p_name_of integer[], p_names text[], p_token_of integer[], p_tokens uuid[])
RETURNS TABLE (n integer, what text, hash bytea, id uuid, thread_id uuid, mailbox_id uuid, kind text, name text,
               mailbox_only boolean, networks cidr[], expected boolean, has_outbound boolean, expires_at timestamptz,
               tenant_active boolean, mailbox_active boolean, domain_verified boolean, suspended_since timestamptz,
               accepts_cold_inbound boolean, strict_senders boolean, auth_policy text, require_alignment boolean,
               accept_forwarded boolean, sender_mode text, tenant_quota bigint[], mailbox_quota bigint[])
LANGUAGE plpgsql STABLE
-- Each look-up is one row by key. LATERAL with a limit or OFFSET 0 makes it so, whatever the planner thinks of an array.
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_material = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT q.n::integer - 1, 'standing', NULL::bytea, m.id, NULL::uuid, m.id, NULL::text, t.slug, false, NULL::cidr[],
               false, false, NULL::timestamptz, t.status = 'active', m.status = 'active',
               m.domain = '' OR d.verified IS NOT NULL,
               CASE WHEN t.status = 'active' THEN m.status_since ELSE t.status_since END,
               m.accepts_cold_inbound, m.strict_senders, m.auth_policy, m.require_alignment, m.accept_forwarded,
               CASE WHEN m.system IS NULL AND 'allowlist' IN (t.sender_mode, m.sender_mode) THEN 'allowlist' ELSE 'none' END,
               ARRAY[t.quota_mails, t.quota_bytes, t.quota_matched_share, ut.mails, ut.bytes],
               ARRAY[m.quota_mails, m.quota_bytes, m.quota_matched_share, um.mails, um.bytes]
        FROM unnest(p_tenants, p_mailboxes, p_days) WITH ORDINALITY AS q(tenant_id, mailbox_id, day, n)
        CROSS JOIN LATERAL (
            SELECT * FROM mailboxes m WHERE m.tenant_id = q.tenant_id AND m.id = q.mailbox_id LIMIT 1) m
        CROSS JOIN LATERAL (SELECT * FROM tenants t WHERE t.id = q.tenant_id LIMIT 1) t
        LEFT JOIN LATERAL (
            SELECT true AS verified FROM domains d
            WHERE d.tenant_id = q.tenant_id AND d.name = m.domain AND d.status = 'verified' LIMIT 1) d ON true
        LEFT JOIN LATERAL (
            SELECT u.mails, u.bytes FROM quota_usage u
            WHERE u.tenant_id = q.tenant_id AND u.day = q.day AND u.mailbox_id = '00000000-0000-0000-0000-000000000000'
              AND (t.quota_mails IS NOT NULL OR t.quota_bytes IS NOT NULL) LIMIT 1) ut ON true
        LEFT JOIN LATERAL (
            SELECT u.mails, u.bytes FROM quota_usage u
            WHERE u.tenant_id = q.tenant_id AND u.day = q.day AND u.mailbox_id = q.mailbox_id
              AND (m.quota_mails IS NOT NULL OR m.quota_bytes IS NOT NULL) LIMIT 1) um ON true;
    IF cardinality(p_hashes) > 0 THEN
        RETURN QUERY
            SELECT c.n, 'candidate', c.hash, x.id, x.thread_id, p_mailboxes[c.n + 1], NULL::text, NULL::text, false,
                   NULL::cidr[], p.known IS NOT NULL, coalesce(h.has_outbound, false), NULL::timestamptz, NULL::boolean, NULL::boolean,
                   NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::text, NULL::boolean, NULL::boolean,
                   NULL::text, NULL::bigint[], NULL::bigint[]
            FROM unnest(p_hash_of, p_hashes) AS c(n, hash)
            CROSS JOIN LATERAL (
                SELECT b.id, b.thread_id FROM bearers(p_tenants[c.n + 1], p_mailboxes[c.n + 1], c.hash) b LIMIT 1) x
            LEFT JOIN LATERAL (
                SELECT h.has_outbound FROM threads h
                WHERE h.tenant_id = p_tenants[c.n + 1] AND h.id = x.thread_id LIMIT 1) h ON true
            LEFT JOIN LATERAL (
                SELECT true AS known FROM participants p
                WHERE p.tenant_id = p_tenants[c.n + 1] AND p.thread_id = x.thread_id
                  AND p.address_hash = p_senders[c.n + 1] LIMIT 1) p ON true;
    END IF;
    IF cardinality(p_patterns) > 0 THEN
        RETURN QUERY
            SELECT c.n, 'rule', NULL::bytea, NULL::uuid, NULL::uuid, NULL::uuid, x.action, c.pattern, x.mailbox_only,
                   NULL::cidr[], NULL::boolean, NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean,
                   NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::text, NULL::boolean, NULL::boolean,
                   NULL::text, NULL::bigint[], NULL::bigint[]
            FROM unnest(p_pattern_of, p_patterns) AS c(n, pattern)
            CROSS JOIN LATERAL (
                SELECT s.action, s.mailbox_id = p_mailboxes[c.n + 1] AS mailbox_only FROM sender_rules s
                WHERE s.tenant_id = p_tenants[c.n + 1] AND s.pattern = c.pattern
                  AND s.mailbox_id IN (p_mailboxes[c.n + 1], '00000000-0000-0000-0000-000000000000') OFFSET 0) x;
    END IF;
    IF cardinality(p_names) > 0 THEN
        RETURN QUERY
            SELECT c.n, 'forwarder', NULL::bytea, NULL::uuid, NULL::uuid, NULL::uuid, x.kind, c.name, false, x.networks,
                   NULL::boolean, NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean,
                   NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::text, NULL::boolean, NULL::boolean,
                   NULL::text, NULL::bigint[], NULL::bigint[]
            FROM unnest(p_name_of, p_names) AS c(n, name)
            CROSS JOIN LATERAL (
                SELECT f.kind, f.networks FROM forwarders f
                WHERE f.tenant_id IN (p_tenants[c.n + 1], '00000000-0000-0000-0000-000000000000') AND f.name = c.name
                OFFSET 0) x;
    END IF;
    IF cardinality(p_tokens) > 0 THEN
        RETURN QUERY
            SELECT c.n, 'outbound', NULL::bytea, x.id, x.thread_id, x.mailbox_id, NULL::text, x.reply_domain, false,
                   NULL::cidr[], p.known IS NOT NULL, coalesce(h.has_outbound, false), x.token_expires_at, NULL::boolean, NULL::boolean,
                   NULL::boolean, NULL::timestamptz, NULL::boolean, NULL::boolean, NULL::text, NULL::boolean, NULL::boolean,
                   NULL::text, NULL::bigint[], NULL::bigint[]
            FROM unnest(p_token_of, p_tokens) AS c(n, id)
            CROSS JOIN LATERAL (
                SELECT o.id, o.thread_id, o.mailbox_id, o.reply_domain, o.token_expires_at FROM messages o
                WHERE o.tenant_id = p_tenants[c.n + 1] AND o.id = c.id AND o.direction = 'outbound' LIMIT 1) x
            LEFT JOIN LATERAL (
                SELECT h.has_outbound FROM threads h
                WHERE h.tenant_id = p_tenants[c.n + 1] AND h.id = x.thread_id LIMIT 1) h ON true
            LEFT JOIN LATERAL (
                SELECT true AS known FROM participants p
                WHERE p.tenant_id = p_tenants[c.n + 1] AND p.thread_id = x.thread_id
                  AND p.address_hash = p_senders[c.n + 1] LIMIT 1) p ON true;
    END IF;
END $$;

-- Write the deliveries of several mails of one tenant. Gives a row for each: the message that holds it (or the dead letter),
-- whether it was there before (`duplicate`), whether this call wrote it (`fresh`), and on what evidence it is matched.
--
-- p_mails and p_deliveries are arrays in the shape that store/messages.py builds; a delivery names its mail by its place.
-- The raw bytes are not among them: as parameters of a function they would be copied several times. Who calls stores
-- them in the same statement, for the mails that are fresh.
--
-- The order of what is locked is that of store_mails, which daemons of an older version call: claims, conversations by
-- their roots, threads, thread_ids, contacts, quotas.
CREATE OR REPLACE FUNCTION store_deliveries(p_tenant uuid, p_mails jsonb, p_deliveries jsonb, p_refusals jsonb,
                                 p_claim_messages uuid[], p_claim_keys bytea[], p_claim_since timestamptz[],
                                 p_claim_until timestamptz[],
                                 p_mention_messages uuid[], p_mention_mailboxes uuid[], p_mention_hashes bytea[],
                                 p_mention_threads uuid[], p_roots bigint[])
RETURNS TABLE (mail integer, mailbox uuid, message uuid, duplicate boolean, fresh boolean, matched boolean, method text,
               dead boolean)
LANGUAGE plpgsql
-- Plans are cached for the life of a connection, often from a time when the tables were empty. Every look-up here is by key.
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_material = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_new uuid[];
    v_fresh bytea[];
    v_plain uuid[];
BEGIN
    IF jsonb_array_length(p_deliveries) > 0 THEN
        PERFORM enter_tenant(p_tenant);
    ELSIF NOT tenant_is_open(p_tenant) THEN
        RETURN;
    END IF;
    v_new := take_claims(p_tenant, p_claim_messages, p_claim_keys, p_claim_since, p_claim_until);
    PERFORM pg_advisory_xact_lock(r) FROM unnest(p_roots) AS r;
    v_fresh := take_threads(p_tenant, v_new, p_mention_messages, p_mention_mailboxes, p_mention_hashes, p_mention_threads);
    PERFORM make_contacts(p_tenant, v_new, p_mails, p_deliveries);
    v_plain := plain_deliveries(p_tenant, v_new, v_fresh, p_deliveries, p_mention_messages, p_mention_mailboxes,
                                p_mention_hashes);
    PERFORM store_plain(p_tenant, v_plain, p_mails, p_deliveries);
    RETURN QUERY
        SELECT w.mail, w.mailbox_id, w.message_id, false, true, w.answers IS NOT NULL, w.method, false
        FROM jsonb_to_recordset(p_deliveries)
             AS w(mail integer, message_id uuid, mailbox_id uuid, answers uuid, method text)
        WHERE w.message_id = ANY (v_plain);
    IF cardinality(v_plain) < jsonb_array_length(p_deliveries) THEN
        RETURN QUERY SELECT * FROM store_others(p_tenant, v_new, v_fresh, v_plain, p_mails, p_deliveries,
                                                p_claim_messages, p_claim_keys);
    END IF;
    PERFORM store_beside(p_tenant, v_new, p_mails, p_deliveries);
    IF jsonb_array_length(p_refusals) > 0 THEN
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count, samples, arrival_id, envelope,
                              detail, source)
        SELECT p_tenant, r.id, r.door, r.reason, r.client_prefix, r.minute, 1, '[]', r.arrival_id, r.envelope, r.detail,
               r.source
        FROM jsonb_populate_recordset(NULL::refusals, p_refusals) AS r
        ON CONFLICT (tenant_id, id) DO NOTHING;
    END IF;
    PERFORM count_quotas(p_tenant, v_new, p_mails, p_deliveries);
END $$;

-- Make the contacts of the new messages whose sender is verified.
CREATE OR REPLACE FUNCTION make_contacts(p_tenant uuid, p_new uuid[], p_mails jsonb, p_deliveries jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO contacts (tenant_id, id, address, address_hash, name, created_at)
    SELECT DISTINCT ON (c.hash) p_tenant, c.id, c.address, c.hash, c.name, c.seen_at
    FROM jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid, sender_verified boolean)
    CROSS JOIN LATERAL jsonb_to_record(p_mails->d.mail->'contact')
               AS c(id uuid, address text, hash bytea, name text, seen_at timestamptz)
    WHERE d.sender_verified AND d.message_id = ANY (p_new) AND c.hash IS NOT NULL
    ORDER BY c.hash, c.id
    ON CONFLICT DO NOTHING;
END $$;

-- The new deliveries that can be written in any order, as nothing in the batch has to do with them: those that begin a
-- conversation with ids that nobody has mentioned before, and those that answer a message which is where it was found.
-- Nobody waits for either of them.
CREATE OR REPLACE FUNCTION plain_deliveries(p_tenant uuid, p_new uuid[], p_fresh bytea[], p_deliveries jsonb,
                                 p_mention_messages uuid[], p_mention_mailboxes uuid[], p_mention_hashes bytea[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    v_tied uuid[] := ARRAY(
        SELECT w.message_id
        FROM unnest(p_mention_messages, p_mention_mailboxes, p_mention_hashes) AS w(message_id, mailbox_id, hash)
        WHERE uuid_send(w.mailbox_id) || w.hash <> ALL (p_fresh));
BEGIN
    RETURN ARRAY(
        SELECT d.message_id
        FROM jsonb_to_recordset(p_deliveries)
             AS d(message_id uuid, mailbox_id uuid, id_hash bytea, answers uuid, joins uuid, adopts boolean,
                  answered_status text)
        LEFT JOIN LATERAL (
            SELECT m.thread_id FROM messages m WHERE m.tenant_id = p_tenant AND m.id = d.answers LIMIT 1) a ON true
        LEFT JOIN LATERAL (
            SELECT h.id FROM threads h WHERE h.tenant_id = p_tenant AND h.id = a.thread_id LIMIT 1) h ON true
        WHERE d.message_id = ANY (p_new) AND d.answered_status IS NULL
          AND CASE WHEN d.answers IS NULL THEN d.message_id <> ALL (v_tied)
              ELSE h.id = d.joins AND (NOT d.adopts OR uuid_send(d.mailbox_id) || d.id_hash = ANY (p_fresh)) END);
END $$;

-- Write them: what store_message does for one of them, for all at once.
CREATE OR REPLACE FUNCTION store_plain(p_tenant uuid, p_plain uuid[], p_mails jsonb, p_deliveries jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH stored AS (
        INSERT INTO messages
        SELECT r.* FROM jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid, own jsonb)
        CROSS JOIN LATERAL jsonb_populate_record(NULL::messages, p_mails->d.mail->'message') AS m
        LEFT JOIN LATERAL (
            SELECT k.id FROM contacts k
            WHERE k.tenant_id = p_tenant AND k.address_hash = (p_mails->d.mail->'contact'->>'hash')::bytea LIMIT 1
        ) c ON true
        CROSS JOIN LATERAL jsonb_populate_record(m, d.own || jsonb_build_object('contact_id', c.id)) AS r
        WHERE d.message_id = ANY (p_plain)
        RETURNING id, mailbox_id, thread_id, subject, from_address, reply_to_email_id, sender_verified, contact_id,
                  received_at
    ), begun AS (
        INSERT INTO threads (tenant_id, id, mailbox_id, subject, message_count, root_message_id, last_message_at)
        SELECT p_tenant, s.thread_id, s.mailbox_id, s.subject, 1, s.id, s.received_at
        FROM stored s WHERE s.reply_to_email_id IS NULL
    ), joined AS (
        UPDATE threads h
        SET message_count = h.message_count + (SELECT count(*) FROM stored s WHERE s.thread_id = h.id), is_read = false,
            last_message_at = greatest(h.last_message_at, (SELECT max(s.received_at) FROM stored s WHERE s.thread_id = h.id))
        WHERE h.tenant_id = p_tenant
          AND h.id = ANY (ARRAY(SELECT s.thread_id FROM stored s WHERE s.reply_to_email_id IS NOT NULL))
    )
    INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)
    SELECT p_tenant, s.thread_id, (p_mails->d.mail->'contact'->>'hash')::bytea, lower(s.from_address), 'sender',
           s.contact_id, s.received_at
    FROM stored s JOIN jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid) ON d.message_id = s.id
    WHERE s.sender_verified AND s.from_address IS NOT NULL
    ON CONFLICT DO NOTHING;
END $$;

-- Write the deliveries that are not plain, each after the other; and of those that are not new, what they add to the
-- first arrival. As store_deliveries.
CREATE OR REPLACE FUNCTION store_others(p_tenant uuid, p_new uuid[], p_fresh bytea[], p_plain uuid[], p_mails jsonb,
                                        p_deliveries jsonb, p_claim_messages uuid[], p_claim_keys bytea[])
RETURNS TABLE (mail integer, mailbox uuid, message uuid, duplicate boolean, fresh boolean, matched boolean, method text,
               dead boolean)
LANGUAGE plpgsql AS $$
DECLARE
    d record;
    v_dead uuid;
    v_contact jsonb;
BEGIN
    FOR d IN
        SELECT * FROM jsonb_to_recordset(p_deliveries)
             AS y(mail integer, message_id uuid, mailbox_id uuid, thread_id uuid, receipt_id uuid, envelope_to text[],
                  own jsonb)
        WHERE y.message_id <> ALL (p_plain)
    LOOP
        mail := d.mail;
        mailbox := d.mailbox_id;
        message := d.message_id;
        fresh := d.message_id = ANY (p_new);
        duplicate := false;
        v_dead := NULL;
        IF fresh THEN
            SELECT jsonb_build_object('contact_id', k.id) INTO v_contact FROM contacts k
            WHERE k.tenant_id = p_tenant AND k.address_hash = (p_mails->d.mail->'contact'->>'hash')::bytea;
            matched := store_message(p_tenant, d.mailbox_id, d.message_id, d.thread_id,
                                     (p_mails->d.mail->'message') || d.own || coalesce(v_contact, '{}'), p_fresh);
        ELSE
            SELECT h.message_id, h.dead_letter_id INTO message, v_dead
            FROM holder_of_claims(p_tenant, d.message_id, p_claim_messages, p_claim_keys) AS h;
            SELECT x.reply_match_status = 'matched' INTO matched
            FROM messages x WHERE x.tenant_id = p_tenant AND x.id = message;
            duplicate := message IS DISTINCT FROM d.message_id;
            IF duplicate THEN
                PERFORM strengthen(p_tenant, message, (p_mails->d.mail->'message') || d.own);
                PERFORM store_receipt(p_tenant, d.receipt_id, message, v_dead, d.envelope_to, p_mails->d.mail->'receipt');
            END IF;
        END IF;
        matched := coalesce(matched, false);
        method := NULL;
        IF matched AND fresh THEN
            SELECT x.reply_match_method INTO method FROM messages x WHERE x.tenant_id = p_tenant AND x.id = message;
        END IF;
        message := coalesce(message, v_dead);
        dead := v_dead IS NOT NULL;
        RETURN NEXT;
    END LOOP;
END $$;

-- Note a further arrival of what was there before.
CREATE OR REPLACE FUNCTION store_receipt(p_tenant uuid, p_id uuid, p_message uuid, p_dead uuid, p_envelope_to text[],
                                         p_receipt jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO receipts (tenant_id, id, arrival_id, message_id, dead_letter_id, door, provider, provider_event_id,
                          envelope_from, envelope_to, client_ip, helo, tls, raw_sha256, auth_report, received_at,
                          duplicate, metadata, source)
    SELECT p_tenant, p_id, r.arrival_id, p_message, p_dead, r.door, r.provider, r.provider_event_id,
           r.envelope_from, p_envelope_to, r.client_ip, r.helo, r.tls, r.raw_sha256, r.auth_report, r.received_at,
           true, r.metadata, r.source
    FROM jsonb_populate_record(NULL::receipts, p_receipt) AS r
    ON CONFLICT (tenant_id, id) DO NOTHING;
END $$;

-- Write what stands beside the new messages: their parts, and the receipts of their first arrival.
CREATE OR REPLACE FUNCTION store_beside(p_tenant uuid, p_new uuid[], p_mails jsonb, p_deliveries jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH parted AS (
        INSERT INTO parts (tenant_id, message_id, ordinal, parent_ordinal, path, role, content_type, charset,
                           filename, original_filename, content_id, encoding, "offset", length, decoded_size,
                           sha256, flags, data)
        SELECT p_tenant, d.message_id, p.ordinal, p.parent_ordinal, p.path, p.role, p.content_type, p.charset,
               p.filename, p.original_filename, p.content_id, p.encoding, p."offset", p.length, p.decoded_size,
               p.sha256, p.flags, p.data
        FROM jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid)
        CROSS JOIN LATERAL jsonb_populate_recordset(NULL::parts, p_mails->d.mail->'parts') AS p
        WHERE d.message_id = ANY (p_new)
    )
    INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, provider, provider_event_id, envelope_from,
                          envelope_to, client_ip, helo, tls, raw_sha256, auth_report, received_at, duplicate, metadata,
                          source)
    SELECT p_tenant, d.receipt_id, r.arrival_id, d.message_id, r.door, r.provider, r.provider_event_id, r.envelope_from,
           d.envelope_to, r.client_ip, r.helo, r.tls, r.raw_sha256, r.auth_report, r.received_at, false, r.metadata,
           r.source
    FROM jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid, receipt_id uuid, envelope_to text[])
    CROSS JOIN LATERAL jsonb_populate_record(NULL::receipts, p_mails->d.mail->'receipt') AS r
    WHERE d.message_id = ANY (p_new)
    ON CONFLICT (tenant_id, id) DO NOTHING;
END $$;

-- Count what is new against the quotas, in key order. Only what has a quota is counted.
CREATE OR REPLACE FUNCTION count_quotas(p_tenant uuid, p_new uuid[], p_mails jsonb, p_deliveries jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_limited uuid[] := ARRAY(
        SELECT '00000000-0000-0000-0000-000000000000'::uuid FROM tenants t
        WHERE t.id = p_tenant AND (t.quota_mails IS NOT NULL OR t.quota_bytes IS NOT NULL)
        UNION ALL
        SELECT m.id FROM (
            SELECT DISTINCT d.mailbox_id FROM jsonb_to_recordset(p_deliveries) AS d(mailbox_id uuid)) d
        CROSS JOIN LATERAL (
            SELECT m.id FROM mailboxes m
            WHERE m.tenant_id = p_tenant AND m.id = d.mailbox_id
              AND (m.quota_mails IS NOT NULL OR m.quota_bytes IS NOT NULL) LIMIT 1) m);
BEGIN
    IF cardinality(v_limited) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO quota_usage AS u (tenant_id, mailbox_id, day, mails, bytes)
    SELECT p_tenant, l.id, (m.received_at AT TIME ZONE 'UTC')::date AS day, count(*), sum(m.size)
    FROM unnest(v_limited) AS l(id)
    JOIN jsonb_to_recordset(p_deliveries) AS d(mail integer, message_id uuid, mailbox_id uuid)
         ON l.id IN ('00000000-0000-0000-0000-000000000000', d.mailbox_id)
    CROSS JOIN LATERAL jsonb_to_record(p_mails->d.mail->'message') AS m(size bigint, received_at timestamptz)
    WHERE d.message_id = ANY (p_new)
    GROUP BY l.id, day
    ORDER BY l.id, day
    ON CONFLICT (tenant_id, mailbox_id, day) DO UPDATE SET mails = u.mails + excluded.mails, bytes = u.bytes + excluded.bytes;
END $$;
