-- +goose Up
CREATE TABLE api_keys (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    hash          BLOB    NOT NULL UNIQUE, -- SHA-256 of the key
    mask_start    TEXT    NOT NULL,
    mask_end      TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    owner_subject TEXT    NOT NULL,
    owner_team    TEXT    NOT NULL,
    operator      INTEGER NOT NULL,
    templates     TEXT,                    -- a JSON array of strings; NULL for all
    created_at    INTEGER NOT NULL,        -- this and every other time: Unix milliseconds
    created_by    TEXT    NOT NULL,        -- the key that asked for it, '' for the command line
    expires_at    INTEGER,                 -- NULL for never
    revoked_at    INTEGER                  -- NULL for a key that is not revoked
) STRICT;

-- Names of different owners may be the same: that one is in use would tell one
-- tenant about another.
CREATE UNIQUE INDEX api_keys_named ON api_keys (owner_team, owner_subject, name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_revoked ON api_keys (revoked_at, id) WHERE revoked_at IS NOT NULL;
