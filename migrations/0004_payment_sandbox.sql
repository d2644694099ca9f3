-- The stand-in provider's own books. It is somebody else's system: nothing outside of
-- payment-sandbox reads these tables, and they refer to nothing outside.
create schema sandbox;

create table sandbox.sessions (
    session_id uuid primary key default gen_random_uuid(),
    -- The merchant's reference, by which opening a session is idempotent.
    reference uuid not null,
    payment_id text not null default 'pay_' || replace(gen_random_uuid()::text, '-', ''),
    amount_minor bigint not null,
    currency text not null,
    return_url text not null,
    status text not null default 'open',
    created_at timestamptz not null default now(),
    decided_at timestamptz,
    constraint sessions_status_is_known check (status in ('open', 'approved', 'declined', 'voided')),
    constraint sessions_are_one_per_reference unique (reference),
    constraint sessions_are_one_per_payment unique (payment_id)
);

-- Webhooks to send, until the merchant answers 2xx.
create table sandbox.deliveries (
    webhook_id text primary key default 'msg_' || replace(gen_random_uuid()::text, '-', ''),
    session_id uuid not null references sandbox.sessions,
    body text not null,
    attempts int not null default 0,
    next_attempt_at timestamptz not null,
    delivered_at timestamptz,
    last_error text
);
create index deliveries_due on sandbox.deliveries (next_attempt_at) where delivered_at is null;
