-- What the planner is told of tables in which there is no mail yet.
--
-- Nothing, it takes each index that begins with the tenant for as good as any other; and a connection keeps its plans until
-- the tables are analyzed, a minute later or more. Meanwhile it reads all messages of a tenant to find one. So the
-- statistics are made of rows that look like mail, and the rows are gone before anybody sees them.
DO $$
BEGIN
    FOR looked IN 1..2 LOOP  -- once more with the lock: mail may come while it is waited for
        IF EXISTS (SELECT FROM messages) OR EXISTS (SELECT FROM threads) OR EXISTS (SELECT FROM thread_ids)
           OR EXISTS (SELECT FROM participants) OR EXISTS (SELECT FROM contacts) OR EXISTS (SELECT FROM receipts)
           OR current_setting('transaction_isolation') <> 'read committed' THEN  -- else the second look sees no more
            RETURN;  -- there is mail: its own statistics say more
        END IF;
        LOCK TABLE messages, threads, thread_ids, participants, contacts, receipts IN ACCESS EXCLUSIVE MODE;
    END LOOP;

    -- One tenant of ten mailboxes, conversations of three messages, of which the last is ours.
    INSERT INTO messages (tenant_id, id, mailbox_id, thread_id, direction, kind, status, rfc_message_id, rfc_id_hash,
                          sent_id_hash, provider_message_id, reply_match_status, reply_to_email_id, contact_id, received_at)
    SELECT '00000000-0000-0000-0000-000000000000', u.id, lpad((n / 3 % 10)::text, 32, '0')::uuid, u.thread_id,
           CASE n % 3 WHEN 2 THEN 'outbound' ELSE 'inbound' END, 'new', 'received', n, sha256(n::text::bytea),
           CASE n % 3 WHEN 2 THEN sha256(('sent ' || n)::bytea) END, CASE n % 3 WHEN 2 THEN n END, 'unmatched',
           CASE n % 3 WHEN 1 THEN u.thread_id END, u.thread_id, now() + n * interval '1 second'
    FROM generate_series(0, 2999) AS n
    CROSS JOIN LATERAL (
        SELECT lpad(n::text, 32, '0')::uuid AS id, lpad((n - n % 3)::text, 32, '0')::uuid AS thread_id) u;
    INSERT INTO threads (tenant_id, id, mailbox_id, root_message_id, last_message_at)
    SELECT m.tenant_id, m.thread_id, m.mailbox_id, m.id, m.received_at FROM messages m WHERE m.id = m.thread_id;
    INSERT INTO thread_ids (tenant_id, mailbox_id, id_hash, thread_id)
    SELECT m.tenant_id, m.mailbox_id, m.rfc_id_hash, m.thread_id FROM messages m;
    INSERT INTO contacts (tenant_id, id, address, address_hash, created_at)
    SELECT m.tenant_id, m.id, m.rfc_message_id, m.rfc_id_hash, m.received_at FROM messages m WHERE m.id = m.contact_id;
    INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)
    SELECT m.tenant_id, m.thread_id, m.rfc_id_hash, m.rfc_message_id, 'sender', m.contact_id, m.received_at FROM messages m;
    INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, raw_sha256, received_at,
                          duplicate)
    SELECT m.tenant_id, m.id, m.id, m.id, 'smtp', '', '{}', m.rfc_id_hash, m.received_at, false FROM messages m;
    ANALYZE messages, threads, thread_ids, participants, contacts, receipts;
    TRUNCATE messages, threads, thread_ids, participants, contacts, receipts;
END $$;
