-- The ledger: the one source of truth. Every change is an event under a global position, 1, 2, 3 … without
-- holes, and ledger_append is the only way in. Events are never changed. What they must not hold for ever,
-- personal data, stands beside them in pledge_donors, where it can be deleted. Everything else in this
-- database that shows what happened can be rebuilt from here.

-- Which ledger this is. Redis keys carry the id, so that two ledgers never share a key.
create table ledger_identity (
    singleton boolean primary key default true,
    ledger_id uuid not null default gen_random_uuid(),
    -- Makes pseudonyms and derived ids; without it an address cannot be linked to a donor. Two version-4
    -- UUIDs from the server's strong random source: 32 bytes, 244 of their bits random.
    id_key bytea not null
        default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
    constraint ledger_identity_is_one_row check (singleton)
);
insert into ledger_identity default values;

-- The last position given out, and its instant. Every append locks this row, so positions are contiguous and
-- become visible in order; recorded_at never runs backwards either.
create table ledger_head (
    singleton boolean primary key default true,
    position bigint not null,
    recorded_at timestamptz not null,
    constraint ledger_head_is_one_row check (singleton)
) with (fillfactor = 10); -- the row is updated by every append: keep those updates on one page
insert into ledger_head (position, recorded_at) values (0, 'epoch');

-- The first eight columns are those of postgres-es. json, not jsonb: the exact bytes are kept, and an insert
-- costs less.
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
    -- The instant of the batch, the same for all its events.
    recorded_at timestamptz not null,
    -- A check that costs nothing: it looks only at lengths that the row already holds (and 4 bytes of
    -- header). The lengths of texts are checked by the types of rows that come in.
    constraint events_are_small check (
        sequence > 0 and pg_column_size(payload) <= 4 + 65536 and pg_column_size(metadata) <= 4 + 8192
    ),
    -- Loads an aggregate, and is the last word on who was first. It begins with what tells streams apart:
    -- nearly all aggregates are pledges, and with the type in front every step down the index would compare a
    -- column that is the same everywhere.
    constraint events_stream_is_ordered unique (aggregate_id, sequence, aggregate_type)
);

-- For tables that only grow.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, tg_op
        using errcode = 'restrict_violation';
end;
$$;
create trigger events_are_append_only before update or delete or truncate on events
    for each statement execute function refuse_change();

-- Who gave: the only place where personal data is kept. Written in the same transaction as the pledge's first
-- event; a donor is erased by deleting their rows, and every total stays provable. There is no index by
-- donor: every new pledge would pay for it, and the read table of pledges has one.
create table pledge_donors (
    -- Of the pledge's first event. Not the pledge's id: ids are random, so each new row would go to another
    -- page of the index. Positions only grow.
    position bigint primary key,
    donor_id uuid not null,
    name text,
    email text not null,
    message text
);

-- Whose a payment is: the pledge that first recorded anything of it, or that it was moved to since. Written
-- in the append of that event, so that no payment is ever in two pledges.
create table payment_claims (
    payment_id text collate "C" primary key,
    pledge_id uuid not null
);

-- A batch comes as rows of these types: Postgres takes one array of rows apart in a third of the time that it
-- needs for eight arrays side by side, and a row says by itself what belongs together. Texts are limited
-- here: a row with a longer one is refused as it is received. A check constraint in the table would cost
-- more, since its text is parsed anew for each statement and it counts the characters even of what is short.

-- A stream, and the sequence at which a caller saw it.
create type ledger_condition as (aggregate_type text, aggregate_id text, sequence bigint);
-- An event, and the number of its command in the batch.
create type ledger_event as (
    command int,
    aggregate_type varchar(50), aggregate_id varchar(100), sequence bigint,
    event_type varchar(100), event_version varchar(20), payload json, metadata json
);
-- The personal data of a new pledge, named with the event, by its place in the batch, that makes it.
create type ledger_donor as (
    event int, donor_id uuid, name varchar(200), email varchar(320), message varchar(2000)
);

-- What a command says of a payment: it is its pledge's, or comes to it now.
create type ledger_claim as (command int, payment_id varchar(200), pledge_id uuid, takes_over boolean);

