-- +goose Up
-- Rows of before are counted for nobody in particular.
ALTER TABLE sandboxes ADD COLUMN account TEXT NOT NULL DEFAULT '';
