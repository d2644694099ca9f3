-- Read tables: what projectors make of the ledger, in the shape in which it is asked for. All of it can be
-- rebuilt from position 1, so nothing here is the last word on anything. A rebuild makes tables like these in
-- a schema of its own and then changes places with them: there are no triggers and no foreign keys, which it
-- would lose. Amounts are in minor units of the row's currency.

-- How far each version of a projector has come, and which worker may move it. The checkpoint is moved in the
-- transaction that writes the rows, under the token of the lease: a worker that lost its lease changes
-- nothing. The lease ends with the holder's database session, which a killed process loses at once (the
-- session holds an advisory lock under the token), and with its time, if the holder hangs.
create table projector_checkpoints (
    name text not null,
    version int not null,
    position bigint not null default 0,
    -- Counts up when the rows were replaced otherwise than by folding on: Redis then takes the new ones
    -- whatever their position.
    generation int not null default 0,
    lease_token int not null default 0,
    leased_until timestamptz not null default '-infinity',
    updated_at timestamptz not null default now(),
    -- running, or stopped: it cannot fold the event at blocked_position, and tries again. A projector that
    -- stopped says so here, and others go on without it.
    status text not null default 'running',
    blocked_position bigint,
    reason text,
    stopped_at timestamptz,
    primary key (name, version),
    constraint projector_checkpoints_status_is_known check (status in ('running', 'stopped')),
    constraint projector_checkpoints_stopped_say_why check (
        (status = 'stopped') = (blocked_position is not null)
        and (status = 'stopped') = (reason is not null)
        and (status = 'stopped') = (stopped_at is not null)
    )
);

