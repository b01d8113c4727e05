-- no transaction
-- How long the mail of a tenant is kept, and how a tenant, or a person in it, is erased.

-- NULL is what the settings say for all tenants, 0 is for ever. "Attachments" are the raw bytes, on which all parts are
-- views. A tenant that is being erased takes nothing more, and is never active again.
ALTER TABLE tenants
    ADD COLUMN IF NOT EXISTS retention_days integer CHECK (retention_days >= 0),
    ADD COLUMN IF NOT EXISTS attachment_days integer CHECK (attachment_days >= 0),
    DROP CONSTRAINT IF EXISTS tenants_status_check,
    ADD CONSTRAINT tenants_status_check CHECK (status IN ('active', 'suspended', 'erasing'));
-- next
-- Parts that are no view on the raw bytes: few, and those whose bytes have been taken are not among them.
DROP INDEX CONCURRENTLY IF EXISTS parts_bytes;
-- next
CREATE INDEX CONCURRENTLY parts_bytes ON parts (tenant_id, message_id) WHERE octet_length(data) > 0;
-- next
-- Whether a dead letter needs the raw bytes.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_raw;
-- next
CREATE INDEX CONCURRENTLY dead_letters_raw ON dead_letters (tenant_id, raw_id);
-- next
-- Those that wait for somebody: daemons count them every few seconds.
DROP INDEX CONCURRENTLY IF EXISTS dead_letters_waiting;
-- next
CREATE INDEX CONCURRENTLY dead_letters_waiting ON dead_letters (tenant_id, created_at) WHERE state = 'dead';
-- next
-- Tenants that were here: whose objects may still be deleted, though nothing else is known of them.
CREATE TABLE IF NOT EXISTS erased_tenants (
    tenant_id   uuid PRIMARY KEY,
    erased_at   timestamptz NOT NULL
);
-- next
-- Whoever writes for a tenant shares this lock until the end of the transaction. Whoever erases it says so first, takes
-- the lock alone once, and knows then that nobody else writes any more, nor will.
CREATE OR REPLACE FUNCTION tenant_is_open(p_tenant uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(p_tenant::text, 0));
    PERFORM FROM tenants t WHERE t.id = p_tenant AND t.status <> 'erasing';
    RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION enter_tenant(p_tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT tenant_is_open(p_tenant) THEN
        RAISE EXCEPTION 'the tenant is being erased' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;
-- next
-- A second arrival of a mail that was erased is counted, but nothing of it is kept.
CREATE OR REPLACE FUNCTION receipt_of_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM messages m WHERE m.tenant_id = NEW.tenant_id AND m.id = NEW.message_id)
       AND (NEW.message_id IS NOT NULL OR NOT EXISTS (
            SELECT FROM dead_letters d WHERE d.tenant_id = NEW.tenant_id AND d.id = NEW.dead_letter_id)) THEN
        NEW.envelope_from := '';
        NEW.envelope_to := '{}';
        NEW.client_ip := NULL;
        NEW.helo := NULL;
        NEW.auth_report := '{}';
        NEW.metadata := '{}';
    END IF;
    RETURN NEW;
END $$;
-- next
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'receipt_of_erased' AND tgrelid = 'receipts'::regclass) THEN
        CREATE TRIGGER receipt_of_erased BEFORE INSERT ON receipts
        FOR EACH ROW WHEN (NEW.duplicate) EXECUTE FUNCTION receipt_of_erased();
    END IF;
END $$;
-- next
-- As before, but: a tenant that is being erased gets nothing more. What was to be delivered is judged again, which finds
-- no mailbox; that it was refused is not noted.
CREATE OR REPLACE FUNCTION store_batch(p_tenant uuid, p_mails jsonb, p_raws bytea[],
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
    IF cardinality(p_mention_messages) > 0 THEN
        PERFORM enter_tenant(p_tenant);
    ELSIF NOT tenant_is_open(p_tenant) THEN
        RETURN;
    END IF;
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
