"""The schema: the tenant is in every key, no foreign key blocks a partition, the contract's columns exist."""

import asyncpg
import pytest

REFERENCE_TABLES = {"tenants", "domains", "api_keys", "intake_tokens", "schema_migrations"}
MESSAGE_SCOPED = {"messages", "parts", "threads", "thread_ids", "receipts", "claims", "raws"}
MESSAGE_SCOPED |= {
    "refusals",
    "dead_letters",
    "participants",
    "quota_usage",
    "provider_events",
    "delivery_events",
    "blob_trash",
}

# Names that others read (design page, The data contract).
CONTRACT = {
    "tenants": "id slug name status",
    "domains": "name tenant_id status invalid_tokens",
    "mailboxes": "tenant_id id domain local_part external_id email_type accepts_cold_inbound unsubscribable "
    "auth_policy strict_senders system status",
    "routes": "tenant_id id domain kind local_part mailbox_id",
    "raws": "tenant_id id sha256 size data blob_key",
    "messages": "tenant_id id mailbox_id thread_id direction kind status rfc_message_id provider_message_id "
    "in_reply_to reference_ids from_address from_name to_addresses cc_addresses reply_to_addresses header_to "
    "delivery_role recipient_tag envelope_from subject body_text body_html reply_text reply_match_status "
    "reply_match_method reply_to_email_id contact_id sender_verified sender_expected spf dkim dmarc arc quarantined "
    "flags decision raw_id size sent_at received_at",
    "parts": "tenant_id message_id ordinal parent_ordinal path role content_type charset filename original_filename "
    "content_id encoding offset length decoded_size sha256 flags data",
    "threads": "tenant_id id mailbox_id subject is_read message_count last_message_at",
    "receipts": "tenant_id id arrival_id message_id dead_letter_id door provider provider_event_id envelope_from "
    "envelope_to client_ip helo tls raw_sha256 auth_report received_at duplicate",
    "intake_tokens": "id name hash provider domains may_assert_envelope created_at revoked_at",
    "claims": "tenant_id key message_id dead_letter_id created_at expires_at",
    "thread_ids": "tenant_id mailbox_id id_hash thread_id",
    "refusals": "tenant_id id door reason client_prefix minute count samples",
    "dead_letters": "tenant_id id kind state reason detail envelope raw_id attempts created_at",
}


@pytest.fixture
async def connection(database_url: str) -> asyncpg.Connection:
    one = await asyncpg.connect(database_url)
    yield one
    await one.close()


async def test_every_unique_index_of_a_tenant_table_begins_with_the_tenant(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT t.relname AS table, i.relname AS index, a.attname AS first
        FROM pg_index x
        JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
        WHERE x.indisunique
        """
    )
    assert {row["table"] for row in rows} >= MESSAGE_SCOPED
    wrong = [row["index"] for row in rows if row["table"] not in REFERENCE_TABLES and row["first"] != "tenant_id"]
    assert wrong == []


async def test_every_foreign_key_between_tenant_tables_carries_the_tenant(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT c.conname, t.relname AS table, r.relname AS referred,
               ARRAY(SELECT a.attname FROM unnest(c.conkey) k JOIN pg_attribute a
                     ON a.attrelid = c.conrelid AND a.attnum = k) AS columns
        FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid
        WHERE c.contype = 'f'
        """
    )
    assert rows
    assert [row["conname"] for row in rows if "tenant_id" not in row["columns"]] == []
    blocking = [row["conname"] for row in rows if row["table"] in MESSAGE_SCOPED or row["referred"] in MESSAGE_SCOPED]
    assert blocking == [], "they would block detaching a partition"


async def test_the_contract_columns_exist(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    )
    columns: dict[str, dict[str, str]] = {}
    for row in rows:
        columns.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    for table, names in CONTRACT.items():
        assert set(names.split()) <= set(columns[table]), table
    for table, types in columns.items():
        assert "timestamp without time zone" not in types.values(), table


async def test_raw_bytes_are_stored_uncompressed_outside_the_row(connection: asyncpg.Connection) -> None:
    storage = await connection.fetchval(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'raws'::regclass AND attname = 'data'"
    )
    assert storage == b"e"
