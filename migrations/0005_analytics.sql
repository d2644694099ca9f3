-- What analysts may ask: views in a schema of their own, under a role that sees nothing else. What a view and
-- its columns mean is said by comments in the catalogue, where those who ask will look.
--
-- No view shows who a donor is, not even by pseudonym: a pseudonym beside an amount and an instant could be
-- matched with the donation wall, and would then name a donor's anonymous gifts too. Donors are therefore
-- only counted. No view shows a pledge's id either: whoever holds it may change the pledge. A pledge is named
-- by the position of its first event, its number.

create schema analytics;
comment on schema analytics
    is 'Documented views for analysts, without personal data. Amounts are in minor units of their currency; times are UTC.';

create view analytics.campaigns as
select c.campaign_id, c.title, c.status, c.currency, c.goal_minor, t.raised_minor, t.refunded_minor,
    t.reversed_minor, t.charged_back_minor, t.loss_minor, t.in_dispute_minor, t.unapplied_minor, t.donors,
    c.created_at, c.published_at, c.closed_at, c.ends_at
from public.campaigns c
join public.campaign_totals t using (campaign_id)
where c.status <> 'draft';
comment on view analytics.campaigns is 'Every campaign that was published, with its totals.';
comment on column analytics.campaigns.campaign_id is 'The campaign.';
comment on column analytics.campaigns.title is 'Its headline.';
comment on column analytics.campaigns.status is 'published or closed.';
comment on column analytics.campaigns.currency is 'ISO 4217 code of its only currency.';
comment on column analytics.campaigns.goal_minor is 'How much is wanted.';
comment on column analytics.campaigns.raised_minor
    is 'How much was captured and is still there: net of refunds, reversals and lost disputes.';
comment on column analytics.campaigns.refunded_minor
    is 'How much of captured money was given back by refund.';
comment on column analytics.campaigns.reversed_minor
    is 'How much of captured money was taken back without a dispute, such as a debit that bounced.';
comment on column analytics.campaigns.charged_back_minor
    is 'How much of captured money was lost in disputes.';
comment on column analytics.campaigns.loss_minor is 'How much went back beyond what was captured.';
comment on column analytics.campaigns.in_dispute_minor
    is 'How much open disputes have withdrawn; still part of what was raised or is held apart.';
comment on column analytics.campaigns.unapplied_minor
    is 'Money held apart: no pledge could use it, or it waits for a person; not part of what was raised.';
comment on column analytics.campaigns.donors is 'Distinct donors whose money was captured.';
comment on column analytics.campaigns.created_at is 'When the draft was written.';
comment on column analytics.campaigns.published_at is 'When it opened.';
comment on column analytics.campaigns.closed_at is 'When it was closed by hand, if it was.';
comment on column analytics.campaigns.ends_at is 'From when on it takes no pledges, if it says so.';

create view analytics.donations as
select d.position as donation_number, d.campaign_id, d.currency, d.amount_minor, p.refunded_minor,
    p.reversed_minor, p.charged_back_minor, p.loss_minor,
    d.amount_minor - p.refunded_minor - p.reversed_minor - p.charged_back_minor as net_minor, d.anonymous,
    p.created_at as pledged_at, d.captured_at
from public.donations d
join public.pledges p using (pledge_id);
comment on view analytics.donations is 'Every gift whose money was captured.';
comment on column analytics.donations.donation_number
    is 'The position of the capture in the ledger; later gifts have higher numbers.';
comment on column analytics.donations.campaign_id is 'The campaign it was given to.';
comment on column analytics.donations.currency is 'ISO 4217 code.';
comment on column analytics.donations.amount_minor is 'How much was captured.';
comment on column analytics.donations.refunded_minor is 'How much of it was given back by refund.';
comment on column analytics.donations.reversed_minor is 'How much of it was taken back without a dispute.';
comment on column analytics.donations.charged_back_minor is 'How much of it was lost in disputes.';
comment on column analytics.donations.loss_minor is 'How much went back beyond what was captured.';
comment on column analytics.donations.net_minor is 'How much of it is still there.';
comment on column analytics.donations.anonymous is 'Whether the donor stays nameless in public.';
comment on column analytics.donations.pledged_at is 'When it was pledged.';
comment on column analytics.donations.captured_at is 'When money of it was first taken.';

