-- More of what projectors make of the ledger: donors' histories, daily series, and double entry.
-- All of it can be rebuilt from position 1. Two projections are new, and fill their tables from
-- position 1 by themselves.

-- A projector that stopped says so here, and others go on without it.
alter table projector_checkpoints
    -- Counts up when the rows were replaced otherwise than by folding on: Redis then takes the new ones
    -- whatever their position.
    add column generation int not null default 0,
    -- running, or stopped: it cannot fold the event at blocked_position, and tries again.
    add column status text not null default 'running',
    add column blocked_position bigint,
    add column reason text,
    add column stopped_at timestamptz,
    add constraint projector_checkpoints_status_is_known check (status in ('running', 'stopped')),
    add constraint projector_checkpoints_stopped_say_why check (
        (status = 'stopped') = (blocked_position is not null)
        and (status = 'stopped') = (reason is not null)
        and (status = 'stopped') = (stopped_at is not null)
    );

-- What a donor has given to a campaign. A donor is a pseudonym: a guest's is made of the address, an
-- account's of the account. So a registered donor's history is that of the account's pseudonym and of
-- every guest's pseudonym that the account has claimed: "donor_id = any (...)" here, in pledges, and
-- in unapplied_payments.
alter table campaign_donors
    add column captured_minor bigint not null default 0,
    -- Of that money: given back by refund, and lost in disputes.
    add column refunded_minor bigint not null default 0,
    add column charged_back_minor bigint not null default 0,
    add column first_captured_at timestamptz,
    add column last_captured_at timestamptz;

-- What the projector of campaign_totals has passed already; it goes on from there by itself.
with passed as (
    select coalesce((
        select c.position from projector_checkpoints c where c.name = 'campaign_totals' and c.version = 1
    ), 0) as position
), moved as (
    select e.event_type, e.recorded_at, e.payload -> e.event_type as fields
    from events e, passed
    where e.position <= passed.position and e.aggregate_type = 'pledge'
        and e.event_type in ('PledgeCaptured', 'PaymentRefunded', 'DisputeLost')
), sums as (
    select (fields ->> 'campaign_id')::uuid as campaign_id, (fields ->> 'donor_id')::uuid as donor_id,
        coalesce(sum((fields -> 'amount' ->> 'amount_minor')::bigint)
            filter (where event_type = 'PledgeCaptured'), 0)::bigint as captured_minor,
        coalesce(sum((fields -> 'amount' ->> 'amount_minor')::bigint)
            filter (where event_type = 'PaymentRefunded'), 0)::bigint as refunded_minor,
        coalesce(sum((fields -> 'amount' ->> 'amount_minor')::bigint)
            filter (where event_type = 'DisputeLost'), 0)::bigint as charged_back_minor,
        min(recorded_at) filter (where event_type = 'PledgeCaptured') as first_captured_at,
        max(recorded_at) filter (where event_type = 'PledgeCaptured') as last_captured_at
    from moved
    where event_type = 'PledgeCaptured' or fields ->> 'held' = 'raised'
    group by 1, 2
)
update campaign_donors d
set captured_minor = s.captured_minor, refunded_minor = s.refunded_minor,
    charged_back_minor = s.charged_back_minor, first_captured_at = s.first_captured_at,
    last_captured_at = s.last_captured_at
from sums s
where d.campaign_id = s.campaign_id and d.donor_id = s.donor_id;

alter table campaign_donors
    alter column first_captured_at set not null,
    alter column last_captured_at set not null,
    add constraint campaign_donors_give_back_what_was_taken check (
        refunded_minor >= 0 and charged_back_minor >= 0
        and refunded_minor + charged_back_minor <= captured_minor
    );
-- A donor's campaigns.
create index campaign_donors_by_donor on campaign_donors (donor_id);
-- A donor's money that is held apart.
create index unapplied_payments_by_donor on unapplied_payments (donor_id);

-- What happened on each day (UTC) to a campaign and its pledges: the day of the event, not that of
-- the pledge.
create table campaign_days (
    campaign_id uuid not null,
    day date not null,
    currency text not null,
    -- Pledges made, and how much they promised then.
    created bigint not null default 0,
    created_minor bigint not null default 0,
    -- Pledges whose money was taken, and how much.
    captured bigint not null default 0,
    captured_minor bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    expired bigint not null default 0,
    cancelled bigint not null default 0,
    -- Of captured money, whenever it was captured: given back by refund, and lost in disputes.
    refunded_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    -- Taken and held apart; what became of it later is not subtracted.
    unapplied_minor bigint not null default 0,
    -- What the day added to the raised money; the sum over all days is raised_minor of the totals.
    net_minor bigint not null generated always as (captured_minor - refunded_minor - charged_back_minor) stored,
    primary key (campaign_id, day)
);

