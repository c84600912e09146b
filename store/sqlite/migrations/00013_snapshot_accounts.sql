-- +goose Up
-- For whom a snapshot is counted. Those of before are their owners'.
ALTER TABLE snapshots ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE snapshots SET account = CASE
	WHEN owner_team <> '' THEN 'team:' || owner_team
	WHEN owner_subject <> '' THEN 'subject:' || owner_subject
	ELSE '' END;