-- Projections that are being built anew beside the live ones, each in a schema of its own. Only the owner of
-- the schema rebuilds; auditors may watch.
create table projection_rebuilds (
    name text primary key,
    version int not null,
    -- The last migration when it began: tables of another shape are not built on.
    migration bigint not null,
    -- The last position that it has folded.
    position bigint not null default 0,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Campaigns.

-- For the search that forgives typing errors. A trusted extension: whoever owns the database may make it,
-- without being a superuser. Its files come with Postgres's server package, or with one that is named
-- contrib.
create extension if not exists pg_trgm;

create table campaigns (
    campaign_id uuid primary key,
    status text not null,
    title text not null,
    description text,
    goal_minor bigint not null,
    currency text not null,
    ends_at timestamptz,
    created_at timestamptz not null,
    published_at timestamptz,
    closed_at timestamptz,
    -- The position of the campaign's own last event.
    position bigint not null,
    -- The words of title and description, reduced to their stems. English rules; words of other languages are
    -- found too, if not in all their forms.
    words tsvector generated always as (
        setweight(to_tsvector('english', title), 'A')
        || setweight(to_tsvector('english', coalesce(description, '')), 'B')
    ) stored
);
-- The public list: newest first, by keyset.
create index campaigns_newest on campaigns (created_at desc, campaign_id desc);
-- The list by the end, soonest first, by keyset.
create index campaigns_ending on campaigns (ends_at, campaign_id) where ends_at is not null;
-- The search by words.
create index campaigns_words on campaigns using gin (words);
-- The search for what looks like the title, or is a part of it.
create index campaigns_title_trigrams on campaigns using gin (title gin_trgm_ops);

-- What a campaign has raised, kept by increments.
create table campaign_totals (
    campaign_id uuid primary key,
    -- A draft's totals are for organisers.
    published boolean not null default false,
    currency text not null,
    goal_minor bigint not null,
    -- Net of what went back.
    raised_minor bigint not null default 0,
    -- Of captured money: gone by refunds, by reversals and by lost disputes.
    refunded_minor bigint not null default 0,
    reversed_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    -- Gone beyond what was captured, and withdrawn at the provider by disputes that are open.
    loss_minor bigint not null default 0,
    in_dispute_minor bigint not null default 0,
    -- Money held apart: captured, but not by a pledge that can use it. Net of what went back.
    unapplied_minor bigint not null default 0,
    -- Distinct donors with captured money.
    donors bigint not null default 0,
    -- How many pledges are in each state.
    pending bigint not null default 0,
    authorized bigint not null default 0,
    captured bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    expired bigint not null default 0,
    cancelled bigint not null default 0,
    -- The last event counted, and its instant.
    position bigint not null,
    as_of timestamptz not null,
    constraint campaign_totals_are_not_negative check (
        raised_minor >= 0 and unapplied_minor >= 0 and donors >= 0 and pending >= 0 and authorized >= 0
        and captured >= 0 and completed >= 0 and failed >= 0 and expired >= 0 and cancelled >= 0
    ),
    constraint campaign_totals_gone_is_not_negative check (
        refunded_minor >= 0 and reversed_minor >= 0 and charged_back_minor >= 0 and loss_minor >= 0
        and in_dispute_minor >= 0
    )
);
-- The list by what was raised, by keyset.
create index campaign_totals_most_raised on campaign_totals (raised_minor desc, campaign_id desc);

-- The totals of a campaign after each of its events. One row per event, so that the totals as of any position
-- or time are one look-up. Rows are only added.
create table campaign_totals_history (
    campaign_id uuid not null,
    position bigint not null,
    -- When that event was recorded.
    as_of timestamptz not null,
    published boolean not null,
    currency text not null,
    goal_minor bigint not null,
    raised_minor bigint not null,
    refunded_minor bigint not null,
    reversed_minor bigint not null,
    charged_back_minor bigint not null,
    loss_minor bigint not null,
    in_dispute_minor bigint not null,
    unapplied_minor bigint not null,
    donors bigint not null,
    pending bigint not null,
    authorized bigint not null,
    captured bigint not null,
    completed bigint not null,
    failed bigint not null,
    expired bigint not null,
    cancelled bigint not null,
    -- As of a position.
    primary key (campaign_id, position)
);
-- As of a time: events that were recorded at the same instant are told apart by their position.
create index campaign_totals_history_by_time on campaign_totals_history (campaign_id, as_of, position);

-- The donors of a campaign, so that in the history, too, a donor who gives twice is one donor.
create table campaign_first_gifts (
    campaign_id uuid not null,
    donor_id uuid not null,
    -- Their captured pledges. Who has none any more has no row.
    gifts bigint not null,
    -- Of the first of these: since then they are a donor.
    position bigint not null,
    primary key (campaign_id, donor_id)
);

-- What a donor has given to a campaign, so that a donor who gives twice is one donor. A donor is a pseudonym:
-- a guest's is made of the address, an account's of the account. So a registered donor's history is that of
-- the account's pseudonym and of every guest's pseudonym that the account has claimed: "donor_id = any (...)"
-- here, in pledges, and in unapplied_payments.
-- Who has no captured pledge any more has no row.
create table campaign_donors (
    campaign_id uuid not null,
    donor_id uuid not null,
    captured_pledges bigint not null,
    captured_minor bigint not null default 0,
    -- Of that money: gone by refunds, by reversals and by lost disputes.
    refunded_minor bigint not null default 0,
    reversed_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    -- The first and the last instant at which money was captured.
    first_captured_at timestamptz not null,
    last_captured_at timestamptz not null,
    primary key (campaign_id, donor_id),
    constraint campaign_donors_give_back_what_was_taken check (
        refunded_minor >= 0 and reversed_minor >= 0 and charged_back_minor >= 0
        and refunded_minor + reversed_minor + charged_back_minor <= captured_minor
    )
);
-- A donor's campaigns.
create index campaign_donors_by_donor on campaign_donors (donor_id);

-- How much of a donor's money was captured at which instant. A capture that is heard of late, or corrected,
-- may move to another instant, and only with all of them is it known which are then the first and the last.
create table campaign_captures (
    campaign_id uuid not null,
    donor_id uuid not null,
    captured_at timestamptz not null,
    -- Never 0. Negative where less was captured from then on.
    captured_minor bigint not null,
    primary key (campaign_id, donor_id, captured_at)
);

-- Pledges.

create table pledges (
    pledge_id uuid primary key,
    campaign_id uuid not null,
    donor_id uuid not null,
    status text not null,
    amount_minor bigint not null,
    -- Of the money that pays the pledge, not of money that it holds apart. None where nothing is captured.
    captured_minor bigint,
    refunded_minor bigint not null default 0,
    reversed_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    -- Gone beyond what was captured, by whichever of its payments.
    loss_minor bigint not null default 0,
    currency text not null,
    anonymous boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- The position of the pledge's first event, by which those who show it find its row in pledge_donors.
    created_position bigint not null,
    -- The position of the pledge's own last event.
    position bigint not null,
    constraint pledges_give_back_what_was_taken check (
        refunded_minor >= 0 and reversed_minor >= 0 and charged_back_minor >= 0 and loss_minor >= 0
        and refunded_minor + reversed_minor + charged_back_minor <= coalesce(captured_minor, 0)
    )
);
-- Which pledges have been pending for too long.
create index pledges_pending on pledges (created_at) where status = 'pending';
-- A donor's pledges, newest first.
create index pledges_by_donor on pledges (donor_id, position desc);
-- A campaign's pledges, newest first.
create index pledges_by_campaign on pledges (campaign_id, position desc);

-- What happened to a pledge, one row per event.
create table pledge_history (
    pledge_id uuid not null,
    position bigint not null,
    event_type text not null,
    -- The state that the event led to; none where it changed no state.
    status text,
    -- What the provider said of a payment, in a word such as refunded; none where it said nothing.
    said text,
    amount_minor bigint,
    recorded_at timestamptz not null,
    primary key (pledge_id, position)
);

-- Captured gifts. Names and messages are joined from pledge_donors when they are shown.
create table donations (
    -- Of the event that told of its first capture. It is found by the pledge's positions in pledge_history.
    position bigint primary key,
    pledge_id uuid not null,
    campaign_id uuid not null,
    donor_id uuid not null,
    amount_minor bigint not null,
    currency text not null,
    anonymous boolean not null,
    -- When money of it was first captured.
    captured_at timestamptz not null
);
-- The donation wall: newest first, by keyset.
create index donations_by_campaign on donations (campaign_id, position desc);

-- How much of a gift was captured at which instant, as campaign_captures has it of a donor.
create table pledge_captures (
    pledge_id uuid not null,
    captured_at timestamptz not null,
    -- Never 0. Negative where less was captured from then on.
    captured_minor bigint not null,
    primary key (pledge_id, captured_at)
);

-- Payments that were taken and held apart, each for ever: what became of it is its status.
create table unapplied_payments (
    pledge_id uuid not null,
    -- The provider's payment.
    payment_id text not null,
    campaign_id uuid not null,
    donor_id uuid not null,
    -- How much was taken.
    amount_minor bigint not null,
    -- How much of it went back, by refund or lost dispute.
    given_back_minor bigint not null default 0,
    currency text not null,
    -- not_needed: the pledge was finished or paid; above_limit: so much more than was promised that a person
    -- has to accept it.
    reason text not null,
    -- held: at least some of it is still there; refunded: all of it went back, in whatever way;
    -- accepted: it pays the pledge accepted_as, this one or another one of the donor.
    status text not null default 'held',
    accepted_as uuid,
    -- Where the ledger says that it was taken, and when it said so.
    position bigint not null,
    received_at timestamptz not null,
    primary key (pledge_id, payment_id),
    constraint unapplied_payments_reason_is_known check (reason in ('not_needed', 'above_limit')),
    constraint unapplied_payments_status_is_known check (status in ('held', 'refunded', 'accepted')),
    constraint unapplied_payments_give_back_what_was_taken
        check (given_back_minor between 0 and amount_minor),
    constraint unapplied_payments_refunded_are_given_back
        check ((status = 'refunded') = (given_back_minor = amount_minor)),
    constraint unapplied_payments_accepted_name_a_pledge
        check ((status = 'accepted') = (accepted_as is not null))
);
-- What waits for a person, which is seldom anything.
create index unapplied_payments_above_limit on unapplied_payments (pledge_id)
    where reason = 'above_limit' and status = 'held';
-- The organisers' list: one status, newest first, by keyset.
create index unapplied_payments_newest on unapplied_payments (status, position desc);
-- A donor's money that is held apart.
create index unapplied_payments_by_donor on unapplied_payments (donor_id);

-- Days.

-- What happened on each day (UTC) to a campaign and its pledges. What becomes of a pledge counts on the day
-- on which that was recorded, not on the pledge's own. Money counts on the day on which it moved, whenever
-- that was heard, so a day that has ended may change. A day of which nothing is left has no row.
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
    -- Of captured money, whenever it was captured: gone by refunds, by reversals and by lost disputes.
    refunded_minor bigint not null default 0,
    reversed_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    -- The day's change of what is held apart.
    unapplied_minor bigint not null default 0,
    -- What the day added to the raised money; the sum over all days is raised_minor of the totals.
    net_minor bigint not null
        generated always as (captured_minor - refunded_minor - reversed_minor - charged_back_minor) stored,
    -- When the last change was recorded that came after the day had ended; none if none did.
    revised_at timestamptz,
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
    reversed_minor bigint not null default 0,
    charged_back_minor bigint not null default 0,
    unapplied_minor bigint not null default 0,
    net_minor bigint not null
        generated always as (captured_minor - refunded_minor - reversed_minor - charged_back_minor) stored,
    revised_at timestamptz,
    primary key (currency, day)
);

