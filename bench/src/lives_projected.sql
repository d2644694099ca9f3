-- What the projectors make of lives.sql, written without them: filling the tables event by event would
-- take longer than everything that is measured.

create temporary view life as
select md5('pledge' || p)::uuid as pledge_id, md5('campaign' || p % 100)::uuid as campaign_id,
    md5('donor' || p / 4)::uuid as donor_id, 201 + p / 1000 * 4000 + p % 1000 as made
from generate_series(0, current_setting('lives.events')::bigint / 4 - 1) as p;

create temporary view happened as
select l.*, stage, l.made + stage * 1000 as position,
    timestamptz '2026-01-01 00:00:00Z' + (l.made + stage * 1000 - 200) * interval '1 second' as at
from life l, generate_series(0, 3) as stage;

insert into campaigns (campaign_id, status, title, goal_minor, currency, created_at, published_at, position)
select md5('campaign' || n)::uuid, 'published', 'Campaign ' || n, 100000000, 'EUR', '2026-01-01 00:00:00Z',
    '2026-01-01 00:00:00Z', 2 + 2 * n
from generate_series(0, 99) n;

insert into pledge_history (pledge_id, position, event_type, status, said, amount_minor, recorded_at)
select pledge_id, position,
    (array['PledgeCreated', 'PledgeAuthorized', 'PledgeCaptured', 'PledgeCompleted'])[1 + stage],
    (array['pending', 'authorized', 'captured', 'completed'])[1 + stage],
    (array[null, 'authorized', 'captured', 'settled'])[1 + stage],
    case when stage < 3 then 2500 end, at
from happened;

insert into pledges (pledge_id, campaign_id, donor_id, status, amount_minor, captured_minor, currency,
    anonymous, created_at, updated_at, created_position, position)
select pledge_id, campaign_id, donor_id, 'completed', 2500, 2500, 'EUR', false, at - interval '3000 seconds',
    at, made, position
from happened where stage = 3;

insert into donations (position, pledge_id, campaign_id, donor_id, amount_minor, currency, anonymous,
    captured_at)
select position, pledge_id, campaign_id, donor_id, 2500, 'EUR', false, at
from happened where stage = 2;

insert into pledge_captures (pledge_id, captured_at, captured_minor)
select pledge_id, at, 2500 from happened where stage = 2;

insert into campaign_totals (campaign_id, published, currency, goal_minor, raised_minor, donors, completed,
    position, as_of)
select campaign_id, true, 'EUR', 100000000, 2500 * count(*), count(distinct donor_id), count(*),
    max(position), max(at)
from happened where stage = 3 group by campaign_id;

insert into campaign_donors (campaign_id, donor_id, captured_pledges, captured_minor, first_captured_at,
    last_captured_at)
select campaign_id, donor_id, count(*), 2500 * count(*), min(at), max(at)
from happened where stage = 2 group by campaign_id, donor_id;

insert into campaign_captures (campaign_id, donor_id, captured_at, captured_minor)
select campaign_id, donor_id, at, sum(2500) from happened where stage = 2 group by campaign_id, donor_id, at;

-- Each captured pledge is a donor's first to its campaign: four pledges of a donor go to four campaigns.
insert into campaign_totals_history (campaign_id, position, as_of, published, currency, goal_minor,
    raised_minor, refunded_minor, reversed_minor, charged_back_minor, loss_minor, in_dispute_minor,
    unapplied_minor, donors, pending, authorized, captured, completed, failed, expired, cancelled)
select md5('campaign' || n)::uuid, 1 + 2 * n + k, '2026-01-01 00:00:00Z', k = 1, 'EUR', 100000000, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
from generate_series(0, 99) n, generate_series(0, 1) k
union all
select campaign_id, position, at, true, 'EUR', 100000000, 2500 * reached[3], 0, 0, 0, 0, 0, 0, reached[3],
    reached[1] - reached[2], reached[2] - reached[3], reached[3] - reached[4], reached[4], 0, 0, 0
from (
    select *, array[count(*) filter (where stage = 0) over upto, count(*) filter (where stage = 1) over upto,
        count(*) filter (where stage = 2) over upto, count(*) filter (where stage = 3) over upto] as reached
    from happened
    window upto as (partition by campaign_id order by position)
) counted;

insert into campaign_first_gifts (campaign_id, donor_id, gifts, position)
select campaign_id, donor_id, 1, position from happened where stage = 2;

-- Captures, and settlements of the same amounts; so nothing is left with the provider.
insert into journal (position, line, debit_account, credit_account, campaign_id, pledge_id, amount_minor,
    currency, occurred_at, recorded_at)
select position, 1, (array['provider_clearing', 'bank'])[stage - 1],
    (array['campaign', 'provider_clearing'])[stage - 1], campaign_id, pledge_id, 2500, 'EUR', at, at
from happened where stage >= 2;

insert into campaign_accounts (campaign_id, currency, bank_minor, campaign_minor, position)
select campaign_id, 'EUR', 2500 * count(*), -2500 * count(*), max(position)
from happened where stage = 3 group by campaign_id;

insert into campaign_days (campaign_id, day, currency, created, created_minor, captured, captured_minor,
    completed)
select campaign_id, (at at time zone 'UTC')::date, 'EUR', count(*) filter (where stage = 0),
    2500 * count(*) filter (where stage = 0), count(*) filter (where stage = 2),
    2500 * count(*) filter (where stage = 2), count(*) filter (where stage = 3)
from happened group by 1, 2
-- A day on which payments were only authorised counts nothing.
having count(*) filter (where stage <> 1) > 0;

insert into overall_days (currency, day, created, created_minor, captured, captured_minor, completed)
select currency, day, sum(created), sum(created_minor), sum(captured), sum(captured_minor), sum(completed)
from campaign_days group by currency, day;
