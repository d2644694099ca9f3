//! What must agree between the read tables, whatever happened.

use read_model::Projection;
use sqlx::PgPool;

use crate::eventually;

/// Each statement returns what is wrong, one row each.
const CHECKS: [(&str, &str); 10] = [
    (
        "the accounts of a currency add up to zero",
        "select currency, sum(balance_minor)::text from account_balances group by 1 having sum(balance_minor) <> 0",
    ),
    (
        "balances are the sums of the entries",
        "select coalesce(b.account, e.account), coalesce(b.balance, 0)::text || ' ' || coalesce(e.balance, 0)::text
         from (select campaign_id, account, currency, sum(balance_minor) as balance from account_balances
               group by 1, 2, 3 having sum(balance_minor) <> 0) b
         full join (select campaign_id, account, currency, sum(amount_minor) as balance from account_entries
               group by 1, 2, 3 having sum(amount_minor) <> 0) e using (campaign_id, account, currency)
         where b.balance is distinct from e.balance",
    ),
    (
        "accounts agree with the totals",
        "select t.campaign_id::text, row(a.*)::text || row(t.*)::text
         from campaign_totals t left join campaign_accounts a using (campaign_id)
         where (t.raised_minor, t.refunded_minor, t.reversed_minor, t.charged_back_minor, t.loss_minor,
             t.in_dispute_minor, t.unapplied_minor)
             is distinct from (
                 coalesce(-a.campaign_minor - a.refunds_minor - a.reversals_minor - a.chargebacks_minor, 0),
                 coalesce(a.refunds_minor, 0), coalesce(a.reversals_minor, 0), coalesce(a.chargebacks_minor, 0),
                 coalesce(a.losses_minor, 0), coalesce(a.disputed_minor, 0), coalesce(-a.unapplied_minor, 0))",
    ),
    (
        "what the bank has is what was completed",
        "select campaign_id::text, a.bank_minor::text from campaign_accounts a
         where a.bank_minor <> (select coalesce(sum(p.captured_minor), 0) from pledges p
             where p.campaign_id = a.campaign_id and p.status = 'completed')",
    ),
    (
        "days agree with the totals",
        "select t.campaign_id::text, row(d.*)::text || row(t.*)::text
         from campaign_totals t left join (
             select campaign_id, sum(net_minor) as net, sum(refunded_minor) as refunded,
                 sum(reversed_minor) as reversed, sum(charged_back_minor) as charged_back,
                 sum(unapplied_minor) as unapplied, sum(created) as created, sum(failed) as failed, sum(expired) as expired, sum(cancelled) as cancelled,
                 sum(completed) as completed, sum(captured) as captured
             from campaign_days group by 1
         ) d using (campaign_id)
         where (t.raised_minor, t.refunded_minor, t.reversed_minor, t.charged_back_minor, t.unapplied_minor,
             t.failed, t.expired, t.cancelled, t.completed,
             t.captured + t.completed,
             t.pending + t.authorized + t.captured + t.completed + t.failed + t.expired + t.cancelled)
             is distinct from (coalesce(d.net, 0), coalesce(d.refunded, 0), coalesce(d.reversed, 0),
                 coalesce(d.charged_back, 0), coalesce(d.unapplied, 0), coalesce(d.failed, 0),
                 coalesce(d.expired, 0), coalesce(d.cancelled, 0), coalesce(d.completed, 0),
                 coalesce(d.captured, 0), coalesce(d.created, 0))",
    ),
    (
        "days overall are the sums of the campaigns' days",
        "select day::text, currency from (
             select day, currency, sum(created) as a, sum(captured_minor) as b, sum(unapplied_minor) as c,
                 sum(net_minor) as d, sum(completed) as e, sum(created_minor) as f
             from campaign_days group by 1, 2
         ) s full join overall_days o using (day, currency)
         where (s.a, s.b, s.c, s.d, s.e, s.f) is distinct from
             (o.created, o.captured_minor, o.unapplied_minor, o.net_minor, o.completed, o.created_minor)",
    ),
    (
        "hours are parts of the campaigns' days",
        "select coalesce(h.campaign_id, d.campaign_id)::text, row(h.*)::text || row(d.*)::text
         from (
             select campaign_id, (hour at time zone 'UTC')::date as day, currency, sum(created) as created,
                 sum(captured) as captured, sum(captured_minor) as captured_minor
             from campaign_hours group by 1, 2, 3
         ) h full join (
             select campaign_id, day, currency, created, captured, captured_minor from campaign_days
             where created + captured > 0
         ) d using (campaign_id, day, currency)
         where (h.created, h.captured, h.captured_minor) is distinct from (d.created, d.captured, d.captured_minor)
             or exists (select from campaign_hours where hour <> date_trunc('hour', hour, 'UTC'))",
    ),
    (
        "donors agree with the totals",
        "select t.campaign_id::text, row(d.*)::text || row(t.*)::text
         from campaign_totals t left join (
             select campaign_id, count(*) as donors, sum(captured_minor) as captured,
                 sum(refunded_minor) as refunded, sum(reversed_minor) as reversed,
                 sum(charged_back_minor) as charged_back
             from campaign_donors group by 1
         ) d using (campaign_id)
         where (t.donors, t.raised_minor, t.refunded_minor, t.reversed_minor, t.charged_back_minor)
             is distinct from (
                 coalesce(d.donors, 0), coalesce(d.captured - d.refunded - d.reversed - d.charged_back, 0),
                 coalesce(d.refunded, 0), coalesce(d.reversed, 0), coalesce(d.charged_back, 0))",
    ),
    (
        "donors have what their captures add up to, from the first to the last",
        "select coalesce(d.donor_id, c.donor_id)::text, row(d.*)::text || row(c.*)::text
         from campaign_donors d full join (
             select campaign_id, donor_id, sum(captured_minor) as captured,
                 min(captured_at) filter (where captured_minor > 0) as first,
                 max(captured_at) filter (where captured_minor > 0) as last
             from campaign_captures group by 1, 2
         ) c using (campaign_id, donor_id)
         where (d.captured_minor, d.first_captured_at, d.last_captured_at) is distinct from
             (c.captured, c.first, c.last)",
    ),
    (
        "gifts are captured pledges, and have what their captures add up to, from the first on",
        "select coalesce(p.pledge_id, c.pledge_id)::text, row(d.*)::text || row(c.*)::text
         from (select * from pledges where captured_minor is not null) p
         full join donations d using (pledge_id)
         full join (
             select pledge_id, sum(captured_minor) as captured,
                 min(captured_at) filter (where captured_minor > 0) as first
             from pledge_captures group by 1
         ) c using (pledge_id)
         where (p.captured_minor, d.captured_at) is distinct from (c.captured, c.first)
             or d.amount_minor is distinct from p.captured_minor",
    ),
];

/// Waits until every projector has folded the whole ledger.
pub async fn all_folded(pool: &PgPool) {
    let ask = async || {
        // A projector that has only just been started is not in the table yet.
        sqlx::query_as::<_, (String, Option<i64>)>(
            "select name, h.position - c.position
             from unnest($1) p (name) full join projector_checkpoints c using (name) cross join ledger_head h
             where c.position is distinct from h.position",
        )
        .bind(Projection::ALL.map(Projection::name))
        .fetch_all(pool)
        .await
        .unwrap()
    };
    eventually("every projector is at the ledger's head", ask, Vec::is_empty).await;
}

/// Checks that the read tables agree with one another, once all are at the end of the ledger.
pub async fn assert_books_agree(pool: &PgPool) {
    all_folded(pool).await;
    for (promise, query) in CHECKS {
        let wrong: Vec<(String, String)> = sqlx::query_as(query).fetch_all(pool).await.unwrap();
        assert!(wrong.is_empty(), "{promise}: {wrong:?}");
    }
}