-- Double entry. Each line of the journal moves an amount from one account to another, so a line cannot be out
-- of balance. The accounts of a campaign are:
--
-- provider_clearing  asset: what the provider has taken and not yet paid out; refunds and
--                    chargebacks are taken from it, so it may be overdrawn
-- bank               asset: what was settled
-- disputed           asset: what disputes that are open have withdrawn
-- campaign           what was given to the campaign, before what went back
-- unapplied          liability: money that is held apart
-- refunds            contra to campaign: gone by refunds
-- reversals          contra to campaign: gone by reversals
-- chargebacks        contra to campaign: gone by lost disputes
-- losses             expense: gone beyond what was captured
-- fees               expense: the provider's fees; nothing is posted until a fact tells of one
--
-- A balance is debits less credits: assets and what went back are positive, campaign and unapplied are
-- negative. In the totals, raised_minor is -(campaign + refunds + reversals + chargebacks), unapplied_minor
-- is -unapplied, loss_minor is losses, and in_dispute_minor is disputed.

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
    -- When the money moved, and when the event was recorded that tells of it.
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    primary key (position, line),
    constraint journal_amount_is_positive check (amount_minor > 0),
    constraint journal_accounts_differ check (debit_account <> credit_account),
    constraint journal_accounts_are_known check (
        debit_account in (
            'provider_clearing', 'bank', 'disputed', 'campaign', 'unapplied', 'refunds', 'reversals',
            'chargebacks', 'losses', 'fees'
        )
        and credit_account in (
            'provider_clearing', 'bank', 'disputed', 'campaign', 'unapplied', 'refunds', 'reversals',
            'chargebacks', 'losses', 'fees'
        )
    )
);
-- A campaign's part of the journal, up to a position.
create index journal_by_campaign on journal (campaign_id, position, line);

