-- Mail through providers' doors: who may hand it in, which event brought it, and where its bytes were fetched from.

-- A token is shown once, when it is made; only its hash is kept. Without a tenant it is for all, or for the domains that
-- it names; with one, for the domains of that tenant.
CREATE TABLE intake_tokens (
    id          uuid PRIMARY KEY,
    tenant_id   uuid REFERENCES tenants (id),
    name        text NOT NULL,
    hash        bytea NOT NULL UNIQUE,
    provider    text,
    domains     text[] NOT NULL DEFAULT '{}',
    may_assert_envelope boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    last_used_at timestamptz
);

-- Which mail an event brought: another one under the same id is a conflict. The claims say which message it became.
CREATE TABLE provider_events (
    tenant_id   uuid NOT NULL,
    key         bytea NOT NULL,
    raw_sha256  bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX provider_events_expiry ON provider_events (expires_at);

-- What a provider said beside the mail is evidence and decides nothing. Where the bytes were fetched from: what lies in a
-- bucket and stands here has arrived.
ALTER TABLE receipts ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}', ADD COLUMN source text;
CREATE INDEX receipts_source ON receipts (tenant_id, source) WHERE source IS NOT NULL;
ALTER TABLE refusals ADD COLUMN source text;
CREATE INDEX refusals_source ON refusals (tenant_id, source) WHERE source IS NOT NULL;

-- As before, but: the raw bytes may lie in an object store, and rows say where they were fetched from.
CREATE OR REPLACE FUNCTION store_mails(p_tenant uuid, p_mails jsonb, p_raws bytea[],
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
    PERFORM take_contacts(p_tenant, v_new, p_mails);
    FOR m IN
        SELECT x.ordinality::integer - 1 AS n, y.*
        FROM jsonb_array_elements(p_mails) WITH ORDINALITY AS x(doc, ordinality),
             jsonb_to_record(x.doc) AS y(raw_id uuid, raw integer, blob_key text, raw_sha256 bytea, raw_size bigint,
                                         receipt jsonb, message jsonb, parts jsonb, deliveries jsonb, refusals jsonb, contact jsonb)
    LOOP
        v_raw_stored := m.raw IS NULL AND m.blob_key IS NULL;
        FOR d IN
            SELECT * FROM jsonb_to_recordset(m.deliveries) AS y(
                message_id uuid, mailbox_id uuid, thread_id uuid, receipt_id uuid, envelope_to text[], own jsonb)
        LOOP
            v_dead := NULL;
            IF d.message_id = ANY (v_new) THEN
                IF NOT v_raw_stored THEN
                    INSERT INTO raws (tenant_id, id, sha256, size, data, blob_key)
                    VALUES (p_tenant, m.raw_id, m.raw_sha256, m.raw_size, p_raws[m.raw + 1], m.blob_key);
                    v_raw_stored := true;
                END IF;
                v_matched := store_message(p_tenant, d.mailbox_id, d.message_id, d.thread_id,
                                           m.message || d.own || known_contact(p_tenant, m.contact), v_fresh);
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
                IF duplicate THEN
                    PERFORM strengthen(p_tenant, v_message, m.message || d.own);
                END IF;
            END IF;

            INSERT INTO receipts (tenant_id, id, arrival_id, message_id, dead_letter_id, door, provider, provider_event_id,
                                  envelope_from, envelope_to, client_ip, helo, tls, raw_sha256, auth_report, received_at,
                                  duplicate, metadata, source)
            SELECT p_tenant, d.receipt_id, r.arrival_id, v_message, v_dead, r.door, r.provider, r.provider_event_id,
                   r.envelope_from, d.envelope_to, r.client_ip, r.helo, r.tls, m.raw_sha256, r.auth_report, r.received_at,
                   store_mails.duplicate, r.metadata, r.source
            FROM jsonb_populate_record(NULL::receipts, m.receipt) AS r
            ON CONFLICT (tenant_id, id) DO NOTHING;

            mail := m.n;
            mailbox := d.mailbox_id;
            message := coalesce(v_message, v_dead);
            matched := coalesce(v_matched, false);
            RETURN NEXT;
        END LOOP;
        INSERT INTO refusals (tenant_id, id, door, reason, client_prefix, minute, count, samples, arrival_id, envelope,
                              detail, source)
        SELECT p_tenant, r.id, r.door, r.reason, r.client_prefix, r.minute, 1, '[]', r.arrival_id, r.envelope, r.detail,
               r.source
        FROM jsonb_populate_recordset(NULL::refusals, m.refusals) AS r
        ON CONFLICT (tenant_id, id) DO NOTHING;
    END LOOP;
END $$;
