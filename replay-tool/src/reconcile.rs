//! `replay reconcile`: the payment providers' own lists against the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Arg, Args};
use domain::pledge::{Dispute, DisputeStatus, PledgeRecord, PledgeState, TakenPayment, Usage};
use domain::{
    DisputeId, Event, Money, PaymentFact, PaymentId, Pledge, PledgeId, PledgeStatus, RefundId, Rules,
};
use event_store::EventReader;
use payments::{BuildContext, PaymentReport, Provider, ProviderError, ProviderSettings, Registry};
use serde::Serialize;
use service::ServicesFile;
use sqlx::PgPool;

use crate::connection::Connection;

/// Events read at once.
const PAGE: i64 = 5_000;
/// How often differences are looked at again.
const LOOK: Duration = Duration::from_millis(500);
/// At most so many differences are looked at again one by one; more are there to stay.
const MAX_LOOKED_AT_AGAIN: usize = 1_000;

/// Compare the payment providers' own lists with the ledger.
///
/// Asks each provider for all payments that it has for our pledges, and compares every one with the
/// ledger: what was taken, refunded, disputed and settled, for which pledge. Names every
/// difference and exits with 1. Needs the keys of the providers, which are those that the services
/// are given.
#[derive(Args)]
#[command(mut_args = for_reading)]
pub(crate) struct Arguments {
    #[command(flatten)]
    providers: ProviderSettings,

    /// A difference that goes away within so many seconds is none: what has just happened is on its
    /// way.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(..=3_600)
    )]
    patience: u64,
}

/// No webhooks are read here, and a running `careforall up` need not be described.
fn for_reading(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "sandbox_url" => arg.help(
            "Address of the sandbox provider's API. [default: the running `careforall up` on the data folder]",
        ),
        "sandbox_api_key" => {
            arg.help("Key of the sandbox provider's API. [default: the one in the data folder]")
        }
        id if id.ends_with("_webhook_secret") => arg.hide(true),
        _ => arg,
    }
}

/// Compares, and says what it found; false if there is a difference.
///
/// # Errors
/// The comparison cannot be made.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let pool = connection.pool().await?;
    let providers = arguments.providers(connection)?;
    let mut lists = Vec::new();
    for provider in &providers {
        lists.push(List::read(provider.as_ref()).await?);
    }
    // What is in a list happened before the ledger is read; what happens later is looked at again.
    let mut ledger = LedgerState { reader: connection.reader, ..LedgerState::default() };
    ledger.read_on(&pool).await?;
    let patience = Duration::from_secs(arguments.patience);
    let mut outcome = Outcome { position: ledger.position, ..Outcome::default() };
    for (provider, list) in providers.iter().zip(lists) {
        let differences = list.differences(provider.as_ref(), &ledger);
        let staying = look_again(provider.as_ref(), differences, &mut ledger, &pool, patience).await?;
        outcome.differences.extend(staying);
        outcome.providers.push(list.summary(provider.name()));
    }
    outcome.payments_elsewhere = ledger.payments_elsewhere(&providers);
    outcome.all_is_well = outcome.differences.is_empty();
    outcome.print(json)?;
    Ok(outcome.all_is_well)
}

impl Arguments {
    /// Those whose keys are given, and the sandbox provider of a running `careforall up`.
    fn providers(&self, connection: &Connection) -> anyhow::Result<Vec<Arc<dyn Provider>>> {
        let up = ServicesFile::read(&connection.data_dir).ok();
        let local_url = up.map(|services| format!("http://{}", services.listen).parse()).transpose()?;
        let context = BuildContext {
            local_url: local_url.as_ref(),
            data_dir: Some(&connection.data_dir),
            takes_webhooks: false,
        };
        let registry = Registry::default();
        let providers = registry.build_all(&self.providers, &context)?;
        if providers.is_empty() {
            let keys: Vec<_> = registry.iter().map(|provider| provider.key_variable).collect();
            bail!("name a provider: set {}, or the flag of that name", keys.join(" or "));
        }
        Ok(providers)
    }
}

/// Result of the comparison.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    all_is_well: bool,
    /// Up to where the ledger was compared.
    position: i64,
    providers: Vec<Summary>,
    differences: Vec<Difference>,
    /// Payments in the ledger of providers that were not asked.
    payments_elsewhere: usize,
}

