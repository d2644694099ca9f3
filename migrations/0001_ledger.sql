-- The ledger: the one source of truth. Everything else in this database can be rebuilt from it,
-- apart from the personal data in pledge_donors, which is kept out of it on purpose.

-- Which ledger this is. Redis keys carry the id, so that two ledgers never share a key.
-- The key makes pseudonyms and derived ids; without it an address cannot be linked to a donor.
create table ledger_identity (
    singleton boolean primary key default true,
    ledger_id uuid not null default gen_random_uuid(),
    -- Two version-4 UUIDs from the server's strong random source: 32 bytes, 244 of their bits random.
    id_key bytea not null
        default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
    constraint ledger_identity_is_one_row check (singleton)
);
insert into ledger_identity default values;

-- The last position given out. Every append locks this row, so positions are contiguous and
-- become visible in order; recorded_at never runs backwards either.
create table ledger_head (
    singleton boolean primary key default true,
    position bigint not null,
    recorded_at timestamptz not null,
    constraint ledger_head_is_one_row check (singleton)
) with (fillfactor = 10); -- the row is updated by every append: keep those updates on one page
insert into ledger_head (position, recorded_at) values (0, 'epoch');

-- Column-compatible with postgres-es; position and recorded_at are ours. json, not jsonb: the exact
-- bytes are kept, and an insert costs less.
create table events (
    position bigint primary key,
    -- Keys are compared byte by byte: a language's rules would only make the index slower.
    aggregate_type text collate "C" not null,
    aggregate_id text collate "C" not null,
    sequence bigint not null,
    event_type text not null,
    event_version text not null,
    payload json not null,
    metadata json not null,
    recorded_at timestamptz not null,
    constraint events_sequence_is_positive check (sequence > 0),
    constraint events_texts_are_short check (
        length(aggregate_type) <= 50 and length(aggregate_id) <= 100
        and length(event_type) <= 100 and length(event_version) <= 20
    ),
    constraint events_payload_is_small check (octet_length(payload::text) <= 65536),
    constraint events_metadata_is_small check (octet_length(metadata::text) <= 8192),
    -- Loads an aggregate, and is the last word on who was first.
    constraint events_stream_is_ordered unique (aggregate_type, aggregate_id, sequence)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, tg_op
        using errcode = 'restrict_violation';
end;
$$;
create trigger events_are_append_only before update or delete or truncate on events
    for each statement execute function refuse_change();

-- Who gave: the only place where personal data is kept. Written in the same transaction as the
-- pledge's first event; a donor is erased by deleting their rows, and every total stays provable.
-- There is no index by donor: every new pledge would pay for it, and the read table of pledges has one.
create table pledge_donors (
    pledge_id uuid primary key,
    donor_id uuid not null,
    name text,
    email text not null,
    message text,
    constraint pledge_donors_texts_are_short check (
        length(name) <= 200 and length(email) <= 320 and length(message) <= 2000
    )
);

-- Appends a batch of commands, all in one statement and one transaction.
--
-- Commands are numbered from 1, and so are conditions. A condition names a stream and the sequence
-- its callers saw; each is checked once, however many commands rest on it. A command is refused,
-- alone and whole, when any of its conditions has moved on. Refused is also a command that is already
-- in the ledger (a retry after a lost reply): its own position is found by its id and returned, so
-- that the caller learns that it succeeded.
--
-- Returns for each command its last position and instant, or nulls for a conflict.
create function ledger_append(
    command_ids uuid[],
    condition_types text[], condition_ids text[], condition_sequences bigint[],
    resting_commands int[], resting_conditions int[],
    event_commands int[], event_aggregate_types text[], event_aggregate_ids text[],
    event_sequences bigint[], event_types text[], event_versions text[],
    event_payloads text[], event_metadata text[],
    donor_commands int[], donor_pledge_ids uuid[], donor_ids uuid[],
    donor_names text[], donor_emails text[], donor_messages text[]
) returns table (command int, last_position bigint, committed_at timestamptz)
language plpgsql
-- A session keeps the plans it made while the table was small. These settings leave it no choice
-- but the index, which is right at any size; and compiling a plan takes longer than running it.
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    head_position bigint;
    instant timestamptz;
    moved int[];
    refused int[] := '{}';
    appended bigint;
begin
    -- From here to the commit nobody else appends; everything below sees all that was appended.
    select h.position, greatest(clock_timestamp(), h.recorded_at) into strict head_position, instant
    from ledger_head h for update;

    select array_agg(c.number) into moved
    from unnest(condition_types, condition_ids, condition_sequences) with ordinality
        as c (aggregate_type, aggregate_id, sequence, number)
    where exists (
        select from events e
        where e.aggregate_type = c.aggregate_type and e.aggregate_id = c.aggregate_id
            and e.sequence = c.sequence + 1
    );
    if moved is not null then
        select array_agg(distinct r.command) into refused
        from unnest(resting_commands, resting_conditions) as r (command, condition)
        where r.condition = any (moved);
    end if;

    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, recorded_at)
    select head_position + row_number() over (order by n.ordinal), n.aggregate_type, n.aggregate_id,
        n.sequence, n.event_type, n.event_version, n.payload::json, n.metadata::json, instant
    from unnest(event_commands, event_aggregate_types, event_aggregate_ids, event_sequences,
            event_types, event_versions, event_payloads, event_metadata) with ordinality
        as n (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, ordinal)
    where n.command <> all (refused);
    get diagnostics appended = row_count;

    insert into pledge_donors (pledge_id, donor_id, name, email, message)
    select d.pledge_id, d.donor_id, d.name, d.email, d.message
    from unnest(donor_commands, donor_pledge_ids, donor_ids, donor_names, donor_emails, donor_messages)
        as d (command, pledge_id, donor_id, name, email, message)
    where d.command <> all (refused);

    if appended > 0 then
        update ledger_head h set position = head_position + appended, recorded_at = instant;
        perform pg_notify('ledger', (head_position + appended)::text);
    end if;

    return query
    select a.command, head_position + max(a.ordinal), instant
    from (
        select n.command, row_number() over (order by n.ordinal) as ordinal
        from unnest(event_commands) with ordinality as n (command, ordinal)
        where n.command <> all (refused)
    ) a
    group by a.command
    union all
    select r.command, e.position, e.recorded_at
    from unnest(refused) as r (command)
    left join lateral (
        select e.position, e.recorded_at
        from unnest(event_commands, event_aggregate_types, event_aggregate_ids, event_sequences)
            as n (command, aggregate_type, aggregate_id, sequence)
        join events e using (aggregate_type, aggregate_id, sequence)
        where n.command = r.command and e.metadata ->> 'command_id' = command_ids[r.command]::text
        order by e.position desc
        limit 1
    ) e on true;
end;
$$;
