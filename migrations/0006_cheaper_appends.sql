-- Appends a batch of commands, all in one statement and one transaction, with less to do per call
-- than its first version: what it does for every batch is four statements.
--
-- Commands are numbered from 1, and so are conditions. A condition names a stream and the sequence
-- its callers saw; each is checked once, however many commands rest on it. A command is refused,
-- alone and whole, when any of its conditions has moved on. The stream that a command appends to
-- need not be among the conditions: the unique index refuses the whole batch if it has moved on,
-- and the caller then comes again with these conditions spelled out.
--
-- Returns the position before the batch, its instant, and the numbers of the refused commands; the
-- events of the others follow that position in the order given.
drop function ledger_append;
create function ledger_append(
    condition_types text[], condition_ids text[], condition_sequences bigint[],
    resting_commands int[], resting_conditions int[],
    event_commands int[], event_aggregate_types text[], event_aggregate_ids text[],
    event_sequences bigint[], event_types text[], event_versions text[],
    event_payloads text[], event_metadata text[],
    donor_commands int[], donor_pledge_ids uuid[], donor_ids uuid[],
    donor_names text[], donor_emails text[], donor_messages text[],
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

    if cardinality(donor_commands) > 0 then
        insert into pledge_donors (pledge_id, donor_id, name, email, message)
        select d.pledge_id, d.donor_id, d.name, d.email, d.message
        from unnest(donor_commands, donor_pledge_ids, donor_ids, donor_names, donor_emails, donor_messages)
            as d (command, pledge_id, donor_id, name, email, message)
        where refused is null or d.command <> all (refused);
    end if;

    perform pg_notify('ledger', (position_before + appended)::text);
end;
$$;

-- As before: the only way into the ledger, for those who append commands.
revoke all on function ledger_append from public;
grant execute on function ledger_append to careforall_writer, careforall_projector;
