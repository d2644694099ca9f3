//! Facts about money in every order, more than once, and against each other, through the inbox and
//! the projections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use careforall_tests::{Client, TestApp, all_folded, eventually};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::FromRow;
use uuid::Uuid;

const SEED: u64 = 1;
/// Sets of facts that agree with each other, and the orders in which each is told at most.
const SETS: usize = 16;
const MAX_ORDERS: usize = 24;
/// Pledges about which facts are told that do not agree.
const CONTRADICTIONS: usize = 200;

/// A fact about a payment, as the provider tells it.
#[derive(Clone, Debug, PartialEq)]
struct ReportedFact {
    kind: &'static str,
    payment: &'static str,
    /// Of the refund, reversal or dispute.
    subject: Option<String>,
    minor: i64,
    /// When it was so, in seconds after the first.
    second: i64,
}

impl ReportedFact {
    fn body(&self, pledge: Uuid) -> Value {
        // A payment id is one pledge's only.
        let payment = format!("{}_{}", self.payment, pledge.simple());
        let mut body = Client::money_webhook(self.kind, pledge, &payment, self.minor);
        body["timestamp"] = json!(first() + TimeDelta::seconds(self.second));
        if let Some(subject) = &self.subject {
            let field = match self.kind {
                "payment.refunded" => "refund_id",
                "payment.reversed" => "reversal_id",
                _ => "dispute_id",
            };
            body["data"][field] = json!(subject);
        }
        body
    }

    /// Whether it says that money was taken.
    fn takes(&self) -> bool {
        matches!(self.kind, "payment.captured" | "settlement.confirmed")
    }
}

fn told(kind: &'static str, subject: Option<i64>, minor: i64, second: i64) -> ReportedFact {
    ReportedFact { kind, payment: "pay_a", subject: subject.map(|n| n.to_string()), minor, second }
}

/// A minute ago, the same for all facts of this process.
fn first() -> DateTime<Utc> {
    static FIRST: OnceLock<DateTime<Utc>> = OnceLock::new();
    *FIRST.get_or_init(|| Utc::now() - TimeDelta::minutes(1))
}

/// Final state of a pledge and its money.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct End {
    status: String,
    captured_minor: Option<i64>,
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    loss_minor: i64,
    /// Of money held apart: how much was taken, and how much of it went back.
    held_minor: i64,
    held_back_minor: i64,
}

/// A set of facts that one payment can produce, and what they come to by the rules of the design.
struct Story {
    facts: Vec<ReportedFact>,
    /// Whether another payment of the pledge failed before.
    failed_before: bool,
    end: End,
}

/// Any subset of what one payment can go through; what goes back is of money that was taken.
fn story(random: &mut StdRng, failed_before: bool) -> Story {
    let amount = random.random_range(1_000..10_000);
    let mut facts = Vec::new();
    let (captured, settled): (bool, bool) = (random.random_bool(0.8), random.random());
    let is_taken = captured || settled;
    // Money that is only reserved for a finished pledge is voided, which these payments cannot be.
    let authorized = random.random() && (is_taken || !failed_before);
    for (is_told, kind, second) in [
        (authorized, "payment.authorized", 1),
        (captured, "payment.captured", 2),
        (settled, "settlement.confirmed", 3),
    ] {
        facts.extend(is_told.then(|| told(kind, None, amount, second)));
    }
    // As much may go back as it likes, in every way.
    let (mut refunds, mut reversals, mut lost) = (0, 0, 0);
    for n in 0..if is_taken { random.random_range(0..4) } else { 0 } {
        let minor = random.random_range(1..=amount + 300);
        let (second, later) = (10 + 2 * n, 11 + 2 * n);
        match random.random_range(0..5) {
            0 => {
                facts.push(told("payment.refunded", Some(n), minor, second));
                refunds += minor;
            }
            1 => {
                facts.push(told("dispute.lost", Some(n), minor, later));
                facts.extend(random.random::<bool>().then(|| told("dispute.opened", Some(n), minor, second)));
                lost += minor;
            }
            2 => {
                facts.push(told("payment.reversed", Some(n), minor, second));
                reversals += minor;
            }
            3 => facts.push(told("dispute.won", Some(n), minor, second)),
            _ => facts.push(told("dispute.opened", Some(n), minor, second)),
        }
    }
    let refunded = refunds.min(amount);
    let reversed = reversals.min(amount - refunded);
    let charged_back = lost.min(amount - refunded - reversed);
    let back = refunded + reversed + charged_back;
    let status = match (failed_before, settled, captured, authorized) {
        (true, ..) => "failed",
        (false, true, ..) => "completed",
        (false, false, true, _) => "captured",
        (false, false, false, true) => "authorized",
        (false, false, false, false) => "pending",
    };
    let is_held = is_taken && failed_before;
    let is_raised = is_taken && !failed_before;
    let end = End {
        status: status.to_owned(),
        captured_minor: is_raised.then_some(amount),
        refunded_minor: if is_raised { refunded } else { 0 },
        reversed_minor: if is_raised { reversed } else { 0 },
        charged_back_minor: if is_raised { charged_back } else { 0 },
        loss_minor: refunds + reversals + lost - back,
        held_minor: if is_held { amount } else { 0 },
        held_back_minor: if is_held { back } else { 0 },
    };
    Story { facts, failed_before, end }
}