/// The payments of one provider.
#[derive(Debug, Serialize)]
struct Summary {
    provider: &'static str,
    /// Payments on which something has happened.
    payments: usize,
    currencies: Vec<Sums>,
}

/// A provider's sums in one currency.
#[derive(Clone, Debug, Default, Serialize)]
struct Sums {
    currency: String,
    captured_minor: i64,
    refunded_minor: i64,
    charged_back_minor: i64,
    /// Withdrawn by disputes that are open.
    in_dispute_minor: i64,
    settled_minor: i64,
}

/// One thing that the provider and the ledger do not agree on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Difference {
    provider: &'static str,
    pledge_id: PledgeId,
    payment_id: PaymentId,
    /// As a sentence.
    what: String,
}

impl Outcome {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        for Difference { provider, pledge_id, payment_id, what } in &self.differences {
            writeln!(out, "DIFFERENCE: {provider}: payment {payment_id} of pledge {pledge_id}: {what}")?;
        }
        for Summary { provider, payments, currencies } in &self.providers {
            let sums = currencies.iter().map(|s| {
                format!(
                    "; {} minor units of {} taken, {} refunded, {} charged back, {} in dispute, {} settled",
                    s.captured_minor,
                    s.currency,
                    s.refunded_minor,
                    s.charged_back_minor,
                    s.in_dispute_minor,
                    s.settled_minor
                )
            });
            writeln!(out, "{provider}: {payments} payments{}", sums.collect::<String>())?;
        }
        if self.payments_elsewhere > 0 {
            writeln!(out, "{} payments are of providers that were not asked", self.payments_elsewhere)?;
        }
        let position = self.position;
        match self.differences.len() {
            0 => writeln!(out, "all is well at position {position}: the ledger has what the providers have")?,
            n => writeln!(out, "{n} differences at position {position}")?,
        }
        Ok(())
    }
}

/// One payment as its provider tells it.
#[derive(Clone, Debug, PartialEq)]
struct ReportedPayment {
    pledge_id: PledgeId,
    authorized: Option<Money>,
    captured: Option<Money>,
    is_settled: bool,
    has_failed: bool,
    refunds: BTreeMap<RefundId, Money>,
    disputes: BTreeMap<DisputeId, Dispute>,
}

impl ReportedPayment {
    /// Nothing has happened to a payment of this pledge.
    fn nothing(pledge_id: PledgeId) -> Self {
        Self {
            pledge_id,
            authorized: None,
            captured: None,
            is_settled: false,
            has_failed: false,
            refunds: BTreeMap::new(),
            disputes: BTreeMap::new(),
        }
    }

    fn add(&mut self, fact: &PaymentFact) {
        let mut dispute = |id: &DisputeId, amount: Money, status| {
            let known = self.disputes.entry(id.clone()).or_insert(Dispute { amount, status });
            // Its outcome, whatever the order.
            if status != DisputeStatus::Open {
                *known = Dispute { amount, status };
            }
        };
        match fact {
            PaymentFact::Authorized { amount, .. } => self.authorized = Some(*amount),
            PaymentFact::Captured { amount, .. } => self.captured = Some(*amount),
            PaymentFact::Settled { amount, .. } => {
                self.captured.get_or_insert(*amount);
                self.is_settled = true;
            }
            PaymentFact::Failed { .. } => self.has_failed = true,
            PaymentFact::Refunded { refund_id, amount, .. } => {
                self.refunds.insert(refund_id.clone(), *amount);
            }
            PaymentFact::DisputeOpened { dispute_id, amount, .. } => {
                dispute(dispute_id, *amount, DisputeStatus::Open);
            }
            PaymentFact::DisputeWon { dispute_id, amount, .. } => {
                dispute(dispute_id, *amount, DisputeStatus::Won);
            }
            PaymentFact::DisputeLost { dispute_id, amount, .. } => {
                dispute(dispute_id, *amount, DisputeStatus::Lost);
            }
        }
    }
}

/// All that a provider says.
#[derive(Debug, Default)]
struct List {
    payments: BTreeMap<PaymentId, ReportedPayment>,
}

