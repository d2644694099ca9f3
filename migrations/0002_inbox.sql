-- The inbox: every message of a payment provider, kept before it is answered with 200, and what providers
-- answered when they were polled. Storing a message and acting on it are two steps, so a fact is never lost
-- because the ledger could not take it at that moment. A worker turns rows into commands; operators decide on
-- what it gives up. Rows are never changed in what they say, only in their status, and finished ones are
-- pruned.

create table webhook_inbox (
    -- The order of arrival.
    inbox_id bigint generated always as identity primary key,
    provider text not null,
    -- webhook: the provider delivered it, and its body is what the provider signed. poll: the provider was
    -- polled, and its body is one fact of the answer, in our own form.
    origin text not null,
    -- The provider's id of a webhook: the same for every delivery of it. The id of a polled fact follows from
    -- what it says, so that the same answer is the same message.
    webhook_id text not null,
    event_type text not null,
    -- Facts of one pledge are worked on in the order of arrival, one at a time.
    pledge_id uuid,
    -- The bytes that came, which are JSON; as text, since nothing here looks inside.
    body text not null,
    received_at timestamptz not null default now(),
    -- review: it contradicts the ledger; dead: the worker has given it up; discarded: an operator has put it
    -- aside for good.
    status text not null default 'pending',
    attempts int not null default 0,
    next_attempt_at timestamptz not null default now(),
    -- Until then a worker has the row, and with it the pledge: no other worker takes a row of it. A worker
    -- that dies gives both back by the passing of time.
    claimed_until timestamptz,
    finished_at timestamptz,
    -- Why it waits, was ignored, needs review or is dead.
    reason text,
    constraint webhook_inbox_origin_is_known check (origin in ('webhook', 'poll')),
    constraint webhook_inbox_status_is_known
        check (status in ('pending', 'processed', 'ignored', 'review', 'dead', 'discarded'))
-- No index holds claimed_until, so a claim rewrites the row on its page where there is room.
) with (fillfactor = 80);

-- The last word on duplicates: a message is kept once however often it is delivered. Asked for every
-- delivery, so the key is compared byte by byte, and begins with what tells messages apart.
create unique index webhook_inbox_is_idempotent
    on webhook_inbox (webhook_id collate "C", provider collate "C");
-- The worker asks for what is due; finished rows, which are nearly all, are not in here.
create index webhook_inbox_due on webhook_inbox (next_attempt_at, inbox_id) where status = 'pending';
-- All rows of a pledge: the worker asks for those that are pending, operators for all of them.
create index webhook_inbox_by_pledge on webhook_inbox (pledge_id, inbox_id);
-- Operators look at one status at a time. Pending rows have an index already, and processed rows are nearly
-- all there are.
create index webhook_inbox_by_status on webhook_inbox (status, inbox_id)
    where status in ('ignored', 'review', 'dead', 'discarded');

-- Wakes the worker; it also polls, so a lost notification only costs time.
create function notify_webhook_inbox() returns trigger language plpgsql as $$
begin
    notify webhook_inbox;
    return null;
end;
$$;
create trigger webhook_inbox_wakes_the_worker after insert on webhook_inbox
    for each statement execute function notify_webhook_inbox();

-- A verified message on its way into the inbox. Every message comes as such a row, and a text that is too
-- long is refused as it is received; as for the ledger, that costs less than a check constraint.
create type webhook_delivery as (
    provider varchar(50), origin text, webhook_id varchar(200), event_type varchar(200), pledge_id uuid,
    body text,
    -- It means nothing to the ledger: kept, and not worked on.
    is_ignored boolean
);

-- What operators decided. It is never changed, and what it is about is kept with it.
create table webhook_inbox_acts (
    act_id bigint generated always as identity primary key,
    inbox_id bigint not null references webhook_inbox,
    act text not null,
    -- The operator's own words; a message is discarded for a reason.
    reason text,
    acted_at timestamptz not null default now(),
    acted_by text not null,
    constraint webhook_inbox_acts_act_is_known check (act in ('retry', 'discard', 'correct')),
    constraint webhook_inbox_acts_discard_has_a_reason check (act = 'retry' or reason is not null),
    constraint webhook_inbox_acts_texts_are_short check (length(reason) <= 500 and length(acted_by) <= 100)
);
-- Shows the acts of one message, and lets the pruning find out that there are none.
create index webhook_inbox_acts_by_row on webhook_inbox_acts (inbox_id, act_id);
create trigger webhook_inbox_acts_are_append_only before update or delete or truncate on webhook_inbox_acts
    for each statement execute function refuse_change();

-- What people stated about payments. The ledger has the correction and a hash of the texts; the texts are
-- here, where they can be erased.
create table corrections (
    correction_id uuid primary key,
    pledge_id uuid not null,
    -- The provider's payment, and the object of it, as the request named them.
    payment_id text not null,
    stated jsonb not null,
    -- The messages in review that it settles.
    answers bigint[] not null,
    reason text not null,
    evidence text,
    -- Of reason and evidence, as the event names it.
    text_sha256 text not null,
    asked_by text not null,
    asked_at timestamptz not null default now(),
    -- proposed: a second person has to confirm it; recorded: it is in the ledger; withdrawn: it never will
    -- be.
    status text not null default 'proposed',
    ended_by text,
    ended_at timestamptz,
    -- Where the ledger says so.
    position bigint,
    constraint corrections_status_is_known check (status in ('proposed', 'recorded', 'withdrawn')),
    constraint corrections_recorded_have_a_position check ((status = 'recorded') = (position is not null)),
    constraint corrections_texts_are_short check (
        length(reason) <= 500 and length(evidence) <= 2000
        and length(asked_by) <= 100 and length(ended_by) <= 100
    )
);
-- Operators look at what waits, newest first.
create index corrections_proposed on corrections (asked_at desc) where status = 'proposed';

-- Takes due rows for one worker: pledges in the order in which they have waited, and of each pledge
-- all rows that are due, in the order of arrival. A pledge of which another worker has a row is left
-- out, so facts of one pledge are worked on by one worker at a time.
--
-- Claims are made one after the other, under a lock that is taken before the rows are looked at.
-- Row locks alone would not do: a worker that skips the locked first row of a pledge could still
-- take a later one that the other worker did not see yet.
create function webhook_inbox_claim(max_rows int, claim_seconds float8)
returns table (
    inbox_id bigint, provider text, origin text, webhook_id text, pledge_id uuid, body text, attempts int
)
language plpgsql
-- A session keeps the plans it made while the table was small, so they are left no choice but the right
-- index; and compiling a plan takes longer than running it. That is why a row that waits is called unfinished
-- below where it is found by its pledge or its id: "pending" would allow the index of all that waits, which
-- is the wrong one when much does.
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
    returning w.inbox_id, w.provider, w.origin, w.webhook_id, w.pledge_id, w.body, w.attempts;
end;
$$;
revoke all on function webhook_inbox_claim from public;

-- Looks at the next max_rows rows after one, and deletes those that were finished by the worker long
-- ago. Nobody may delete otherwise: it has the rights of its owner. A message that was deleted would be taken
-- for new if it were delivered again, so nothing is deleted that a provider may still repeat. What an
-- operator decided on stays with the decision.
--
-- Returns the last row that was looked at, null when those that follow are too young, and how many
-- were deleted.
create function webhook_inbox_prune(after_id bigint, older_than_seconds float8, max_rows int)
returns table (last_id bigint, deleted bigint)
language plpgsql
security definer
set search_path = public, pg_temp
-- As above: no choice but the index.
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
