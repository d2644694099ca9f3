-- The inbox's worker takes whole batches, and operators decide on what it has given up.

-- An operator may put a message aside for good.
alter table webhook_inbox drop constraint webhook_inbox_status_is_known;
alter table webhook_inbox add constraint webhook_inbox_status_is_known
    check (status in ('pending', 'processed', 'ignored', 'review', 'dead', 'discarded'));

-- Until then a worker has the row, and with it the pledge: no other worker takes a row of it. A
-- worker that dies gives both back by the passing of time.
alter table webhook_inbox add column claimed_until timestamptz;
-- No index holds claimed_until, so a claim rewrites the row on its page where there is room.
alter table webhook_inbox set (fillfactor = 80);

-- All rows of a pledge: the worker asks for those that are pending, operators for all of them.
create index webhook_inbox_by_pledge on webhook_inbox (pledge_id, inbox_id);
drop index webhook_inbox_pending_by_pledge;
-- Operators look at one status at a time. Pending rows have an index already, and processed rows
-- are nearly all there are.
create index webhook_inbox_by_status on webhook_inbox (status, inbox_id)
    where status in ('ignored', 'review', 'dead', 'discarded');
drop index webhook_inbox_unhappy;

-- What operators decided. It is never changed, and what it is about is kept with it.
create table webhook_inbox_acts (
    act_id bigint generated always as identity primary key,
    inbox_id bigint not null references webhook_inbox,
    act text not null,
    -- The operator's own words; a message is discarded for a reason.
    reason text,
    acted_at timestamptz not null default now(),
    acted_by text not null,
    constraint webhook_inbox_acts_act_is_known check (act in ('retry', 'discard')),
    constraint webhook_inbox_acts_discard_has_a_reason check (act <> 'discard' or reason is not null),
    constraint webhook_inbox_acts_texts_are_short check (length(reason) <= 500 and length(acted_by) <= 100)
);
-- Shows the acts of one message, and lets the pruning find out that there are none.
create index webhook_inbox_acts_by_row on webhook_inbox_acts (inbox_id, act_id);
create trigger webhook_inbox_acts_are_append_only before update or delete or truncate on webhook_inbox_acts
    for each statement execute function refuse_change();
grant select, insert on webhook_inbox_acts to careforall_writer;
grant select on webhook_inbox_acts to careforall_auditor;

-- Takes due rows for one worker: pledges in the order in which they have waited, and of each pledge
-- all rows that are due, in the order of arrival. A pledge of which another worker has a row is left
-- out, so facts of one pledge are worked on by one worker at a time.
--
-- Claims are made one after the other, under a lock that is taken before the rows are looked at.
-- Row locks alone would not do: a worker that skips the locked first row of a pledge could still
-- take a later one that the other worker did not see yet.
create function webhook_inbox_claim(max_rows int, claim_seconds float8)
returns table (inbox_id bigint, provider text, webhook_id text, pledge_id uuid, body text, attempts int)
language plpgsql
-- As in ledger_append: a session keeps the plans it made while the table was small, so they are
-- left no choice but the right index. That is why a row that waits is called unfinished below where
-- it is found by its pledge or its id: "pending" would allow the index of all that waits, which is
-- the wrong one when much does.
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    instant timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended('webhook_inbox_claim', 0));
    instant := clock_timestamp();
    return query
    with due as materialized (
        select w.inbox_id, w.pledge_id from webhook_inbox w
        where w.status = 'pending' and w.next_attempt_at <= instant
            and (w.claimed_until is null or w.claimed_until <= instant)
            and not exists (
                select from webhook_inbox other
                where other.pledge_id = w.pledge_id and other.claimed_until > instant
            )
        order by w.next_attempt_at, w.inbox_id
        limit max_rows
    ), together as (
        select d.inbox_id from due d where d.pledge_id is null
        union all
        select w.inbox_id from (select distinct d.pledge_id from due d) p
            join webhook_inbox w on w.pledge_id = p.pledge_id
        where w.finished_at is null and w.next_attempt_at <= instant
        order by inbox_id
        limit max_rows
    ), taken as (
        select w.inbox_id from together t join webhook_inbox w on w.inbox_id = t.inbox_id
        where w.finished_at is null
        order by w.inbox_id
        -- A row that somebody holds up by hand does not hold up the worker.
        for update of w skip locked
    )
    update webhook_inbox w
    set attempts = w.attempts + 1, claimed_until = instant + make_interval(secs => claim_seconds)
    from taken t where w.inbox_id = t.inbox_id
    returning w.inbox_id, w.provider, w.webhook_id, w.pledge_id, w.body, w.attempts;
end;
$$;
revoke all on function webhook_inbox_claim from public;
grant execute on function webhook_inbox_claim to careforall_writer;

-- Looks at the next max_rows rows after one, and deletes those that were finished by the worker long
-- ago. Nobody may delete otherwise. A message that was deleted would be taken for new if it were
-- delivered again, so nothing is deleted that a provider may still repeat. What an operator decided
-- on stays with the decision.
--
-- Returns the last row that was looked at, null when those that follow are too young, and how many
-- were deleted.
create function webhook_inbox_prune(after_id bigint, older_than_seconds float8, max_rows int)
returns table (last_id bigint, deleted bigint)
language plpgsql
security definer
set search_path = public, pg_temp
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    cutoff timestamptz := now() - make_interval(secs => older_than_seconds);
begin
    if older_than_seconds < extract(epoch from interval '7 days') then
        raise exception 'webhooks are kept for 7 days at least' using errcode = 'check_violation';
    end if;
    return query
    with looked_at as materialized (
        select w.inbox_id, w.received_at, w.status, w.finished_at from webhook_inbox w
        where w.inbox_id > after_id order by w.inbox_id limit max_rows
    ), gone as (
        delete from webhook_inbox w using looked_at l
        where w.inbox_id = l.inbox_id and w.status in ('processed', 'ignored') and w.finished_at < cutoff
            and not exists (select from webhook_inbox_acts a where a.inbox_id = w.inbox_id)
        returning 1
    )
    select case when count(*) = max_rows and max(l.received_at) < cutoff then max(l.inbox_id) end,
        (select count(*) from gone)
    from looked_at l;
end;
$$;
revoke all on function webhook_inbox_prune from public;
grant execute on function webhook_inbox_prune to careforall_writer;