impl List {
    async fn read(provider: &dyn Provider) -> anyhow::Result<Self> {
        let name = provider.name();
        let (mut list, mut cursor) = (Self::default(), None);
        loop {
            let page =
                provider.list(cursor.as_deref()).await.with_context(|| format!("{name} does not list"))?;
            page.reports.iter().for_each(|report| list.add(report));
            show_progress(&format!("{name}: {} payments", list.payments.len()));
            match page.next {
                // A cursor that does not move would be followed for ever.
                Some(next) if Some(&next) == cursor.as_ref() => bail!("{name} lists the same page again"),
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(list)
    }

    fn add(&mut self, report: &PaymentReport) {
        for fact in &report.facts {
            let told = self.payments.entry(fact.payment_id().clone());
            told.or_insert_with(|| ReportedPayment::nothing(report.pledge_id)).add(fact);
        }
    }

    /// Everything that is not the same in the ledger.
    fn differences(&self, provider: &dyn Provider, ledger: &LedgerState) -> BTreeSet<Difference> {
        let of_provider = ledger.payments.keys().filter(|id| provider.owns(id));
        let all: BTreeSet<&PaymentId> = self.payments.keys().chain(of_provider).collect();
        all.into_iter().flat_map(|id| self.differences_of(id, provider.name(), ledger)).collect()
    }

    fn differences_of(
        &self,
        payment_id: &PaymentId,
        provider: &'static str,
        ledger: &LedgerState,
    ) -> Vec<Difference> {
        let told = self.payments.get(payment_id).cloned().or_else(|| {
            let pledge_id = ledger.payments.get(payment_id)?.first()?;
            Some(ReportedPayment::nothing(*pledge_id))
        });
        let Some(told) = told else { return Vec::new() };
        let mut found = Mismatches::default();
        ledger.compare(payment_id, &told, &mut found);
        let ReportedPayment { pledge_id, .. } = told;
        let difference = |what| Difference { provider, pledge_id, payment_id: payment_id.clone(), what };
        found.0.into_iter().map(difference).collect()
    }

    fn summary(&self, provider: &'static str) -> Summary {
        let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
        for told in self.payments.values() {
            let Some(captured) = told.captured else { continue };
            let code = captured.currency().code();
            let sums =
                sums.entry(code).or_insert_with(|| Sums { currency: code.to_owned(), ..Sums::default() });
            sums.captured_minor += captured.amount_minor();
            sums.settled_minor += if told.is_settled { captured.amount_minor() } else { 0 };
            sums.refunded_minor += told.refunds.values().map(|amount| amount.amount_minor()).sum::<i64>();
            for dispute in told.disputes.values() {
                match dispute.status {
                    DisputeStatus::Open => sums.in_dispute_minor += dispute.amount.amount_minor(),
                    DisputeStatus::Won => {}
                    DisputeStatus::Lost => sums.charged_back_minor += dispute.amount.amount_minor(),
                }
            }
        }
        Summary { provider, payments: self.payments.len(), currencies: sums.into_values().collect() }
    }
}

/// Differences of one payment, as sentences.
#[derive(Debug, Default)]
struct Mismatches(Vec<String>);

impl Mismatches {
    /// Notes where the provider says one thing and the ledger another.
    fn same<T: PartialEq + Display>(&mut self, subject: &str, told: Option<T>, known: Option<T>) {
        match (told, known) {
            (None, None) => {}
            (Some(told), None) => {
                self.0.push(format!("{subject}: the provider says {told}, the ledger nothing"))
            }
            (None, Some(known)) => {
                self.0.push(format!("{subject}: the ledger says {known}, the provider nothing"))
            }
            (Some(told), Some(known)) if told == known => {}
            (Some(told), Some(known)) => {
                self.0.push(format!("{subject}: the provider says {told}, the ledger {known}"));
            }
        }
    }
}

/// Every pledge of the ledger, and where its payments are.
#[derive(Default)]
struct LedgerState {
    reader: EventReader,
    position: i64,
    pledges: HashMap<PledgeId, Pledge>,
    /// The pledges that have a payment: the one that it was made for, and the one that it was accepted
    /// as.
    payments: BTreeMap<PaymentId, BTreeSet<PledgeId>>,
}

impl LedgerState {
    /// Folds what was appended since.
    async fn read_on(&mut self, pool: &PgPool) -> anyhow::Result<()> {
        let head = event_store::head(pool).await?;
        while self.position < head {
            let events = self.reader.read_after(pool, self.position, PAGE.min(head - self.position)).await?;
            let Some(last) = events.last() else {
                bail!("the ledger ends before its head; run `replay verify`")
            };
            self.position = last.position;
            for recorded in events {
                let Event::Pledge(id, event) = recorded.event else { continue };
                let pledge = self.pledges.entry(id).or_default();
                pledge.apply_event(event);
                let Some(record) = pledge.record() else { continue };
                for payment_id in record.taken.keys().chain(in_use(record)) {
                    self.payments.entry(payment_id.clone()).or_default().insert(id);
                }
            }
            show_progress(&format!("ledger: position {} of {head}", self.position));
        }
        Ok(())
    }

    /// Compares what the provider tells of a payment with what the ledger has.
    fn compare(&self, payment_id: &PaymentId, told: &ReportedPayment, found: &mut Mismatches) {
        let Some(first) = self.pledges.get(&told.pledge_id).and_then(Pledge::record) else {
            found.0.push("the provider says it is for a pledge that the ledger does not have".to_owned());
            return;
        };
        // Money that was accepted as another pledge is in that one, and so is what became of it.
        let accepted_as = match first.taken.get(payment_id).map(|taken| taken.usage) {
            Some(Usage::Accepted(other)) => Some(other),
            Some(Usage::Applied | Usage::Unapplied) | None => None,
        };
        let second = accepted_as.and_then(|other| self.pledges.get(&other)).and_then(Pledge::record);
        let holder = second.unwrap_or(first);
        let holds = [Some(told.pledge_id), accepted_as];
        for other in self.payments.get(payment_id).into_iter().flatten() {
            if !holds.contains(&Some(*other)) {
                found.0.push(format!("the ledger has it under pledge {other}, the provider does not"));
            }
        }
        let taken = holder.taken.get(payment_id);
        found.same("taken", told.captured, taken.map(|taken| taken.amount));
        compare_returns(told, [first.taken.get(payment_id), taken], found);
        compare_state(payment_id, told, holder, found);
    }

    /// Payments of no provider that was asked.
    fn payments_elsewhere(&self, providers: &[Arc<dyn Provider>]) -> usize {
        self.payments.keys().filter(|id| !providers.iter().any(|provider| provider.owns(id))).count()
    }
}

/// The payment that a pledge's state names.
fn in_use(record: &PledgeRecord) -> Option<&PaymentId> {
    match &record.state {
        PledgeState::Authorized(payment)
        | PledgeState::Captured(payment)
        | PledgeState::Completed(payment) => Some(&payment.payment_id),
        PledgeState::Pending | PledgeState::Failed(_) | PledgeState::Expired | PledgeState::Cancelled => None,
    }
}

/// Refunds and disputes, by their ids. What was won before the money was accepted as another pledge
/// stands where it was held.
fn compare_returns(told: &ReportedPayment, taken: [Option<&TakenPayment>; 2], found: &mut Mismatches) {
    let known = || taken.into_iter().flatten();
    let refunds: BTreeMap<_, _> = known().flat_map(|taken| &taken.refunds).collect();
    let ids: BTreeSet<&RefundId> = told.refunds.keys().chain(refunds.keys().copied()).collect();
    for id in ids {
        found.same(&format!("refund {id}"), told.refunds.get(id).copied(), refunds.get(id).map(|m| **m));
    }
    let disputes: BTreeMap<_, _> = known().flat_map(|taken| &taken.disputes).collect();
    let ids: BTreeSet<&DisputeId> = told.disputes.keys().chain(disputes.keys().copied()).collect();
    let say = |dispute: &Dispute| format!("{} of {}", dispute.status, dispute.amount);
    for id in ids {
        let known = disputes.get(id).map(|dispute| say(dispute));
        found.same(&format!("dispute {id}"), told.disputes.get(id).map(say), known);
    }
}

/// Whether the pledge stands where the payment that it uses has come to.
fn compare_state(
    payment_id: &PaymentId,
    told: &ReportedPayment,
    record: &PledgeRecord,
    found: &mut Mismatches,
) {
    let status = record.state.status();
    let is_in_use = in_use(record) == Some(payment_id);
    let expected = match status {
        PledgeStatus::Pending if told.has_failed => Some("failed"),
        PledgeStatus::Pending if told.captured.is_none() && told.authorized.is_some() => Some("authorized"),
        PledgeStatus::Authorized if is_in_use && told.has_failed => Some("failed"),
        PledgeStatus::Authorized if is_in_use && told.captured.is_none() && told.authorized.is_none() => {
            Some("not known")
        }
        PledgeStatus::Captured if is_in_use && told.is_settled => Some("settled"),
        PledgeStatus::Completed if is_in_use && !told.is_settled && told.captured.is_some() => {
            Some("not settled")
        }
        PledgeStatus::Pending
        | PledgeStatus::Authorized
        | PledgeStatus::Captured
        | PledgeStatus::Completed
        | PledgeStatus::Failed
        | PledgeStatus::Expired
        | PledgeStatus::Cancelled => None,
    };
    if let Some(expected) = expected {
        found.0.push(format!("the provider says it is {expected}, and the pledge is {status}"));
    }
}

/// Differences that are still there after `patience`: each payment is asked about by itself, and the
/// ledger is read on.
async fn look_again(
    provider: &dyn Provider,
    mut differences: BTreeSet<Difference>,
    ledger: &mut LedgerState,
    pool: &PgPool,
    patience: Duration,
) -> anyhow::Result<BTreeSet<Difference>> {
    let started = Instant::now();
    while !differences.is_empty() && differences.len() <= MAX_LOOKED_AT_AGAIN && started.elapsed() < patience
    {
        show_progress(&format!("{}: {} differences, looking again", provider.name(), differences.len()));
        tokio::time::sleep(LOOK).await;
        let payments: BTreeSet<PaymentId> =
            differences.into_iter().map(|difference| difference.payment_id).collect();
        let mut list = List::default();
        for payment_id in &payments {
            match provider.look_up(payment_id).await {
                Ok(report) => report.iter().for_each(|report| list.add(report)),
                // It does not know the payment.
                Err(ProviderError::Refused(_)) => {}
                Err(error @ ProviderError::Unavailable(_)) => return Err(error.into()),
            }
        }
        ledger.read_on(pool).await?;
        let looked = payments.iter().flat_map(|id| list.differences_of(id, provider.name(), ledger));
        differences = looked.collect();
    }
    Ok(differences)
}

/// For whoever watches.
fn show_progress(text: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // A terminal that is gone is nobody's loss.
        let _ = write!(out, "\r\x1b[K{text}\r").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use domain::pledge::UnappliedReason;
    use domain::{CampaignId, DonorId, PledgeEvent, Rules};
    use uuid::Uuid;

    use super::*;

    const PLEDGE: PledgeId = PledgeId(Uuid::from_u128(1));
    const OTHER: PledgeId = PledgeId(Uuid::from_u128(2));
    const CAMPAIGN: CampaignId = CampaignId(Uuid::from_u128(3));
    const DONOR: DonorId = DonorId(Uuid::from_u128(4));

    fn usd(minor: i64) -> Money {
        Money::new(minor, "USD".parse().unwrap()).unwrap()
    }

    fn pay() -> PaymentId {
        "pay_1".parse().unwrap()
    }

    fn captured_events() -> Vec<PledgeEvent> {
        let (campaign_id, donor_id, payment_id, amount) = (CAMPAIGN, DONOR, pay(), usd(5000));
        vec![
            PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: false },
            PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment_id.clone(), amount },
            PledgeEvent::PledgeCaptured { campaign_id, donor_id, payment_id, amount, was_unapplied: false },
        ]
    }