/// Every order of few facts, or some orders of many.
fn orders(facts: &[ReportedFact], random: &mut StdRng) -> Vec<Vec<ReportedFact>> {
    let all: usize = (1..=facts.len()).product();
    if all <= MAX_ORDERS {
        return permutations(facts);
    }
    let mut shuffled = || {
        let mut order = facts.to_vec();
        order.shuffle(random);
        order
    };
    (0..MAX_ORDERS).map(|_| shuffled()).collect()
}

fn permutations(facts: &[ReportedFact]) -> Vec<Vec<ReportedFact>> {
    if facts.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for (n, first) in facts.iter().enumerate() {
        let rest = [&facts[..n], &facts[n + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|rest| [vec![first.clone()], rest].concat()));
    }
    all
}

/// The order, with some facts told again later: under the same webhook id, or under another.
fn with_duplicates(order: Vec<ReportedFact>, random: &mut StdRng) -> Vec<(String, ReportedFact)> {
    let mut telling: Vec<(String, ReportedFact)> =
        order.into_iter().map(|fact| (format!("msg_{}", Uuid::new_v4()), fact)).collect();
    for n in 0..telling.len() {
        if random.random_bool(0.4) {
            let (mut id, fact) = telling[n].clone();
            if random.random() {
                id = format!("msg_{}", Uuid::new_v4());
            }
            let place = random.random_range(n + 1..=telling.len());
            telling.insert(place, (id, fact));
        }
    }
    telling
}

async fn tell(app: &TestApp, pledge: Uuid, telling: &[(String, ReportedFact)]) {
    for (id, fact) in telling {
        let (status, body) = app.webhook(id, &fact.body(pledge)).await;
        assert_eq!(status, 200, "{body}");
    }
}

async fn fail(app: &TestApp, pledge: Uuid) {
    let data = json!({"pledge_id": pledge, "payment_id": format!("pay_z_{}", pledge.simple())});
    let body = json!({"type": "payment.failed", "timestamp": chrono::Utc::now(), "data": data});
    assert_eq!(app.webhook(&format!("failed_{pledge}"), &body).await.0, 200);
    app.pledge_with_status(pledge, "failed").await;
}

