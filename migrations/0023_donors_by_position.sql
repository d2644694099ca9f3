-- Personal data stands at the position of the event that made the pledge, and no longer under the
-- pledge's id. Ids are random, so each new row went to another page of its index, which was a third of
-- what a new pledge cost the database; positions only grow. And the ledger's own number is the shorter
-- name: a row has nothing but the data that it is there for.

alter table pledge_donors add column position bigint;
update pledge_donors d set position = e.position
from events e
where e.aggregate_type = 'pledge' and e.aggregate_id = d.pledge_id::text and e.sequence = 1;

-- The look-up by the pledge's id goes through the ledger, which has an index of streams.
drop function pledge_donor_of;
alter table pledge_donors
    drop column pledge_id, -- with its primary key, and with the right to read it
    alter column position set not null,
    add primary key (position);
grant select (position) on pledge_donors to careforall_reader;

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
grant execute on function pledge_donor_of to careforall_writer;

-- Those who show a pledge find the personal data by its row in the read table.
alter table pledges add column created_position bigint;
update pledges p set created_position = e.position
from events e
where e.aggregate_type = 'pledge' and e.aggregate_id = p.pledge_id::text and e.sequence = 1;
alter table pledges alter column created_position set not null;

-- As before, but for the donors: each is named with the event, by its place in the batch, that it
-- belongs to.
drop function ledger_append;
create function ledger_append(
    condition_types text[], condition_ids text[], condition_sequences bigint[],
    resting_commands int[], resting_conditions int[],
    event_commands int[], event_aggregate_types text[], event_aggregate_ids text[],
    event_sequences bigint[], event_types text[], event_versions text[],
    event_payloads text[], event_metadata text[],
    donor_events int[], donor_ids uuid[], donor_names text[], donor_emails text[], donor_messages text[],
    out position_before bigint, out appended_at timestamptz, out refused int[]
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
    appended int := cardinality(event_commands);
begin
    -- From here to the commit nobody else appends; everything below sees all that was appended.
    update ledger_head h
    set position = h.position + appended, recorded_at = greatest(clock_timestamp(), h.recorded_at)
    returning h.position - appended, h.recorded_at into strict position_before, appended_at;

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

        select array_agg(p.place order by p.ordinal), coalesce(max(p.place), 0) into places, appended
        from (
            select e.ordinal, count(*) filter (where e.command <> all (refused)) over (order by e.ordinal) as place
            from unnest(event_commands) with ordinality as e (command, ordinal)
        ) p;
        update ledger_head h set position = position_before + appended;
    end if;

    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, recorded_at)
    select position_before + coalesce(n.place, n.ordinal), n.aggregate_type, n.aggregate_id, n.sequence,
        n.event_type, n.event_version, n.payload::json, n.metadata::json, appended_at
    from unnest(event_commands, event_aggregate_types, event_aggregate_ids, event_sequences, event_types,
            event_versions, event_payloads, event_metadata, places) with ordinality
        as n (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, place, ordinal)
    where refused is null or n.command <> all (refused);

    if cardinality(donor_events) > 0 then
        insert into pledge_donors (position, donor_id, name, email, message)
        select position_before + coalesce(places[d.event], d.event), d.donor_id, d.name, d.email, d.message
        from unnest(donor_events, donor_ids, donor_names, donor_emails, donor_messages)
            as d (event, donor_id, name, email, message)
        where refused is null or event_commands[d.event] <> all (refused);
    end if;

    perform pg_notify('ledger', (position_before + appended)::text);
end;
$$;

-- As before: the only way into the ledger, for those who append commands.
revoke all on function ledger_append from public;
grant execute on function ledger_append to careforall_writer;