    /// A ledger in which payment `pay_1` of 5000 pays a pledge, and `more` has happened to it.
    fn ledger(more: Vec<PledgeEvent>) -> LedgerState {
        let events = captured_events().into_iter().chain(more);
        let pledge = events.fold(Pledge::default(), Pledge::evolve);
        LedgerState {
            reader: EventReader::default(),
            position: 3,
            pledges: HashMap::from([(PLEDGE, pledge)]),
            payments: BTreeMap::from([(pay(), BTreeSet::from([PLEDGE]))]),
        }
    }

    fn said(facts: &[PaymentFact], pledge_id: PledgeId, ledger: &LedgerState) -> Vec<String> {
        let mut list = List::default();
        list.add(&PaymentReport { facts: facts.to_vec(), ..PaymentReport::nothing(pledge_id) });
        list.differences_of(&pay(), "sandbox", ledger).into_iter().map(|found| found.what).collect()
    }

    fn captured(minor: i64) -> PaymentFact {
        PaymentFact::Captured { payment_id: pay(), amount: usd(minor) }
    }

    fn refunded(minor: i64) -> PaymentFact {
        PaymentFact::Refunded { payment_id: pay(), refund_id: "re_1".parse().unwrap(), amount: usd(minor) }
    }

    #[test]
    fn sums_are_what_the_provider_says() {
        let dispute_id = |id: &str| id.parse().unwrap();
        let facts = vec![
            captured(5000),
            refunded(100),
            PaymentFact::DisputeOpened {
                payment_id: pay(),
                dispute_id: dispute_id("dp_1"),
                amount: usd(700),
            },
            PaymentFact::DisputeWon { payment_id: pay(), dispute_id: dispute_id("dp_2"), amount: usd(90) },
            PaymentFact::DisputeLost { payment_id: pay(), dispute_id: dispute_id("dp_3"), amount: usd(8) },
        ];
        let mut list = List::default();
        list.add(&PaymentReport { facts, ..PaymentReport::nothing(PLEDGE) });
        let sums = &list.summary("sandbox").currencies[0];
        let gone = (sums.refunded_minor, sums.charged_back_minor, sums.in_dispute_minor);
        assert_eq!((sums.captured_minor, gone, sums.settled_minor), (5000, (100, 8, 700), 0));
    }

