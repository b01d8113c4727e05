-- What providers tell of messages of ours, and upstreams that are known by the door through which they hand in mail.

-- An event that is faster than the application has no message yet: it waits under the provider's id. What it makes of the
-- message's status is decided once, when it comes.
CREATE TABLE delivery_events (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    message_id  uuid,
    provider    text NOT NULL,
    provider_message_id text NOT NULL,
    provider_event_id text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('delivery', 'bounce', 'complaint', 'delay')),
    status      text,
    recipients  text[] NOT NULL DEFAULT '{}',
    detail      jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- A repeated event is the same event.
CREATE UNIQUE INDEX delivery_events_once ON delivery_events (tenant_id, provider, provider_event_id);
CREATE INDEX delivery_events_message ON delivery_events (tenant_id, message_id, occurred_at) WHERE message_id IS NOT NULL;
CREATE INDEX delivery_events_waiting ON delivery_events (tenant_id, provider_message_id) WHERE message_id IS NULL;
CREATE INDEX delivery_events_expiry ON delivery_events (received_at) WHERE message_id IS NULL;

CREATE INDEX messages_provider_id ON messages (tenant_id, provider_message_id)
    WHERE provider_message_id IS NOT NULL AND direction = 'outbound';

-- An upstream without networks counts only where its own door hands in mail: whoever signs there is known.
ALTER TABLE forwarders DROP CONSTRAINT forwarders_check;
ALTER TABLE forwarders ADD CONSTRAINT forwarders_networks CHECK (kind = 'authserv_id' OR cardinality(networks) = 0);

-- As before, but: a bounce does not take the place of a complaint, and what answers a message that was erased while this
-- waited for its thread answers nothing.
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
            IF NOT FOUND THEN
                r.decision := r.decision || jsonb_build_object('answered_erased', r.reply_to_email_id);
                r.reply_to_email_id := NULL;
                r.reply_match_method := NULL;
                CONTINUE;
            END IF;
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
        WHERE tenant_id = p_tenant AND id = r.reply_to_email_id AND direction = 'outbound'
          -- A worker of before this migration does not say what the new status outranks.
          AND (NOT p_doc ? 'answered_over' OR p_doc->'answered_over' ? status);
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
