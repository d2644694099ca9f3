-- Every genuine webhook, kept before it is answered with 200. A worker turns the rows into
-- commands; nothing is deleted here, only its status moves on.
create table webhook_inbox (
    inbox_id bigint generated always as identity primary key,
    provider text not null,
    -- The provider's id of the message: the same for every delivery of it.
    webhook_id text not null,
    event_type text not null,
    -- Facts of one pledge are worked on in the order of arrival, one at a time.
    pledge_id uuid,
    -- The bytes that were signed, which are JSON; as text, since nothing here looks inside.
    body text not null,
    received_at timestamptz not null default now(),
    status text not null default 'pending',
    attempts int not null default 0,
    next_attempt_at timestamptz not null default now(),
    finished_at timestamptz,
    -- Why it waits, was ignored, needs review or is dead.
    reason text,
    constraint webhook_inbox_status_is_known
        check (status in ('pending', 'processed', 'ignored', 'review', 'dead')),
    constraint webhook_inbox_texts_are_short check (
        length(provider) <= 50 and length(webhook_id) <= 200 and length(event_type) <= 200
    ),
    -- The last word on duplicates: a message is kept once however often it is delivered.
    constraint webhook_inbox_is_idempotent unique (provider, webhook_id)
);
-- The worker asks for what is due; finished rows, which are nearly all, are not in here.
create index webhook_inbox_due on webhook_inbox (next_attempt_at, inbox_id) where status = 'pending';
-- The worker asks whether an earlier fact of the same pledge still waits.
create index webhook_inbox_pending_by_pledge on webhook_inbox (pledge_id, inbox_id) where status = 'pending';
-- Operators look at what needs a person.
create index webhook_inbox_unhappy on webhook_inbox (inbox_id) where status in ('review', 'dead');

-- Wakes the worker; it also polls, so a lost notification only costs time.
create function notify_webhook_inbox() returns trigger language plpgsql as $$
begin
    notify webhook_inbox;
    return null;
end;
$$;
create trigger webhook_inbox_wakes_the_worker after insert on webhook_inbox
    for each statement execute function notify_webhook_inbox();