    #[test]
    fn each_difference_is_named() {
        let plain = ledger(vec![]);
        assert_eq!(said(&[captured(5000)], PLEDGE, &plain), [""; 0]);
        assert_eq!(
            said(&[captured(4999)], PLEDGE, &plain),
            ["taken: the provider says 49.99 USD, the ledger 50.00 USD"]
        );
        assert_eq!(said(&[], PLEDGE, &plain), ["taken: the ledger says 50.00 USD, the provider nothing"]);
        assert_eq!(
            said(&[captured(5000), refunded(100)], PLEDGE, &plain),
            ["refund re_1: the provider says 1.00 USD, the ledger nothing"]
        );
        let settled = PaymentFact::Settled { payment_id: pay(), amount: usd(5000) };
        assert_eq!(
            said(&[settled], PLEDGE, &plain),
            ["the provider says it is settled, and the pledge is captured"]
        );
        let lost = PaymentFact::DisputeLost {
            payment_id: pay(),
            dispute_id: "dp_1".parse().unwrap(),
            amount: usd(1),
        };
        assert_eq!(
            said(&[captured(5000), lost], PLEDGE, &plain),
            ["dispute dp_1: the provider says lost of 0.01 USD, the ledger nothing"]
        );
        let unknown = said(&[captured(5000)], OTHER, &plain);
        assert_eq!(unknown, ["the provider says it is for a pledge that the ledger does not have"]);
    }