create view analytics.refunds as
select j.position as refund_number, j.line, j.campaign_id, j.currency,
    case j.credit_account when 'provider_clearing' then j.amount_minor else -j.amount_minor end
        as amount_minor,
    case
        when 'refunds' in (j.debit_account, j.credit_account) then 'refund'
        when 'reversals' in (j.debit_account, j.credit_account) then 'reversal'
        when 'chargebacks' in (j.debit_account, j.credit_account) then 'chargeback'
        else 'held apart'
    end as kind,
    d.captured_at, j.occurred_at as given_back_at
from public.journal j
join public.pledge_history h using (pledge_id, position)
left join public.donations d using (pledge_id)
where case
    when 'unapplied' in (j.debit_account, j.credit_account)
        then h.event_type = 'PaymentRecorded' and h.said <> 'captured'
    when j.debit_account in ('refunds', 'reversals', 'chargebacks')
        or j.credit_account in ('refunds', 'reversals', 'chargebacks')
        -- What had gone back of money before it was accepted went back while it was held apart.
        then h.status is distinct from 'captured'
            or not exists (select from public.unapplied_payments u where u.accepted_as = j.pledge_id)
    else false
end;
comment on view analytics.refunds is 'All money that went back, in whatever way, also of what was held apart.';
comment on column analytics.refunds.refund_number is 'The position in the ledger.';
comment on column analytics.refunds.line is 'The line of the journal, as one event may move money on several days.';
comment on column analytics.refunds.campaign_id is 'The campaign.';
comment on column analytics.refunds.currency is 'ISO 4217 code.';
comment on column analytics.refunds.amount_minor
    is 'How much went back; negative where it came again, such as by a refund that failed.';
comment on column analytics.refunds.kind
    is 'refund, reversal (such as a debit that bounced), chargeback for a lost dispute, or held apart.';
comment on column analytics.refunds.captured_at
    is 'When the pledge''s money was taken; null if the pledge never was captured, and the money was held apart.';
comment on column analytics.refunds.given_back_at is 'When it went back.';

create view analytics.pledge_funnel as
select h.pledge_number, p.campaign_id, p.currency, p.amount_minor, p.status, p.created_at, h.authorized_at,
    h.captured_at, h.completed_at, h.ended_at,
    extract(epoch from coalesce(h.authorized_at, h.ended_at) - p.created_at)::double precision
        as seconds_pending,
    extract(epoch from coalesce(h.captured_at, case when h.authorized_at is not null then h.ended_at end)
        - h.authorized_at)::double precision as seconds_authorized,
    extract(epoch from h.completed_at - h.captured_at)::double precision as seconds_captured
from public.pledges p
cross join lateral (
    select min(e.position) as pledge_number,
        min(e.recorded_at) filter (where e.status = 'authorized') as authorized_at,
        min(e.recorded_at) filter (where e.status = 'captured') as captured_at,
        min(e.recorded_at) filter (where e.status = 'completed') as completed_at,
        min(e.recorded_at) filter (where e.status in ('failed', 'expired', 'cancelled')) as ended_at
    from public.pledge_history e
    where e.pledge_id = p.pledge_id
) h;
comment on view analytics.pledge_funnel
    is 'Every pledge on its way from pledge to settlement, and how long it was in each state. A state that it has not left yet has no length.';
comment on column analytics.pledge_funnel.pledge_number
    is 'The position of the pledge in the ledger; later pledges have higher numbers.';
comment on column analytics.pledge_funnel.campaign_id is 'The campaign.';
comment on column analytics.pledge_funnel.currency is 'ISO 4217 code.';
comment on column analytics.pledge_funnel.amount_minor is 'How much is promised.';
comment on column analytics.pledge_funnel.status
    is 'pending, authorized, captured, completed, failed, expired or cancelled.';
