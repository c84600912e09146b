-- +goose Up
CREATE TABLE templates (
    id              TEXT    PRIMARY KEY,
    owner_subject   TEXT    NOT NULL,
    owner_team      TEXT    NOT NULL,
    account         TEXT    NOT NULL, -- for whom it is counted
    public          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL, -- Unix milliseconds, as all times here
    updated_at      INTEGER NOT NULL,
    last_spawned_at INTEGER NOT NULL, -- 0 for never
    spawn_count     INTEGER NOT NULL,
    build_count     INTEGER NOT NULL
) STRICT;

CREATE INDEX templates_listed ON templates (created_at, id);
CREATE INDEX templates_of_account ON templates (account);

CREATE TABLE template_aliases (
    namespace TEXT    NOT NULL, -- the tenant, '' without tenancy
    alias     TEXT    NOT NULL,
    template  TEXT    NOT NULL,
    PRIMARY KEY (namespace, alias)
) STRICT, WITHOUT ROWID;

CREATE INDEX template_aliases_of ON template_aliases (template);

CREATE TABLE builds (
    id              TEXT    PRIMARY KEY,
    template        TEXT    NOT NULL,
    tags            TEXT    NOT NULL, -- a JSON list: what it becomes once it is ready
    status          TEXT    NOT NULL,
    failed_step     TEXT    NOT NULL,
    failed_message  TEXT    NOT NULL,
    cpus            INTEGER NOT NULL,
    memory_mb       INTEGER NOT NULL,
    disk_mb         INTEGER NOT NULL,
    pids            INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    finished_at     INTEGER NOT NULL, -- 0 for not yet
    spec            TEXT    NOT NULL, -- JSON of package build's, without credentials
    snapshot        TEXT    NOT NULL, -- '' until it is ready, and when it was dropped
    memory          INTEGER NOT NULL,
    host_key        TEXT    NOT NULL,
    env_vars        TEXT    NOT NULL, -- a JSON object of strings
    default_user    TEXT    NOT NULL,
    default_workdir TEXT    NOT NULL,
    base_snapshot   TEXT    NOT NULL, -- what builds from this one begin with
    base            TEXT    NOT NULL  -- JSON of package build's
) STRICT;

CREATE INDEX builds_of_template ON builds (template, created_at, id);
CREATE INDEX builds_unfinished ON builds (status) WHERE status IN ('waiting', 'building');

CREATE TABLE template_tags (
    template    TEXT    NOT NULL,
    tag         TEXT    NOT NULL,
    build       TEXT    NOT NULL,
    assigned_at INTEGER NOT NULL, -- of a build's own tags, when it was asked for
    PRIMARY KEY (template, tag)
) STRICT, WITHOUT ROWID;

CREATE TABLE build_log (
    id      INTEGER PRIMARY KEY, -- their order
    build   TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    level   INTEGER NOT NULL,    -- 0 for the least
    message TEXT    NOT NULL,
    step    TEXT    NOT NULL
) STRICT;

CREATE INDEX build_log_of ON build_log (build, id);

CREATE TABLE build_layers (
    key       TEXT    PRIMARY KEY,
    snapshot  TEXT    NOT NULL,
    last_used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX build_layers_by_age ON build_layers (last_used);

-- Who the processes of a sandbox are, and where, when nobody says otherwise: its
-- template's.
ALTER TABLE sandboxes ADD COLUMN default_user TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN default_workdir TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN default_user TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN default_workdir TEXT NOT NULL DEFAULT '';