    #[test]
    fn money_of_another_pledge_is_a_difference_and_accepted_money_is_none() {
        let mut two = ledger(vec![]);
        let other = captured_events();
        two.pledges.insert(OTHER, other.into_iter().fold(Pledge::default(), Pledge::evolve));
        two.payments.get_mut(&pay()).unwrap().insert(OTHER);
        let twice = said(&[captured(5000)], PLEDGE, &two);
        assert_eq!(twice, [format!("the ledger has it under pledge {OTHER}, the provider does not")]);

        let (campaign_id, donor_id) = (CAMPAIGN, DONOR);
        let held = vec![
            PledgeEvent::PledgeCreated { campaign_id, donor_id, amount: usd(5000), anonymous: false },
            PledgeEvent::PledgeExpired { campaign_id, amount: usd(5000) },
            PledgeEvent::PaymentUnapplied {
                campaign_id,
                donor_id,
                payment_id: pay(),
                amount: usd(5000),
                reason: UnappliedReason::NotNeeded,
            },
            PledgeEvent::UnappliedAccepted {
                campaign_id,
                donor_id,
                payment_id: pay(),
                amount: usd(5000),
                accepted_as: OTHER,
            },
        ];
        two.pledges.insert(PLEDGE, held.into_iter().fold(Pledge::default(), Pledge::evolve));
        assert_eq!(said(&[captured(5000)], PLEDGE, &two), [""; 0]);
        let missing = said(&[captured(5000), refunded(100)], PLEDGE, &two);
        assert_eq!(missing, ["refund re_1: the provider says 1.00 USD, the ledger nothing"]);
    }
}
