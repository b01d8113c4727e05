-- Who sent it: what mailboxes ask of senders, whom tenants let in, whom they trust to forward, and whom they know.

ALTER TABLE tenants ADD COLUMN sender_mode text NOT NULL DEFAULT 'none' CHECK (sender_mode IN ('none', 'allowlist'));

ALTER TABLE mailboxes
    ADD COLUMN sender_mode text NOT NULL DEFAULT 'none' CHECK (sender_mode IN ('none', 'allowlist')),
    -- Under quarantine and enforce: also mail of a domain without DMARC must align with something.
    ADD COLUMN require_alignment boolean NOT NULL DEFAULT false,
    -- Whether the word of a trusted forwarder counts as the sender's own.
    ADD COLUMN accept_forwarded boolean NOT NULL DEFAULT true;

-- mailbox_id is the nil UUID for a rule of the whole tenant, so that one unique key holds both.
CREATE TABLE sender_rules (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    mailbox_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    action      text NOT NULL CHECK (action IN ('allow', 'block')),
    pattern     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, mailbox_id, pattern, action)
);

-- The nil tenant's forwarders are trusted by all tenants. A header with an upstream's authserv-id is forged in a
-- moment: such an entry counts only for mail that one of its networks hands in.
CREATE TABLE forwarders (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    kind        text NOT NULL CHECK (kind IN ('arc', 'authserv_id')),
    name        text NOT NULL CHECK (name = lower(name)),
    networks    cidr[] NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, name),
    CHECK ((kind = 'authserv_id') = (cardinality(networks) > 0))
);

-- Made only from verified senders and from those that were written to.
CREATE TABLE contacts (
    tenant_id   uuid NOT NULL REFERENCES tenants (id),
    id          uuid NOT NULL,
    address     text NOT NULL,
    address_hash bytea NOT NULL,
    name        text,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- By hash: a header may claim an address that is too long for a btree.
CREATE UNIQUE INDEX contacts_address ON contacts (tenant_id, address_hash);

-- Which of a message's receipts says the most for its sender; and what of its header people see: a second arrival with
-- another To or Reply-To must not lend its verdicts to the first.
ALTER TABLE messages
    ADD COLUMN auth_strength smallint NOT NULL DEFAULT 0,
    ADD COLUMN shown_hash bytea;
CREATE INDEX messages_contact ON messages (tenant_id, contact_id, received_at) WHERE contact_id IS NOT NULL;

-- As before, and: contacts are taken for the whole batch in key order, last of all, so that whoever waits for one waits
-- for nothing else; and a second arrival may say more for the sender than the first.
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
             jsonb_to_record(x.doc) AS y(raw_id uuid, raw integer, raw_sha256 bytea, raw_size bigint, receipt jsonb,
                                         message jsonb, parts jsonb, deliveries jsonb, refusals jsonb, contact jsonb)
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

-- Make the contacts of the new messages whose sender is verified. p_mails as in store_mails.
CREATE FUNCTION take_contacts(p_tenant uuid, p_new uuid[], p_mails jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO contacts (tenant_id, id, address, address_hash, name, created_at)
    SELECT DISTINCT ON (c.hash) p_tenant, c.id, c.address, c.hash, c.name, (m.doc->'message'->>'received_at')::timestamptz
    FROM jsonb_array_elements(p_mails) AS m(doc),
         jsonb_to_record(m.doc->'contact') AS c(id uuid, address text, hash bytea, name text)
    WHERE EXISTS (SELECT FROM jsonb_to_recordset(m.doc->'deliveries') AS d(message_id uuid, own jsonb)
                  WHERE d.message_id = ANY (p_new) AND (d.own->>'sender_verified')::boolean)
    ORDER BY c.hash, c.id
    ON CONFLICT DO NOTHING
$$;

-- The contact of a From address, as a column for the message's document; an empty document where nobody is known by it.
CREATE FUNCTION known_contact(p_tenant uuid, p_contact jsonb)
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT jsonb_build_object('contact_id', c.id) FROM contacts c
        WHERE c.tenant_id = p_tenant
          AND c.address_hash = (p_contact->>'hash')::bytea
    ), '{}')
$$;

-- Show the verdicts of a second arrival where they say more for the sender, and it shows people the same.
CREATE FUNCTION strengthen(p_tenant uuid, p_message uuid, p_doc jsonb)
RETURNS void LANGUAGE sql AS $$
    UPDATE messages m
    SET spf = r.spf, dkim = r.dkim, dmarc = r.dmarc, arc = r.arc, auth_strength = r.auth_strength,
        sender_verified = m.sender_verified OR r.sender_verified, quarantined = r.quarantined
    FROM jsonb_populate_record(NULL::messages, p_doc) AS r
    WHERE m.tenant_id = p_tenant AND m.id = p_message AND m.auth_strength < r.auth_strength
      AND m.shown_hash = r.shown_hash
$$;