async fn ends(app: &TestApp, pledges: &[Uuid]) -> Vec<End> {
    sqlx::query_as(
        "select p.status, p.captured_minor, p.refunded_minor, p.reversed_minor, p.charged_back_minor, p.loss_minor,
             coalesce(sum(u.amount_minor), 0)::bigint as held_minor,
             coalesce(sum(u.given_back_minor), 0)::bigint as held_back_minor
         from pledges p left join unapplied_payments u using (pledge_id)
         where p.pledge_id = any ($1)
         group by p.pledge_id",
    )
    .bind(pledges)
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_in_any_order_and_number_come_to_the_same() {
    let app = TestApp::start().await;
    let random = &mut StdRng::seed_from_u64(SEED);
    let mut told = Vec::new();
    for n in 0..SETS {
        let story = story(random, n % 3 == 0);
        let campaign = app.campaign().await;
        let tellings: Vec<_> =
            orders(&story.facts, random).into_iter().map(|order| with_duplicates(order, random)).collect();
        let pledges = join_all(tellings.iter().map(async |telling| {
            let email = format!("{}@example.org", Uuid::new_v4().simple());
            let pledge = app.pledge(campaign, 5_000, &email).await;
            if story.failed_before {
                fail(&app, pledge).await;
            }
            tell(&app, pledge, telling).await;
            pledge
        }))
        .await;
        told.push((campaign, story, pledges));
    }
    app.at_rest().await;
    for (campaign, Story { facts, end, .. }, pledges) in told {
        let found = ends(&app, &pledges).await;
        assert_eq!(found, vec![end.clone(); pledges.len()], "{facts:?}");
        let times = i64::try_from(pledges.len()).unwrap();
        let totals = app.totals_at_head(campaign).await;
        let back = end.refunded_minor + end.reversed_minor + end.charged_back_minor;
        let raised = (end.captured_minor.unwrap_or(0) - back) * times;
        assert_eq!(totals["raised_minor"], json!(raised), "{facts:?}");
        assert_eq!(totals["refunded_minor"], json!(end.refunded_minor * times), "{facts:?}");
        assert_eq!(totals["pledges"][&end.status], json!(times), "{facts:?}");
        let held: i64 =
            sqlx::query_scalar("select unapplied_minor from campaign_totals where campaign_id = $1")
                .bind(campaign)
                .fetch_one(&app.pool)
                .await
                .unwrap();
        assert_eq!(held, (end.held_minor - end.held_back_minor) * times, "{facts:?}");
    }
    app.assert_verified().await;
}

/// Facts about two payments that need not agree: other amounts, failures, more going back than came.
fn contradictions(random: &mut StdRng) -> Vec<(String, ReportedFact)> {
    let facts = (0..random.random_range(1..12)).map(|_| {
        let kinds = [
            "payment.authorized",
            "payment.captured",
            "settlement.confirmed",
            "payment.failed",
            "payment.refunded",
            "payment.reversed",
            "dispute.opened",
            "dispute.won",
            "dispute.lost",
        ];
        let kind = kinds[random.random_range(0..kinds.len())];
        let needs_subject =
            kind.starts_with("dispute") || ["payment.refunded", "payment.reversed"].contains(&kind);
        let subject = needs_subject.then(|| random.random_range(0..3).to_string());
        let payment = if random.random() { "pay_a" } else { "pay_b" };
        let minor = [5_000, 4_999, 3_000, 2_000, 6_000][random.random_range(0..5)];
        let second = random.random_range(0..20);
        (format!("msg_{}", Uuid::new_v4()), ReportedFact { kind, payment, subject, minor, second })
    });
    facts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_cent_is_in_one_figure_whatever_contradicts_it() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let random = &mut StdRng::seed_from_u64(SEED);
    let tellings: Vec<_> = (0..CONTRADICTIONS).map(|_| contradictions(random)).collect();
    let pledges = join_all(tellings.iter().map(async |telling| {
        let pledge = app.pledge(campaign, 5_000, "ada@example.org").await;
        tell(&app, pledge, telling).await;
        pledge
    }))
    .await;
    let taking = pledges.iter().zip(&tellings).flat_map(|(pledge, telling)| {
        let takes = telling.iter().filter(|(_, fact)| fact.takes());
        takes.map(|(_, fact)| (*pledge, format!("{}_{}", fact.payment, pledge.simple())))
    });
    let expected: BTreeSet<(Uuid, String)> = taking.collect();
    // Facts about a payment that was never taken may wait: for its capture, or to be voided.
    let taken: BTreeSet<&String> = expected.iter().map(|(_, payment)| payment).collect();
    let open = async || -> Vec<(String, i32, Option<String>, String)> {
        let sql = "select body::json #>> '{data,payment_id}', attempts, reason, event_type from webhook_inbox
             where status = 'pending'";
        let rows: Vec<(String, i32, Option<String>, String)> =
            sqlx::query_as(sql).fetch_all(&app.pool).await.unwrap();
        rows.into_iter().filter(|(payment, tries, ..)| *tries == 0 || taken.contains(payment)).collect()
    };
    eventually("only what must wait is pending", open, Vec::is_empty).await;
    all_folded(&app.pool).await;
    app.assert_verified().await;

    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "select aggregate_id::uuid, fields ->> 'payment_id', (fields -> 'amount' ->> 'amount_minor')::bigint
         from events, lateral (select payload -> event_type as fields) f
         where event_type in ('PledgeCaptured', 'PaymentUnapplied')",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut taken: BTreeMap<(Uuid, String), Vec<i64>> = BTreeMap::new();
    for (pledge, payment, minor) in rows {
        taken.entry((pledge, payment)).or_default().push(minor);
    }
    // Each payment that was reported as taken is in the ledger once, with an amount that was reported.
    assert!(taken.keys().eq(&expected), "{taken:?}");
    for ((pledge, payment), amounts) in &taken {
        let index = pledges.iter().position(|id| id == pledge).unwrap();
        let reported = tellings[index].iter().filter(|(_, fact)| fact.takes());
        let reported: BTreeSet<i64> = reported
            .filter(|(_, fact)| payment.starts_with(fact.payment))
            .map(|(_, fact)| fact.minor)
            .collect();
        assert!(amounts.len() == 1 && reported.contains(&amounts[0]), "{payment}: {amounts:?}, {reported:?}");
    }
    // The largest amount counts, and every cent of it is raised, held apart, or went back.
    let largest = |(pledge, payment): &(Uuid, String)| {
        let index = pledges.iter().position(|id| id == pledge).unwrap();
        let reported = tellings[index].iter().filter(|(_, fact)| fact.takes());
        reported.filter(|(_, fact)| payment.starts_with(fact.payment)).map(|(_, fact)| fact.minor).max()
    };
    let sum: i64 = expected.iter().filter_map(largest).sum();
    let figures: i64 = sqlx::query_scalar(
        "select t.raised_minor + t.refunded_minor + t.reversed_minor + t.charged_back_minor + t.unapplied_minor
             + (select sum(given_back_minor) from unapplied_payments)::bigint
         from campaign_totals t",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(figures, sum);
}