-- Appends a batch of commands, all in one statement and one transaction.
--
-- Commands are numbered from 1, and so are conditions and events. A condition names a stream and the sequence
-- its callers saw; each is checked once, however many commands rest on it. A command is refused, alone and
-- whole, when any of its conditions has moved on. The stream that a command appends to need not be among the
-- conditions: the unique index refuses the whole batch if it has moved on, and the caller then comes again
-- with these conditions spelled out. A command is refused too when a payment of it is another pledge's.
--
-- Returns the position before the batch, its instant, and the numbers of the refused commands, and which of
-- them named another pledge's payment; the events of the others follow that position in the order given.
--
-- It has the rights of its owner, so that no role needs the right to insert an event past it.
create function ledger_append(
    conditions ledger_condition[], resting_commands int[], resting_conditions int[],
    new_events ledger_event[], new_donors ledger_donor[], new_claims ledger_claim[],
    out position_before bigint, out appended_at timestamptz, out refused int[], out foreign_payments int[]
) returns record
language plpgsql
security definer
set search_path = public, pg_temp
as $$
#variable_conflict use_column
declare
    moved int[];
    -- The place of each event in the batch; needed only where some are left out.
    places int[];
    appended int := cardinality(new_events);
begin
    -- From here to the commit nobody else appends; everything below sees all that was appended.
    update ledger_head h
    set position = h.position + appended, recorded_at = greatest(clock_timestamp(), h.recorded_at)
    returning h.position - appended, h.recorded_at into strict position_before, appended_at;

    select array_agg(c.number) into moved
    from unnest(conditions) with ordinality as c (aggregate_type, aggregate_id, sequence, number)
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

    if cardinality(new_claims) > 0 then
        select array_agg(distinct c.command) into foreign_payments
        from (
            select n.*, k.pledge_id as holder,
                first_value(n.pledge_id) over (partition by n.payment_id order by n.command) as first_here
            from unnest(new_claims) as n (command, payment_id, pledge_id, takes_over)
            left join payment_claims k on k.payment_id = n.payment_id
        ) c
        where not c.takes_over and c.pledge_id <> coalesce(c.holder, c.first_here);
        if foreign_payments is not null then
            refused := coalesce(refused, '{}') || foreign_payments;
        end if;
    end if;

    if refused is not null then
        select array_agg(p.place order by p.ordinal), coalesce(max(p.place), 0) into places, appended
        from (
            select e.ordinal,
                count(*) filter (where e.command <> all (refused)) over (order by e.ordinal) as place
            from unnest(new_events) with ordinality
                as e (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                    metadata, ordinal)
        ) p;
        update ledger_head h set position = position_before + appended;
    end if;

    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, recorded_at)
    select position_before + coalesce(places[n.ordinal], n.ordinal), n.aggregate_type, n.aggregate_id,
        n.sequence, n.event_type, n.event_version, n.payload, n.metadata, appended_at
    from unnest(new_events) with ordinality
        as n (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, ordinal)
    where refused is null or n.command <> all (refused);

    if cardinality(new_donors) > 0 then
        insert into pledge_donors (position, donor_id, name, email, message)
        select position_before + coalesce(places[d.event], d.event), d.donor_id, d.name, d.email, d.message
        from unnest(new_donors) as d
        where refused is null or new_events[d.event].command <> all (refused);
    end if;

    if cardinality(new_claims) > 0 then
        insert into payment_claims as k (payment_id, pledge_id)
        select distinct on (c.payment_id) c.payment_id, c.pledge_id
        from unnest(new_claims) as c (command, payment_id, pledge_id, takes_over)
        where refused is null or c.command <> all (refused)
        order by c.payment_id, c.takes_over desc, c.command
        on conflict (payment_id) do update set pledge_id = excluded.pledge_id
            where k.pledge_id <> excluded.pledge_id;
    end if;

    perform pg_notify('ledger', (position_before + appended)::text);
end;
$$;
revoke all on function ledger_append from public;

-- The pledge that a payment belongs to; null where nothing is known of it.
create function pledge_of_payment(payment text)
returns uuid
language sql
stable
security definer
set search_path = public, pg_temp
as $$
    select pledge_id from payment_claims where payment_id = payment collate "C";
$$;
revoke all on function pledge_of_payment from public;

-- The donor behind one pledge, for whoever makes another pledge of the same donor. The callers may look up
-- one that they know, and cannot go through all of them. The way from the pledge's id to its position goes
-- through the ledger, which has an index of streams.
create function pledge_donor_of(pledge uuid)
returns table (donor_id uuid, name text, email text, message text)
language sql
stable
security definer
set search_path = public, pg_temp
as $$
    select d.donor_id, d.name, d.email, d.message
    from events e join pledge_donors d using (position)
    where e.aggregate_type = 'pledge' and e.aggregate_id = pledge::text and e.sequence = 1;
$$;
revoke all on function pledge_donor_of from public;
