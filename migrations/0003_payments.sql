-- What was asked of payment providers, so that it can be asked again what became of it: payment sessions, and
-- refunds. None of this is money: what happened to money is in the ledger, and only there. These rows say
-- where to ask.

-- Every session on which a donor could pay. Written after the provider has opened it, and before the donor is
-- sent there.
create table payment_sessions (
    provider text not null,
    -- The provider's own id.
    session_id text not null,
    pledge_id uuid not null,
    amount_minor bigint not null,
    currency text not null,
    created_at timestamptz not null default now(),
    -- When the provider is asked next what happened on it, how often it was asked, and when last. A session
    -- of a pledge whose time is over is asked about once more since then, whatever its turn.
    next_check_at timestamptz not null default now(),
    checks int not null default 0,
    checked_at timestamptz,
    -- Since when nothing more can happen on it that we do not know.
    ended_at timestamptz,
    primary key (provider, session_id),
    constraint payment_sessions_amount_is_positive check (amount_minor > 0),
    constraint payment_sessions_texts_are_short check (
        length(provider) <= 50 and length(session_id) <= 200 and length(currency) = 3
    )
);
-- The sessions of a pledge are looked for before it is paid on another one, and before it expires.
create index payment_sessions_by_pledge on payment_sessions (pledge_id);
-- Which sessions are to be asked about; those that have ended, which are nearly all, are not in here.
create index payment_sessions_due on payment_sessions (next_check_at) where ended_at is null;

-- Every refund that an organiser asked for, under their key: a repeated request asks for the same refund
-- again, although less of the payment is left by then.
create table refund_requests (
    pledge_id uuid not null,
    -- A keyed hash of the organiser's idempotency key; the provider knows the refund by it.
    request_key text not null,
    payment_id text not null,
    amount_minor bigint not null,
    currency text not null,
    -- Why, in the organiser's words.
    reason text,
    requested_at timestamptz not null default now(),
    -- The provider's own id, once it has answered.
    refund_id text,
    -- When the provider is asked next whether the money has gone back, and how often it was asked.
    next_check_at timestamptz not null default now(),
    checks int not null default 0,
    -- Since when there is nothing more to ask: the ledger has the refund, or it is too long ago.
    ended_at timestamptz,
    primary key (pledge_id, request_key),
    constraint refund_requests_amount_is_positive check (amount_minor > 0),
    constraint refund_requests_texts_are_short check (
        length(request_key) <= 100 and length(payment_id) <= 200 and length(currency) = 3
        and length(reason) <= 1000
    ),
    constraint refund_requests_refund_id_is_short check (length(refund_id) <= 200)
);
-- Which refunds are to be asked about.
create index refund_requests_due on refund_requests (next_check_at) where ended_at is null;
