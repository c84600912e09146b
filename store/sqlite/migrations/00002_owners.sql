-- +goose Up
-- Rows of before belong to nobody, and their ports are open, as they were.
ALTER TABLE sandboxes ADD COLUMN owner_subject TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN owner_team    TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN traffic_token TEXT NOT NULL DEFAULT '';

CREATE INDEX sandboxes_of_subject ON sandboxes (owner_subject, state, started_at, id);
CREATE INDEX sandboxes_of_team ON sandboxes (owner_team, state, started_at, id);
