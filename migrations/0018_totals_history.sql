-- What totals and accounts were at any earlier position.

-- The totals of a campaign after each of its events. One row per event, so that the totals as of any
-- position or time are one look-up. Rows are only added.
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
    charged_back_minor bigint not null,
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

-- Each donor's first capture for a campaign, so that a donor who gives twice is one donor.
create table campaign_first_gifts (
    campaign_id uuid not null,
    donor_id uuid not null,
    position bigint not null,
    primary key (campaign_id, donor_id)
);

-- A campaign's part of the journal, up to a position.
create index journal_by_campaign on journal (campaign_id, position, line);

grant select, insert, update, delete on campaign_totals_history, campaign_first_gifts to careforall_projector;
grant select on campaign_totals_history, campaign_first_gifts to careforall_reader, careforall_auditor;
