-- +goose Up
CREATE TABLE metrics (
    sandbox      TEXT    NOT NULL,
    at           INTEGER NOT NULL, -- Unix seconds
    cpus         INTEGER NOT NULL,
    cpu_used_pct REAL    NOT NULL,
    memory_used  INTEGER NOT NULL, -- bytes, this and the next
    memory_total INTEGER NOT NULL,
    memory_cache INTEGER NOT NULL,
    disk_used    INTEGER NOT NULL,
    disk_total   INTEGER NOT NULL,
    PRIMARY KEY (sandbox, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_lines (
    id      INTEGER PRIMARY KEY, -- their order
    sandbox TEXT    NOT NULL,
    epoch   TEXT    NOT NULL,    -- of the agent's log: sequence numbers count within one
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,    -- Unix milliseconds
    level   INTEGER NOT NULL,    -- 0 for the least
    message TEXT    NOT NULL,
    fields  TEXT    NOT NULL     -- a JSON object of strings
) STRICT;

CREATE UNIQUE INDEX log_lines_once ON log_lines (sandbox, epoch, seq);
CREATE INDEX log_lines_in_time ON log_lines (sandbox, at, id);
