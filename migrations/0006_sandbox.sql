-- The sandbox provider's own books. It stands for somebody else's system: nothing outside of payment-sandbox
-- reads these tables, and they refer to nothing outside. What happened is kept as facts, apart from the
-- messages that tell of it: its reports and its books are made of facts, whatever became of the messages.

create schema sandbox;

create table sandbox.sessions (
    session_id uuid primary key default gen_random_uuid(),
    -- The order in which sessions are listed.
    number bigint generated always as identity,
    -- The merchant's reference, by which opening a session is idempotent.
    reference uuid not null,
    payment_id text not null default 'pay_' || replace(gen_random_uuid()::text, '-', ''),
    amount_minor bigint not null,
    currency text not null,
    return_url text not null,
    status text not null default 'open',
    created_at timestamptz not null default now(),
    decided_at timestamptz,
    -- From when on the money counts as taken.
    captured_at timestamptz,
    -- What was given back, what is in dispute, and what disputes and reversals took away: more than was
    -- captured, if banks take more. It is counted here too, and not only in the facts, because this row is
    -- what concurrent requests wait for: whoever comes second sees what the first has claimed.
    claimed_minor bigint not null default 0,
    -- How many facts there are; the next one's number is taken here for the same reason.
    fact_count int not null default 0,
    constraint sessions_status_is_known
        check (status in ('open', 'approved', 'declined', 'voided', 'closed')),
    constraint sessions_are_numbered unique (number),
    constraint sessions_are_one_per_payment unique (payment_id),
    constraint sessions_claims_are_not_negative check (claimed_minor >= 0)
);
-- A closed session takes no payment any more, and another may be opened for the same reference.
create unique index sessions_are_one_per_reference on sandbox.sessions (reference) where status <> 'closed';

-- What happened to a payment, or is about to: a fact counts from occurs_at on.
create table sandbox.facts (
    session_id uuid not null references sandbox.sessions,
    number int not null,
    type text not null,
    amount_minor bigint,
    -- The refund, the dispute or the reversal that it is about.
    subject_id text,
    reason text,
    occurs_at timestamptz not null,
    -- Since when its messages are planned.
    planned_at timestamptz,
    primary key (session_id, number),
    constraint facts_type_is_known check (type in (
        'payment.authorized', 'payment.captured', 'payment.failed', 'payment.cancelled',
        'settlement.confirmed', 'payment.refunded', 'refund.failed', 'payment.reversed', 'reversal.cancelled',
        'dispute.inquiry', 'dispute.opened', 'dispute.won', 'dispute.lost', 'dispute.reinstated'
    ))
);
-- The planner asks for what has become true and is not planned yet.
create index facts_to_plan on sandbox.facts (occurs_at) where planned_at is null;
-- A reversal is nothing but its facts, each of which happens once.
create unique index facts_reverse_once on sandbox.facts (subject_id, type)
    where type in ('payment.reversed', 'reversal.cancelled');

-- What is true by now. A payment is voided only before its capture is true, and then the capture and its
-- settlement never become so. A fact about a refund, a dispute or a reversal stands until the next one
-- about it.
create view sandbox.true_facts as
select f.*, f.subject_id is null or not exists (
        select from sandbox.facts later
        where later.session_id = f.session_id and later.subject_id = f.subject_id
            and later.number > f.number and later.occurs_at <= now()
    ) as stands
from sandbox.facts f join sandbox.sessions s using (session_id)
where f.occurs_at <= now()
    and not (s.status = 'voided' and f.type in ('payment.captured', 'settlement.confirmed'));

-- Refunds that the merchant asked for.
create table sandbox.refunds (
    refund_id text primary key default 're_' || replace(gen_random_uuid()::text, '-', ''),
    session_id uuid not null references sandbox.sessions,
    idempotency_key text not null,
    amount_minor bigint not null,
    -- Whether it came to nothing after all.
    failed boolean not null default false,
    constraint refunds_are_positive check (amount_minor > 0),
    constraint refunds_are_one_per_key unique (session_id, idempotency_key)
);

-- Disputes that the payer's bank opened.
create table sandbox.disputes (
    dispute_id text primary key default 'dp_' || replace(gen_random_uuid()::text, '-', ''),
    session_id uuid not null references sandbox.sessions,
    -- How much is, or was, in question.
    amount_minor bigint not null,
    status text not null,
    -- How much of it is withdrawn, or lost.
    claimed_minor bigint not null,
    constraint disputes_are_positive check (amount_minor > 0),
    constraint disputes_status_is_known check (status in ('inquiry', 'open', 'won', 'lost', 'reinstated'))
);

-- Webhooks to send, until the merchant answers 2xx.
create table sandbox.deliveries (
    delivery_id bigint generated always as identity primary key,
    -- Of the message: sent again, it carries the same id, so this does not name a delivery.
    webhook_id text not null,
    session_id uuid not null references sandbox.sessions,
    -- The fact that it tells of, or that it was sent beside.
    fact_number int,
    -- first and again are genuine, lost is genuine and never sent; forged and malformed are for a merchant to
    -- refuse.
    kind text not null,
    -- Whether it was held back so that later messages overtake it.
    reordered boolean not null default false,
    body text not null,
    attempts int not null default 0,
    created_at timestamptz not null default now(),
    -- Since when it waits for a burst to fill.
    held_since timestamptz,
    next_attempt_at timestamptz not null,
    delivered_at timestamptz,
    last_error text,
    constraint deliveries_kind_is_known check (kind in ('first', 'again', 'lost', 'forged', 'malformed'))
);
-- The sender asks for what is due.
create index deliveries_due on sandbox.deliveries (next_attempt_at)
    where delivered_at is null and held_since is null;
-- Whether a burst is full is asked many times a second.
create index deliveries_held on sandbox.deliveries (held_since) where held_since is not null;

-- How badly the provider behaves: one row, so that it outlives a restart.
create table sandbox.dial (
    only_row boolean primary key default true,
    -- Of all chance, so that a run can be repeated.
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