-- The balances of a campaign's accounts, in one row, so that the database itself refuses any that does not
-- add up to zero.
create table campaign_accounts (
    campaign_id uuid not null,
    currency text not null,
    provider_clearing_minor bigint not null default 0,
    bank_minor bigint not null default 0,
    disputed_minor bigint not null default 0,
    campaign_minor bigint not null default 0,
    unapplied_minor bigint not null default 0,
    refunds_minor bigint not null default 0,
    reversals_minor bigint not null default 0,
    chargebacks_minor bigint not null default 0,
    losses_minor bigint not null default 0,
    fees_minor bigint not null default 0,
    -- The last event that was posted.
    position bigint not null,
    primary key (campaign_id, currency),
    constraint campaign_accounts_are_balanced check (
        provider_clearing_minor + bank_minor + disputed_minor + campaign_minor + unapplied_minor
            + refunds_minor + reversals_minor + chargebacks_minor + losses_minor + fees_minor = 0
    ),
    constraint campaign_accounts_have_the_right_sign check (
        bank_minor >= 0 and disputed_minor >= 0 and campaign_minor <= 0 and unapplied_minor <= 0
        and refunds_minor >= 0 and reversals_minor >= 0 and chargebacks_minor >= 0 and losses_minor >= 0
        and fees_minor >= 0
    )
);

-- The journal as entries: two per line, debits positive and credits negative.
create view account_entries as
select j.position, j.line, a.account, j.campaign_id, j.pledge_id, a.amount_minor, j.currency, j.occurred_at,
    j.recorded_at
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
        ('disputed', c.disputed_minor), ('campaign', c.campaign_minor), ('unapplied', c.unapplied_minor),
        ('refunds', c.refunds_minor), ('reversals', c.reversals_minor), ('chargebacks', c.chargebacks_minor),
        ('losses', c.losses_minor), ('fees', c.fees_minor)
) as a (account, balance_minor);
