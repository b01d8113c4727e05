-- What the planner is told of tables in which there is no mail yet.
--
-- Nothing, it takes each index that begins with the tenant for as good as any other; and a connection keeps its plans until
-- the tables are analyzed, a minute later or more. Meanwhile it reads all messages of a tenant to find one. So the
-- statistics are made of rows that look like mail, and the rows are gone before anybody sees them.
DO $$
BEGIN
    IF EXISTS (SELECT FROM messages) OR EXISTS (SELECT FROM threads) OR EXISTS (SELECT FROM thread_ids)
       OR EXISTS (SELECT FROM participants) OR EXISTS (SELECT FROM contacts) OR EXISTS (SELECT FROM receipts) THEN
        RETURN;  -- there is mail: its own statistics say more
    END IF;
    LOCK TABLE messages, threads, thread_ids, participants, contacts, receipts IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM messages) OR EXISTS (SELECT FROM contacts) THEN
        RETURN;  -- mail came while the tables were waited for
    END IF;

    -- One tenant of ten mailboxes, conversations of three messages, of which the last is ours.
    INSERT INTO messages (tenant_id, id, mailbox_id, thread_id, direction, kind, status, rfc_message_id, rfc_id_hash,
                          sent_id_hash, provider_message_id, reply_match_status, reply_to_email_id, contact_id, received_at)
    SELECT '00000000-0000-0000-0000-000000000000', md5('message' || n)::uuid, md5('mailbox' || n / 3 % 10)::uuid,
           md5('thread' || n / 3)::uuid, CASE n % 3 WHEN 2 THEN 'outbound' ELSE 'inbound' END, 'new', 'received', n,
           sha256(n::text::bytea), CASE n % 3 WHEN 2 THEN sha256(('sent' || n)::bytea) END,
           CASE n % 3 WHEN 2 THEN n END, 'unmatched', CASE n % 3 WHEN 1 THEN md5('message' || n - 1)::uuid END,
           md5('contact' || n / 3)::uuid, now() + n * interval '1 second'
    FROM generate_series(1, 3000) AS n;
    INSERT INTO threads (tenant_id, id, mailbox_id, root_message_id, last_message_at)
    SELECT DISTINCT ON (m.thread_id) m.tenant_id, m.thread_id, m.mailbox_id, m.id, m.received_at
    FROM messages m ORDER BY m.thread_id, m.received_at;
    INSERT INTO thread_ids (tenant_id, mailbox_id, id_hash, thread_id)
    SELECT m.tenant_id, m.mailbox_id, m.rfc_id_hash, m.thread_id FROM messages m;
    INSERT INTO contacts (tenant_id, id, address, address_hash, created_at)
    SELECT DISTINCT m.tenant_id, m.contact_id, m.contact_id::text, sha256(m.contact_id::text::bytea), now() FROM messages m;
    INSERT INTO participants (tenant_id, thread_id, address_hash, address, role, contact_id, added_at)
    SELECT m.tenant_id, m.thread_id, m.rfc_id_hash, m.rfc_message_id, 'sender', m.contact_id, m.received_at FROM messages m;
    INSERT INTO receipts (tenant_id, id, arrival_id, message_id, door, envelope_from, envelope_to, raw_sha256, received_at,
                          duplicate)
    SELECT m.tenant_id, m.raw, m.raw, m.id, 'smtp', '', '{}', m.rfc_id_hash, m.received_at, false
    FROM (SELECT *, md5('receipt' || id)::uuid AS raw FROM messages) m;
    ANALYZE messages, threads, thread_ids, participants, contacts, receipts;
    TRUNCATE messages, threads, thread_ids, participants, contacts, receipts;
END $$;
