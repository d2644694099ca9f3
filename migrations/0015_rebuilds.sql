-- Projections that are being built anew beside the live ones, each in a schema of its own. Only the
-- owner of the schema rebuilds; auditors may watch.
create table projection_rebuilds (
    name text primary key,
    version int not null,
    -- The last migration when it began: tables of another shape are not built on.
    migration bigint not null,
    -- The last position that it has folded.
    position bigint not null default 0,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
grant select on projection_rebuilds to careforall_auditor;
