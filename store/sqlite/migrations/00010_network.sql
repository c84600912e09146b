-- +goose Up
-- What the sandbox may reach, as JSON of cube.NetworkPolicy. It holds secrets.
ALTER TABLE sandboxes ADD COLUMN network TEXT NOT NULL DEFAULT '{}';
