-- Raw mails in segments: files of one host. Which hosts use this database, and where each of them puts raw bytes.

-- Every daemon says once a minute that it is there. It belongs to no tenant, so to the nil one.
CREATE TABLE blob_hosts (
    tenant_id   uuid NOT NULL,
    host        text NOT NULL,
    place       text NOT NULL,
    boot        text NOT NULL,
    name        text NOT NULL,
    store       uuid,               -- what the directory of segments says of itself; NULL for other places
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, host, place)
);
