-- +goose Up
CREATE TABLE snapshots (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL, -- '' for none
    tag           TEXT    NOT NULL,
    sandbox       TEXT    NOT NULL, -- the one that was kept
    template      TEXT    NOT NULL,
    alias         TEXT    NOT NULL,
    cpus          INTEGER NOT NULL,
    memory_mb     INTEGER NOT NULL,
    disk_mb       INTEGER NOT NULL,
    pids          INTEGER NOT NULL,
    created_at    INTEGER NOT NULL, -- Unix milliseconds
    owner_subject TEXT    NOT NULL,
    owner_team    TEXT    NOT NULL,
    memory        INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    host_key      TEXT    NOT NULL,
    env_vars      TEXT    NOT NULL  -- a JSON object of strings
) STRICT;

CREATE INDEX snapshots_listed ON snapshots (created_at, id);
CREATE INDEX snapshots_of_sandbox ON snapshots (sandbox, created_at, id);
CREATE INDEX snapshots_named ON snapshots (name, tag) WHERE name <> '';
