-- The stand-in provider keeps what happened apart from the messages that tell of it: its reports
-- and its books are made of facts, whatever became of the messages.

-- A closed session takes no payment any more, and another may be opened for the same reference.
alter table sandbox.sessions
    drop constraint sessions_status_is_known,
    drop constraint sessions_are_one_per_reference,
    -- The order in which sessions are listed.
    add column number bigint generated always as identity,
    -- From when on the money counts as taken.
    add column captured_at timestamptz,
    -- Of the captured money: what was given back, what is in dispute and what disputes took away.
    -- It is counted here too, and not only in the facts, because this row is what concurrent
    -- requests wait for: whoever comes second sees what the first has claimed.
    add column claimed_minor bigint not null default 0,
    -- How many facts there are; the next one's number is taken here for the same reason.
    add column fact_count int not null default 0,
    add constraint sessions_status_is_known
        check (status in ('open', 'approved', 'declined', 'voided', 'closed')),
    add constraint sessions_are_numbered unique (number),
    add constraint sessions_give_back_no_more_than_they_took
        check (claimed_minor between 0 and amount_minor);
create unique index sessions_are_one_per_reference on sandbox.sessions (reference) where status <> 'closed';

-- What happened to a payment, or is about to: a fact counts from occurs_at on.
create table sandbox.facts (
    session_id uuid not null references sandbox.sessions,
    number int not null,
    type text not null,
    amount_minor bigint,
    -- The refund or the dispute that it is about.
    subject_id text,
    reason text,
    occurs_at timestamptz not null,
    -- Since when its messages are planned.
    planned_at timestamptz,
    primary key (session_id, number),
    constraint facts_type_is_known check (type in (
        'payment.authorized', 'payment.captured', 'payment.failed', 'settlement.confirmed',
        'payment.refunded', 'dispute.opened', 'dispute.won', 'dispute.lost'
    ))
);
-- The planner asks for what has become true and is not planned yet.
create index facts_to_plan on sandbox.facts (occurs_at) where planned_at is null;

-- What is true by now. A payment is voided only before its capture is true, and then the capture
-- and its settlement never become so.
create view sandbox.true_facts as
select f.*
from sandbox.facts f join sandbox.sessions s using (session_id)
where f.occurs_at <= now()
    and not (s.status = 'voided' and f.type in ('payment.captured', 'settlement.confirmed'));

create table sandbox.refunds (
    refund_id text primary key default 're_' || replace(gen_random_uuid()::text, '-', ''),
    session_id uuid not null references sandbox.sessions,
    idempotency_key text not null,
    amount_minor bigint not null,
    constraint refunds_are_positive check (amount_minor > 0),
    constraint refunds_are_one_per_key unique (session_id, idempotency_key)
);

create table sandbox.disputes (
    dispute_id text primary key default 'dp_' || replace(gen_random_uuid()::text, '-', ''),
    session_id uuid not null references sandbox.sessions,
    amount_minor bigint not null,
    status text not null,
    constraint disputes_are_positive check (amount_minor > 0),
    constraint disputes_status_is_known check (status in ('open', 'won', 'lost'))
);

-- What the provider had reported or was about to report becomes facts. A capture came 200 ms after
-- the approval; a settlement that was reported came before now.
insert into sandbox.facts (session_id, number, type, amount_minor, reason, occurs_at, planned_at)
select s.session_id, row_number() over (partition by s.session_id order by d.next_attempt_at, d.webhook_id),
    d.body::json ->> 'type',
    (d.body::json #>> '{data,amount,amount_minor}')::bigint,
    d.body::json #>> '{data,reason}',
    case
        when d.attempts = 0 then d.next_attempt_at
        when d.body::json ->> 'type' = 'payment.captured' then s.decided_at + interval '200 ms'
        when d.body::json ->> 'type' = 'settlement.confirmed' then now()
        else s.decided_at
    end,
    now()
from sandbox.deliveries d join sandbox.sessions s using (session_id);
update sandbox.sessions s
set fact_count = f.fact_count, captured_at = f.captured_at
from (
    select session_id, count(*) as fact_count,
        min(occurs_at) filter (where type = 'payment.captured') as captured_at
    from sandbox.facts group by session_id
) f
where f.session_id = s.session_id;

-- A message that is sent again carries the same webhook id, so that no longer names a delivery.
alter table sandbox.deliveries
    drop constraint deliveries_pkey,
    alter column webhook_id drop default,
    add column delivery_id bigint generated always as identity primary key,
    -- The fact that it tells of, or that it was sent beside.
    add column fact_number int,
    add column kind text not null default 'first',
    -- Whether it was held back so that later messages overtake it.
    add column reordered boolean not null default false,
    add column created_at timestamptz not null default now(),
    -- Since when it waits for a burst to fill.
    add column held_since timestamptz,
    add constraint deliveries_kind_is_known check (kind in ('first', 'again', 'lost', 'forged', 'malformed'));
alter table sandbox.deliveries alter column kind drop default;
drop index sandbox.deliveries_due;
create index deliveries_due on sandbox.deliveries (next_attempt_at)
    where delivered_at is null and held_since is null;
-- Whether a burst is full is asked many times a second.
create index deliveries_held on sandbox.deliveries (held_since) where held_since is not null;

-- The dial: one row, so that it outlives a restart.
create table sandbox.dial (
    only_row boolean primary key default true,
    seed bigint not null default 0,
    duplicate_rate float8 not null default 0,
    reorder_rate float8 not null default 0,
    delay_ms int not null default 0,
    loss_rate float8 not null default 0,
    burst_size int not null default 0,
    forge_rate float8 not null default 0,
    malformed_rate float8 not null default 0,
    outage_rate float8 not null default 0,
    constraint dial_is_one_row check (only_row)
);
insert into sandbox.dial default values;

grant select, insert, update, delete
    on sandbox.facts, sandbox.refunds, sandbox.disputes, sandbox.dial to careforall_sandbox;
grant select on sandbox.true_facts to careforall_sandbox;