comment on column analytics.pledge_funnel.created_at is 'When it was made.';
comment on column analytics.pledge_funnel.authorized_at is 'When the money was reserved.';
comment on column analytics.pledge_funnel.captured_at is 'When the ledger recorded that the money was taken.';
comment on column analytics.pledge_funnel.completed_at is 'When the money was settled to the charity.';
comment on column analytics.pledge_funnel.ended_at is 'When it failed, expired or was cancelled.';
comment on column analytics.pledge_funnel.seconds_pending is 'How long it was pending.';
comment on column analytics.pledge_funnel.seconds_authorized is 'How long it was authorized.';
comment on column analytics.pledge_funnel.seconds_captured
    is 'How long the money was on its way after the capture.';

create view analytics.funnel as
select f.campaign_id, count(*) as pledges, count(f.authorized_at) as authorized,
    count(f.captured_at) as captured, count(f.completed_at) as completed,
    count(*) filter (where f.status = 'failed') as failed,
    count(*) filter (where f.status = 'expired') as expired,
    count(*) filter (where f.status = 'cancelled') as cancelled,
    count(f.captured_at)::double precision / count(*) as captured_share,
    percentile_cont(0.5) within group (order by f.seconds_pending) as median_seconds_pending,
    percentile_cont(0.5) within group (order by f.seconds_authorized) as median_seconds_authorized,
    percentile_cont(0.5) within group (order by f.seconds_captured) as median_seconds_captured
from analytics.pledge_funnel f
group by f.campaign_id;
comment on view analytics.funnel is 'How many pledges of a campaign came how far, and how long they took.';
comment on column analytics.funnel.campaign_id is 'The campaign.';
comment on column analytics.funnel.pledges is 'Pledges made.';
comment on column analytics.funnel.authorized is 'Of these, whose money was ever reserved.';
comment on column analytics.funnel.captured is 'Of these, whose money was ever taken.';
comment on column analytics.funnel.completed is 'Of these, whose money was settled.';
comment on column analytics.funnel.failed is 'Pledges whose payment failed for good.';
comment on column analytics.funnel.expired is 'Pledges that nobody paid in time.';
comment on column analytics.funnel.cancelled is 'Pledges that the donor withdrew.';
comment on column analytics.funnel.captured_share is 'Captured divided by made: 0 to 1.';
comment on column analytics.funnel.median_seconds_pending
    is 'The median of the time in pending, of those that left it.';
comment on column analytics.funnel.median_seconds_authorized
    is 'The median of the time in authorized, of those that left it.';
comment on column analytics.funnel.median_seconds_captured
    is 'The median of the time from capture to settlement.';

create view analytics.daily_totals as
with first_captures as (
    select g.campaign_id, (g.captured_at at time zone 'UTC')::date as day,
        count(distinct g.donor_id) as donors
    from public.donations g
    group by 1, 2
)
select d.campaign_id, d.day, d.currency, d.created as pledges, d.captured as donations,
    coalesce(f.donors, 0) as donors, d.captured_minor, d.refunded_minor, d.reversed_minor,
    d.charged_back_minor, d.net_minor, d.unapplied_minor, d.revised_at
from public.campaign_days d
left join first_captures f using (campaign_id, day);
comment on view analytics.daily_totals
    is 'What happened to each campaign on each day (UTC) on which something did. Money counts on the day on which it moved, whenever that was heard.';
comment on column analytics.daily_totals.campaign_id is 'The campaign.';
comment on column analytics.daily_totals.day is 'The day, in UTC, of the event, not of the pledge.';
comment on column analytics.daily_totals.currency is 'ISO 4217 code.';
comment on column analytics.daily_totals.pledges is 'Pledges made.';
comment on column analytics.daily_totals.donations is 'Gifts whose money was first taken.';
comment on column analytics.daily_totals.donors is 'Distinct donors of these.';
comment on column analytics.daily_totals.captured_minor is 'How much was taken.';
comment on column analytics.daily_totals.refunded_minor
    is 'How much was given back by refund, whenever it was taken.';
