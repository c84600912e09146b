-- +goose Up
-- Sandboxes of before end at their deadline, as they did.
ALTER TABLE sandboxes ADD COLUMN env_vars        TEXT    NOT NULL DEFAULT '{}'; -- a JSON object of strings
ALTER TABLE sandboxes ADD COLUMN expiry_pause    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN expiry_memory   INTEGER NOT NULL DEFAULT 1;
ALTER TABLE sandboxes ADD COLUMN expiry_resume   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN first_timeout   INTEGER NOT NULL DEFAULT 0;    -- milliseconds
ALTER TABLE sandboxes ADD COLUMN snapshot        TEXT    NOT NULL DEFAULT '';   -- what it is kept as
ALTER TABLE sandboxes ADD COLUMN snapshot_memory INTEGER NOT NULL DEFAULT 0;