-- The same over all campaigns of a currency.
create table overall_days (
    currency text not null,
    day date not null,
    created bigint not null default 0,
    created_minor bigint not null default 0,
    captured bigint not null default 0,
    captured_minor bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    expired bigint not null default 0,
    cancelled bigint not null default 0,
    refunded_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    unapplied_minor bigint not null default 0,
    net_minor bigint not null generated always as (captured_minor - refunded_minor - charged_back_minor) stored,
    primary key (currency, day)
);

-- Double entry. Each line of the journal moves an amount from one account to another, so a line
-- cannot be out of balance. The accounts of a campaign are:
--
-- provider_clearing  asset: what the provider has taken and not yet paid out; refunds and
--                    chargebacks are taken from it, so it may be overdrawn
-- bank               asset: what was settled
-- campaign           what was given to the campaign, before what went back
-- refunds            contra to campaign: given back by refund
-- chargebacks        contra to campaign: lost in disputes
-- unapplied          liability: money that is held apart
-- fees               expense: the provider's fees; nothing is posted until a fact tells of one
--
-- A balance is debits less credits: assets and what went back are positive, campaign and unapplied
-- are negative. raised_minor of the totals is -(campaign + refunds + chargebacks), unapplied_minor
-- is -unapplied.
create table journal (
    -- The event that it comes from, and the line of that event.
    position bigint not null,
    line smallint not null,
    debit_account text not null,
    credit_account text not null,
    campaign_id uuid not null,
    pledge_id uuid not null,
    amount_minor bigint not null,
    currency text not null,
    recorded_at timestamptz not null,
    primary key (position, line),
    constraint journal_amount_is_positive check (amount_minor > 0),
    constraint journal_accounts_differ check (debit_account <> credit_account),
    constraint journal_accounts_are_known check (
        debit_account in ('provider_clearing', 'bank', 'campaign', 'unapplied', 'refunds', 'chargebacks', 'fees')
        and credit_account in ('provider_clearing', 'bank', 'campaign', 'unapplied', 'refunds', 'chargebacks', 'fees')
    )
);

-- The balances of a campaign's accounts, in one row, so that the database itself refuses any that
-- does not add up to zero.
create table campaign_accounts (
    campaign_id uuid not null,
    currency text not null,
    provider_clearing_minor bigint not null default 0,
    bank_minor bigint not null default 0,
    campaign_minor bigint not null default 0,
    unapplied_minor bigint not null default 0,
    refunds_minor bigint not null default 0,
    chargebacks_minor bigint not null default 0,
    fees_minor bigint not null default 0,
    -- The last event that was posted.
    position bigint not null,
    primary key (campaign_id, currency),
    constraint campaign_accounts_are_balanced check (
        provider_clearing_minor + bank_minor + campaign_minor + unapplied_minor + refunds_minor
            + chargebacks_minor + fees_minor = 0
    ),
    constraint campaign_accounts_have_the_right_sign check (
        bank_minor >= 0 and campaign_minor <= 0 and unapplied_minor <= 0 and refunds_minor >= 0
        and chargebacks_minor >= 0 and fees_minor >= 0
    )
);

-- The journal as entries: two per line, debits positive and credits negative.
create view account_entries as
select j.position, j.line, a.account, j.campaign_id, j.pledge_id, a.amount_minor, j.currency, j.recorded_at
from journal j
cross join lateral (
    values (j.debit_account, j.amount_minor), (j.credit_account, -j.amount_minor)
) as a (account, amount_minor);

-- The balances as rows.
create view account_balances as
select c.campaign_id, c.currency, a.account, a.balance_minor
from campaign_accounts c
cross join lateral (
    values ('provider_clearing', c.provider_clearing_minor), ('bank', c.bank_minor),
        ('campaign', c.campaign_minor), ('unapplied', c.unapplied_minor), ('refunds', c.refunds_minor),
        ('chargebacks', c.chargebacks_minor), ('fees', c.fees_minor)
) as a (account, balance_minor);

-- What webhooks were received, when, and what became of them. The inbox is the log already, so this
-- is a view: it can neither lag nor differ. Bodies are left out. Messages that were processed or
-- ignored are in it until the inbox is pruned; what was not genuine never came in.
create view webhook_log as
select w.inbox_id, w.provider, w.webhook_id, w.event_type, w.pledge_id, w.received_at, w.status as outcome,
    w.reason, w.attempts, w.finished_at
from webhook_inbox w;

grant select, insert, update, delete on campaign_days, overall_days, journal, campaign_accounts
    to careforall_projector;
grant select on campaign_days, overall_days, journal, campaign_accounts, account_entries, account_balances,
    webhook_log to careforall_reader, careforall_auditor;
