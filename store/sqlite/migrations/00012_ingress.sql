-- +goose Up
-- How the sandbox's ports are reached, as JSON of cube.Ingress.
ALTER TABLE sandboxes ADD COLUMN ingress TEXT NOT NULL DEFAULT '{}';