comment on column analytics.daily_totals.reversed_minor
    is 'How much was taken back without a dispute; likewise.';
comment on column analytics.daily_totals.charged_back_minor is 'How much was lost in disputes; likewise.';
comment on column analytics.daily_totals.net_minor
    is 'What the day added to the money raised; may be negative.';
comment on column analytics.daily_totals.unapplied_minor
    is 'The day''s change of the money that is held apart; may be negative.';
comment on column analytics.daily_totals.revised_at
    is 'When the last change was recorded that came after the day had ended; null if none did.';

create view analytics.top_campaigns as
select rank() over (partition by c.currency order by c.raised_minor desc) as place, c.campaign_id, c.title,
    c.currency, c.raised_minor, c.goal_minor, c.raised_minor::double precision / c.goal_minor as goal_share,
    c.donors
from analytics.campaigns c;
comment on view analytics.top_campaigns is 'Campaigns by what they have raised, within their currency.';
comment on column analytics.top_campaigns.place is '1 for the campaign of its currency that has raised most.';
comment on column analytics.top_campaigns.campaign_id is 'The campaign.';
comment on column analytics.top_campaigns.title is 'Its headline.';
comment on column analytics.top_campaigns.currency is 'ISO 4217 code.';
comment on column analytics.top_campaigns.raised_minor is 'How much was captured and is still there.';
comment on column analytics.top_campaigns.goal_minor is 'How much is wanted.';
comment on column analytics.top_campaigns.goal_share
    is 'Raised divided by wanted; above 1 the goal is exceeded.';
comment on column analytics.top_campaigns.donors is 'Distinct donors whose money was captured.';

create view analytics.donor_cohorts as
with gifts as (
    select d.donor_id, d.currency, date_trunc('month', d.captured_at at time zone 'UTC')::date as month,
        d.amount_minor
    from public.donations d
), donors as (
    select g.donor_id, g.currency, min(g.month) as first_month, count(*) as gifts,
        count(distinct g.month) as months, sum(g.amount_minor) as given_minor
    from gifts g
    group by g.donor_id, g.currency
)
select n.first_month, n.currency, count(*) as donors, count(*) filter (where n.gifts > 1) as gave_again,
    count(*) filter (where n.months > 1) as gave_in_another_month, sum(n.gifts)::bigint as gifts,
    sum(n.given_minor)::bigint as given_minor
from donors n
group by n.first_month, n.currency;
comment on view analytics.donor_cohorts
    is 'Donors by the month of their first gift, and whether they came back. Donors are only counted.';
comment on column analytics.donor_cohorts.first_month
    is 'The first day of the month (UTC) of their first captured gift.';
comment on column analytics.donor_cohorts.currency is 'ISO 4217 code.';
comment on column analytics.donor_cohorts.donors is 'How many donors.';
comment on column analytics.donor_cohorts.gave_again is 'How many of them gave more than once, ever.';
comment on column analytics.donor_cohorts.gave_in_another_month
    is 'How many of them gave in another month too.';
comment on column analytics.donor_cohorts.gifts is 'All gifts of these donors up to now.';
comment on column analytics.donor_cohorts.given_minor is 'How much was captured of these gifts.';

create view analytics.unapplied as
select u.campaign_id, u.currency, u.status, count(*) as payments, sum(u.amount_minor)::bigint as taken_minor,
    sum(u.given_back_minor)::bigint as given_back_minor
from public.unapplied_payments u
group by u.campaign_id, u.currency, u.status;
comment on view analytics.unapplied is 'Money that was taken and held apart: no pledge could use it, or not without asking a person.';
comment on column analytics.unapplied.campaign_id is 'The campaign.';
comment on column analytics.unapplied.currency is 'ISO 4217 code.';
comment on column analytics.unapplied.status is 'held, refunded, or accepted by its pledge or as another one.';
comment on column analytics.unapplied.payments is 'How many payments.';
comment on column analytics.unapplied.taken_minor is 'How much was taken.';
comment on column analytics.unapplied.given_back_minor is 'How much of it went back.';
