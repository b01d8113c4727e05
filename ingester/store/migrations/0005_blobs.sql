-- Raw mails in an object store: whatever deletes a raw mail, a hand at psql too, leaves no object behind.

-- What is to be deleted from the object store. Written in the transaction that makes it superfluous, emptied afterwards.
CREATE TABLE blob_trash (
    tenant_id   uuid NOT NULL,
    raw_id      uuid NOT NULL,
    blob_key    text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, raw_id)
);

CREATE FUNCTION raw_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO blob_trash (tenant_id, raw_id, blob_key) VALUES (OLD.tenant_id, OLD.id, OLD.blob_key)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER raw_deleted AFTER DELETE ON raws FOR EACH ROW WHEN (OLD.blob_key IS NOT NULL) EXECUTE FUNCTION raw_deleted();

-- When a place was last searched for objects without a mail. It belongs to no tenant, so to the nil one.
CREATE TABLE blob_sweeps (
    tenant_id   uuid NOT NULL,
    place       text NOT NULL,
    swept_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, place)
);

-- The answers to a message, which lose their link when it is erased.
CREATE INDEX messages_answers ON messages (tenant_id, reply_to_email_id) WHERE reply_to_email_id IS NOT NULL;
