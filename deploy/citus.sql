-- Distributes the schema by tenant: run once on the coordinator of a Citus cluster, after `ingester migrate`, while no
-- daemon runs. See scaling.md for what is tested. Made and checked by tests/deploy/test_citus.py.
SELECT create_reference_table('tenants');
SELECT create_reference_table('domains');
SELECT create_reference_table('api_keys');
SELECT create_reference_table('intake_tokens');
SELECT create_distributed_table('mailboxes', 'tenant_id');
SELECT create_distributed_table('raws', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('messages', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('parts', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('threads', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('thread_ids', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('receipts', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('claims', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('refusals', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('dead_letters', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('sender_rules', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('forwarders', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('contacts', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('participants', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('quota_usage', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('provider_events', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('blob_trash', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('blob_sweeps', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('delivery_events', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('erased_tenants', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('blob_hosts', 'tenant_id', colocate_with => 'mailboxes');
SELECT create_distributed_table('routes', 'tenant_id', colocate_with => 'mailboxes');
