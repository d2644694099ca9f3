-- Hourly series, for campaigns that are followed closely. All hours are kept, and all of them can be rebuilt
-- from position 1: the projection is new, and fills its table by itself.

-- What happened in each hour (UTC) to a campaign and its pledges, by the rules of campaign_days: captures
-- count in the hour in which the money moved. Hours are asked for newest first, by the primary key.
create table campaign_hours (
    campaign_id uuid not null,
    -- The beginning of the hour.
    hour timestamptz not null,
    currency text not null,
    -- Pledges made.
    created bigint not null default 0,
    -- Pledges whose money was taken, and how much.
    captured bigint not null default 0,
    captured_minor bigint not null default 0,
    primary key (campaign_id, hour)
);

grant select, insert, update, delete on campaign_hours to careforall_projector;
grant select on campaign_hours to careforall_reader, careforall_auditor;
