-- What projectors make of the ledger. All of it can be rebuilt from position 1.

-- How far each version of a projector has come, and which worker may move it. The checkpoint is
-- moved in the transaction that writes the rows, under the token of the lease: a worker that lost
-- its lease changes nothing. The lease ends with the holder's database session, which a killed
-- process loses at once (the session holds an advisory lock under the token), and with its time, if
-- the holder hangs.
create table projector_checkpoints (
    name text not null,
    version int not null,
    position bigint not null default 0,
    lease_token int not null default 0,
    leased_until timestamptz not null default '-infinity',
    updated_at timestamptz not null default now(),
    primary key (name, version)
);

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
    position bigint not null
);
-- The public list: newest first, by keyset.
create index campaigns_newest on campaigns (created_at desc, campaign_id desc);

create table campaign_totals (
    campaign_id uuid primary key,
    -- A draft's totals are for organisers.
    published boolean not null default false,
    currency text not null,
    goal_minor bigint not null,
    raised_minor bigint not null default 0,
    -- Money held apart: captured, but not by a pledge that can use it.
    unapplied_minor bigint not null default 0,
    -- Distinct donors with captured money.
    donors bigint not null default 0,
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
    )
);

-- Who has given to what, so that a donor who gives twice is one donor.
create table campaign_donors (
    campaign_id uuid not null,
    donor_id uuid not null,
    captured_pledges bigint not null,
    primary key (campaign_id, donor_id)
);

create table pledges (
    pledge_id uuid primary key,
    campaign_id uuid not null,
    donor_id uuid not null,
    status text not null,
    amount_minor bigint not null,
    captured_minor bigint,
    currency text not null,
    anonymous boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- The position of the pledge's own last event.
    position bigint not null
);
-- Which pledges have been pending for too long.
create index pledges_pending on pledges (created_at) where status = 'pending';
create index pledges_by_donor on pledges (donor_id, position desc);
create index pledges_by_campaign on pledges (campaign_id, position desc);

create table pledge_history (
    pledge_id uuid not null,
    position bigint not null,
    event_type text not null,
    -- The state that the event led to; none where it changed no state.
    status text,
    amount_minor bigint,
    recorded_at timestamptz not null,
    primary key (pledge_id, position)
);

-- Captured gifts. Names and messages are joined from pledge_donors when they are shown.
create table donations (
    position bigint primary key,
    pledge_id uuid not null,
    campaign_id uuid not null,
    donor_id uuid not null,
    amount_minor bigint not null,
    currency text not null,
    anonymous boolean not null,
    captured_at timestamptz not null
);
-- The donation wall: newest first, by keyset.
create index donations_by_campaign on donations (campaign_id, position desc);
