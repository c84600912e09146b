-- +goose Up
CREATE TABLE sandboxes (
    id               TEXT    PRIMARY KEY,
    template         TEXT    NOT NULL,
    alias            TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    started_at       INTEGER NOT NULL, -- this and every other time: Unix milliseconds
    end_at           INTEGER NOT NULL,
    cpus             INTEGER NOT NULL,
    memory_mb        INTEGER NOT NULL,
    disk_mb          INTEGER NOT NULL,
    pids             INTEGER NOT NULL,
    metadata         TEXT    NOT NULL, -- a JSON object of strings
    access_token     TEXT    NOT NULL,
    host_key         TEXT    NOT NULL,
    internet         INTEGER NOT NULL,
    end_reason       TEXT,             -- this and the next three: set once it ends
    ended_at         INTEGER,
    ended_by         TEXT,
    end_detail       TEXT,
    idempotency_key  TEXT    UNIQUE,
    idempotency_hash BLOB
) STRICT;

CREATE INDEX sandboxes_listed ON sandboxes (state, started_at, id);
CREATE INDEX sandboxes_gone ON sandboxes (ended_at, id) WHERE state = 'gone';
