-- Which version could not digest a mail, last of all, and who put a dead letter away, when and why.

-- NULL: a version that did not say.
ALTER TABLE dead_letters ADD COLUMN buried_by text, ADD COLUMN settled_at timestamptz, ADD COLUMN settled_by text,
                         ADD COLUMN why text;
