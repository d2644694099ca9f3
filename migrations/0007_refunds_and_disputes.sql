-- Money that goes back: refunds, lost disputes, and what becomes of money that is held apart.
--
-- The new columns start at 0, which is right for all that was folded before: no event that changes
-- them was ever written. So no projection is built anew. raised_minor and unapplied_minor are net of
-- what went back.

alter table campaign_totals
    -- Of raised money: given back by refund, and lost in disputes.
    add column refunded_minor bigint not null default 0,
    add column charged_back_minor bigint not null default 0,
    add constraint campaign_totals_given_back_is_not_negative
        check (refunded_minor >= 0 and charged_back_minor >= 0);

alter table pledges
    -- Of the money that pays the pledge, not of money that it holds apart.
    add column refunded_minor bigint not null default 0,
    add column charged_back_minor bigint not null default 0,
    add constraint pledges_give_back_what_was_taken check (
        refunded_minor >= 0 and charged_back_minor >= 0
        and refunded_minor + charged_back_minor <= coalesce(captured_minor, 0)
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
    -- held: at least some of it is still there; refunded: all of it went back, in whatever way;
    -- accepted: it became another pledge of the donor.
    status text not null default 'held',
    accepted_as uuid,
    -- Where the ledger says that it was taken, and when it said so.
    position bigint not null,
    received_at timestamptz not null,
    primary key (pledge_id, payment_id),
    constraint unapplied_payments_status_is_known check (status in ('held', 'refunded', 'accepted')),
    constraint unapplied_payments_give_back_what_was_taken
        check (given_back_minor between 0 and amount_minor),
    constraint unapplied_payments_refunded_are_given_back
        check ((status = 'refunded') = (given_back_minor = amount_minor)),
    constraint unapplied_payments_accepted_name_a_pledge
        check ((status = 'accepted') = (accepted_as is not null))
);
-- The organisers' list: one status, newest first, by keyset.
create index unapplied_payments_newest on unapplied_payments (status, position desc);

grant select, insert, update, delete on unapplied_payments to careforall_projector;
grant select on unapplied_payments to careforall_reader, careforall_auditor;

-- What the projector of pledges has passed already; it goes on from there by itself.
insert into unapplied_payments (pledge_id, payment_id, campaign_id, donor_id, amount_minor, currency,
    position, received_at)
select e.aggregate_id::uuid, u.fields ->> 'payment_id', (u.fields ->> 'campaign_id')::uuid,
    (u.fields ->> 'donor_id')::uuid, (u.fields -> 'amount' ->> 'amount_minor')::bigint,
    u.fields -> 'amount' ->> 'currency', e.position, e.recorded_at
from events e
cross join lateral (select e.payload -> 'PaymentUnapplied' as fields) u
where e.event_type = 'PaymentUnapplied' and e.aggregate_type = 'pledge'
    and e.position <= coalesce((
        select c.position from projector_checkpoints c where c.name = 'pledges' and c.version = 1
    ), 0);
