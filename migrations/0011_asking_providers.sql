-- Providers are asked for what no message told: about sessions, about refunds, and before a pledge expires.

-- When the provider was asked last. A session of a pledge whose time is over is asked about once more
-- since then, whatever its turn.
alter table payment_sessions add column checked_at timestamptz;

alter table refund_requests
    -- The provider's own id, once it has answered.
    add column refund_id text,
    -- When the provider is asked next whether the money has gone back, and how often it was asked.
    add column next_check_at timestamptz not null default now(),
    add column checks int not null default 0,
    -- Since when there is nothing more to ask: the ledger has the refund, or it is too long ago.
    add column ended_at timestamptz,
    add constraint refund_requests_refund_id_is_short check (length(refund_id) <= 200);
create index refund_requests_due on refund_requests (next_check_at) where ended_at is null;
grant update (refund_id, next_check_at, checks, ended_at) on refund_requests to careforall_writer;

-- Who asks providers also lets pledges expire: webhook-ingest, and no longer a projector.
revoke all on payment_sessions from careforall_projector;
grant select (pledge_id, status, created_at) on pledges to careforall_writer;

-- The donor behind one pledge, for whoever makes another pledge of the same donor. The writers may
-- look up one that they know, and cannot go through all of them.
create function pledge_donor_of(pledge uuid)
returns table (donor_id uuid, name text, email text, message text)
language sql
stable
security definer
set search_path = public, pg_temp
as $$
    select d.donor_id, d.name, d.email, d.message from pledge_donors d where d.pledge_id = pledge;
$$;
revoke all on function pledge_donor_of from public;
grant execute on function pledge_donor_of to careforall_writer;

-- Projectors only read the ledger now.
revoke execute on function ledger_append from careforall_projector;
