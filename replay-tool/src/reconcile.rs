//! `replay reconcile`: the payment providers' own lists against the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Arg, Args};
use domain::payment::{Content, ObjectKey, PaymentState, Statement};
use domain::pledge::{PledgePayment, Said, Settlement, Usage};
use domain::{Event, Money, PaymentFact, PaymentId, Pledge, PledgeId, Rules};
use event_store::EventReader;
use futures_util::future::join_all;
use payments::{BuildContext, PaymentReport, Provider, ProviderError, ProviderSettings, Registry};
use serde::Serialize;
use service::ServicesFile;
use sqlx::PgPool;

use crate::connection::Connection;
use crate::events;

/// Events read at once.
const PAGE: i64 = 5_000;
/// How often differences are looked at again.
const LOOK: Duration = Duration::from_millis(500);
/// At most so many differences are looked at again and again; more are there to stay.
const MAX_LOOKED_AT_AGAIN: usize = 1_000;
/// Payments that a provider is asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// Compare the payment providers' own lists with the ledger.
///
/// Asks each provider for all payments that it has for our pledges, and compares every one with the
/// ledger: what was taken, refunded, reversed, disputed and settled, for which pledge. Lists lag, so a
/// payment that differs is asked for by its id. Names every difference that remains and exits with 1. What
/// a person has corrected may differ, and is listed by itself. Needs the keys of the providers, which are
/// those that the services are given.
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
        outcome.corrected.extend(list.corrected(provider.as_ref(), &ledger));
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
    /// Objects that stand as a person said.
    corrected: Vec<Difference>,
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
    reversed_minor: i64,
    charged_back_minor: i64,
    /// Withdrawn by disputes that are open.
    in_dispute_minor: i64,
    settled_minor: i64,
}

/// One thing that the provider and the ledger do not agree on, or that a person has said.
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
        for Difference { provider, pledge_id, payment_id, what } in &self.corrected {
            writeln!(out, "corrected: {provider}: payment {payment_id} of pledge {pledge_id}: {what}")?;
        }
        for Summary { provider, payments, currencies } in &self.providers {
            let sums = currencies.iter().map(|s| {
                format!(
                    "; {} minor units of {} taken, {} refunded, {} reversed, {} charged back, {} in dispute, \
                     {} settled",
                    s.captured_minor,
                    s.currency,
                    s.refunded_minor,
                    s.reversed_minor,
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
        if !self.corrected.is_empty() {
            writeln!(out, "{} objects were corrected by a person", self.corrected.len())?;
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
    /// How each object stands.
    objects: BTreeMap<ObjectKey, Statement>,
    authorized: Option<Money>,
    settled: Option<Settlement>,
}

impl ReportedPayment {
    /// Nothing has happened to a payment of this pledge.
    fn nothing(pledge_id: PledgeId) -> Self {
        Self { pledge_id, objects: BTreeMap::new(), authorized: None, settled: None }
    }

    fn add(&mut self, fact: &PaymentFact) {
        match &fact.said {
            Said::Stated(statement) | Said::Failed(statement, _) => self.hear(statement),
            Said::Settled(settlement) => self.settled = Some(*settlement),
        }
    }

    /// An answer counts before any message, and what stood later before what stood earlier.
    fn hear(&mut self, statement: &Statement) {
        self.authorized = statement.authorized_amount().or(self.authorized);
        let place = |said: &Statement| (said.origin(), said.stood_at());
        if self.objects.get(statement.object()).is_none_or(|known| place(known) <= place(statement)) {
            self.objects.insert(statement.object().clone(), statement.clone());
        }
    }

    fn says(&self, object: &ObjectKey) -> Option<Content> {
        self.objects.get(object).map(Statement::content)
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
            let told = self.payments.entry(fact.payment_id.clone());
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
        let pledge_id = told.pledge_id;
        let difference = |what| Difference { provider, pledge_id, payment_id: payment_id.clone(), what };
        ledger.compare(payment_id, &told).into_iter().map(difference).collect()
    }

    /// What stands in the ledger as a person said.
    fn corrected(&self, provider: &dyn Provider, ledger: &LedgerState) -> Vec<Difference> {
        let of_provider = ledger.payments.keys().filter(|id| provider.owns(id));
        of_provider.flat_map(|id| self.corrected_of(provider.name(), id, ledger)).collect()
    }

    fn corrected_of(
        &self,
        provider: &'static str,
        payment_id: &PaymentId,
        ledger: &LedgerState,
    ) -> Vec<Difference> {
        let mut corrected = Vec::new();
        for pledge_id in ledger.payments.get(payment_id).into_iter().flatten() {
            let Some(PledgePayment { history, .. }) = ledger.payment(*pledge_id, payment_id) else {
                continue;
            };
            for object in history.objects().filter(|object| history.is_corrected(object)) {
                let told = self.payments.get(payment_id).and_then(|told| told.says(object));
                let what = mismatch(object, told, history.counts(object));
                let (pledge_id, payment_id) = (*pledge_id, payment_id.clone());
                corrected.push(Difference { provider, pledge_id, payment_id, what });
            }
        }
        corrected
    }

    fn summary(&self, provider: &'static str) -> Summary {
        let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
        for told in self.payments.values() {
            let Some(captured) = told.says(&ObjectKey::Payment).and_then(Content::amount) else { continue };
            let code = captured.currency().code();
            let sums =
                sums.entry(code).or_insert_with(|| Sums { currency: code.to_owned(), ..Sums::default() });
            sums.settled_minor += told.settled.map_or(0, |settled| settled.amount.amount_minor());
            for (object, said) in &told.objects {
                let content = said.content();
                sums.captured_minor += content.captured_minor();
                sums.in_dispute_minor += content.withdrawn_minor();
                match object {
                    ObjectKey::Payment => {}
                    ObjectKey::Refund(_) => sums.refunded_minor += content.gone_minor(),
                    ObjectKey::Reversal(_) => sums.reversed_minor += content.gone_minor(),
                    ObjectKey::Dispute(_) => sums.charged_back_minor += content.gone_minor(),
                }
            }
        }
        Summary { provider, payments: self.payments.len(), currencies: sums.into_values().collect() }
    }
}

/// The provider says one thing of an object, and the ledger another.
fn mismatch(object: &ObjectKey, told: Option<Content>, known: Option<Content>) -> String {
    let say = |content: Option<Content>| content.map_or_else(|| "nothing".to_owned(), |c| c.to_string());
    let (object, told, known) = (events::object(object), say(told), say(known));
    format!("{object}: the provider says {told}, the ledger {known}")
}

/// Whether both say the same of an object. What moves no money need not be told again for ever.
fn is_same(told: Option<Content>, known: Option<Content>) -> bool {
    let known = known.map(counted);
    match told.map(counted) {
        None => known.is_none_or(|known| !moves_money(known)),
        // That a payment is open and nothing was taken says nothing.
        Some(Content::Payment(PaymentState { captured: None, over: None })) if known.is_none() => true,
        Some(told) => known == Some(told),
    }
}

/// That a payment is over counts only where nothing was taken.
fn counted(content: Content) -> Content {
    match content {
        Content::Payment(PaymentState { captured: captured @ Some(_), .. }) => {
            Content::Payment(PaymentState { captured, over: None })
        }
        Content::Payment(_) | Content::Refund(_) | Content::Dispute(_) | Content::Reversal(_) => content,
    }
}

fn moves_money(content: Content) -> bool {
    [content.captured_minor(), content.gone_minor(), content.withdrawn_minor()] != [0; 3]
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
                for payment_id in record.payments.keys() {
                    self.payments.entry(payment_id.clone()).or_default().insert(id);
                }
            }
            show_progress(&format!("ledger: position {} of {head}", self.position));
        }
        Ok(())
    }

    fn payment(&self, pledge_id: PledgeId, payment_id: &PaymentId) -> Option<&PledgePayment> {
        self.pledges.get(&pledge_id)?.record()?.payments.get(payment_id)
    }

    /// The pledge that a payment of this pledge was accepted as.
    fn accepted_as(&self, pledge_id: PledgeId, payment_id: &PaymentId) -> Option<PledgeId> {
        match self.payment(pledge_id, payment_id)?.usage {
            Usage::AcceptedAs(other) => Some(other),
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) | Usage::Unapplied(_) => None,
        }
    }

    /// Everything that the provider tells of a payment and that the ledger has otherwise, as sentences.
    fn compare(&self, payment_id: &PaymentId, told: &ReportedPayment) -> Vec<String> {
        if self.pledges.get(&told.pledge_id).and_then(Pledge::record).is_none() {
            return vec!["the provider says it is for a pledge that the ledger does not have".to_owned()];
        }
        // Money that was accepted as another pledge is in that one, and so is what became of it.
        let holder = self.accepted_as(told.pledge_id, payment_id).unwrap_or(told.pledge_id);
        let is_elsewhere =
            |other: &&PledgeId| **other != holder && self.accepted_as(**other, payment_id) != Some(holder);
        let elsewhere = self.payments.get(payment_id).into_iter().flatten().filter(is_elsewhere);
        let elsewhere =
            elsewhere.map(|other| format!("the ledger has it under pledge {other}, the provider does not"));
        let known = self.payment(holder, payment_id);
        elsewhere.chain(compare_objects(told, known)).chain(compare_others(told, known)).collect()
    }

    /// Payments of no provider that was asked.
    fn payments_elsewhere(&self, providers: &[Arc<dyn Provider>]) -> usize {
        self.payments.keys().filter(|id| !providers.iter().any(|provider| provider.owns(id))).count()
    }
}

/// Object by object. What a person has corrected is compared with nothing.
fn compare_objects(told: &ReportedPayment, known: Option<&PledgePayment>) -> Vec<String> {
    let history = known.map(|known| &known.history);
    let objects: BTreeSet<&ObjectKey> =
        told.objects.keys().chain(history.into_iter().flat_map(|history| history.objects())).collect();
    let provider_counts =
        objects.into_iter().filter(|object| history.is_none_or(|history| !history.is_corrected(object)));
    let differ = provider_counts.filter_map(|object| {
        let (told, known) = (told.says(object), history.and_then(|history| history.counts(object)));
        (!is_same(told, known)).then(|| mismatch(object, told, known))
    });
    differ.collect()
}

/// What is no state of an object: that money is reserved, and that it has arrived.
fn compare_others(told: &ReportedPayment, known: Option<&PledgePayment>) -> Vec<String> {
    let mut differ = Vec::new();
    let is_open = |content: Option<Content>| {
        content.is_none_or(|content| content == Content::Payment(PaymentState { captured: None, over: None }))
    };
    let counts = known.and_then(|known| known.history.counts(&ObjectKey::Payment));
    let says = told.says(&ObjectKey::Payment);
    if is_open(says) && is_open(counts) {
        let known = known.and_then(|known| known.history.authorized());
        match (told.authorized, known) {
            (Some(told), None) => {
                differ.push(format!("the provider says {told} is authorized, the ledger nothing"))
            }
            (None, Some(known)) => {
                differ.push(format!("the ledger says {known} is authorized, the provider nothing"))
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
    match (told.settled.is_some(), known.is_some_and(|known| known.settled.is_some())) {
        (true, false) => differ.push("the provider says it is settled, the ledger does not".to_owned()),
        (false, true) if !is_open(says) => {
            differ.push("the ledger says it is settled, the provider does not".to_owned());
        }
        (true, true) | (false, true | false) => {}
    }
    differ
}

/// Differences that are still there when each payment is asked for by its id, the ledger is read on, and
/// `patience` is over. A list only gives a hint.
async fn look_again(
    provider: &dyn Provider,
    mut differences: BTreeSet<Difference>,
    ledger: &mut LedgerState,
    pool: &PgPool,
    patience: Duration,
) -> anyhow::Result<BTreeSet<Difference>> {
    let started = Instant::now();
    while !differences.is_empty() {
        show_progress(&format!("{}: {} differences, looking again", provider.name(), differences.len()));
        let payments: BTreeSet<PaymentId> =
            differences.into_iter().map(|difference| difference.payment_id).collect();
        let list = look_up(provider, &payments).await?;
        ledger.read_on(pool).await?;
        let looked = payments.iter().flat_map(|id| list.differences_of(id, provider.name(), ledger));
        differences = looked.collect();
        if differences.len() > MAX_LOOKED_AT_AGAIN || started.elapsed() >= patience {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(differences)
}

/// Asks for payments by their ids.
async fn look_up(provider: &dyn Provider, payments: &BTreeSet<PaymentId>) -> anyhow::Result<List> {
    let mut list = List::default();
    let payments: Vec<&PaymentId> = payments.iter().collect();
    for some in payments.chunks(ASKED_AT_ONCE) {
        for answer in join_all(some.iter().map(|payment_id| provider.look_up(payment_id))).await {
            match answer {
                Ok(report) => report.iter().for_each(|report| list.add(report)),
                // It does not know the payment.
                Err(ProviderError::Refused(_)) => {}
                Err(error @ ProviderError::Unavailable(_)) => return Err(error.into()),
            }
        }
    }
    Ok(list)
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
    use domain::payment::{DisputeState, Over, RefundState, ReversalState, Stated};

    use super::*;
    use crate::told::{OTHER, PLEDGE, Told, captured, eur, noon, pay, told};

    fn refund(state: RefundState) -> Stated {
        Stated::refund("re_1".parse().unwrap(), state)
    }

    fn paid() -> Told {
        Told::new().pledge(PLEDGE, 0).hear(PLEDGE, 1, &[captured(1, 5000)])
    }

    fn ledger(told: &Told, pledges: &[PledgeId]) -> LedgerState {
        let states = pledges.iter().map(|pledge_id| (*pledge_id, told.state(*pledge_id).clone()));
        LedgerState {
            reader: EventReader::default(),
            position: 3,
            pledges: states.collect(),
            payments: BTreeMap::from([(pay(), pledges.iter().copied().collect())]),
        }
    }

    fn list(statements: &[Statement], pledge_id: PledgeId) -> List {
        let facts = statements.iter().map(|statement| PaymentFact::stated(pay(), statement.clone()));
        let mut list = List::default();
        list.add(&PaymentReport { facts: facts.collect(), ..PaymentReport::nothing(pledge_id) });
        list
    }

    fn said(statements: &[Statement], pledge_id: PledgeId, ledger: &LedgerState) -> Vec<String> {
        let found = list(statements, pledge_id).differences_of(&pay(), "sandbox", ledger);
        found.into_iter().map(|found| found.what).collect()
    }

    #[test]
    fn sums_are_what_the_provider_says() {
        let dispute = |id: &str, state| told(2, Stated::dispute(id.parse().unwrap(), state));
        let facts = [
            captured(1, 5000),
            told(2, refund(RefundState::Succeeded(eur(100)))),
            told(2, Stated::reversal("rv_1".parse().unwrap(), ReversalState::Gone(eur(20)))),
            dispute("dp_1", DisputeState::Opened(Some(eur(700)))),
            dispute("dp_2", DisputeState::Won),
            dispute("dp_3", DisputeState::Lost(eur(8))),
        ];
        let mut list = list(&facts, PLEDGE);
        let settled = Settlement { amount: eur(5000), at: noon(3) };
        let facts = vec![PaymentFact::settled(pay(), settled)];
        list.add(&PaymentReport { facts, ..PaymentReport::nothing(PLEDGE) });
        let sums = &list.summary("sandbox").currencies[0];
        let gone = (sums.refunded_minor, sums.reversed_minor, sums.charged_back_minor, sums.in_dispute_minor);
        assert_eq!((sums.captured_minor, gone, sums.settled_minor), (5000, (100, 20, 8, 700), 5000));
    }

    #[test]
    fn each_difference_is_named() {
        let plain = ledger(&paid(), &[PLEDGE]);
        assert_eq!(said(&[captured(1, 5000)], PLEDGE, &plain), [""; 0]);
        assert_eq!(
            said(&[captured(1, 4999)], PLEDGE, &plain),
            ["payment: the provider says captured 49.99 EUR, the ledger captured 50.00 EUR"]
        );
        assert_eq!(
            said(&[], PLEDGE, &plain),
            ["payment: the provider says nothing, the ledger captured 50.00 EUR"]
        );
        let refunded = told(2, refund(RefundState::Succeeded(eur(100))));
        assert_eq!(
            said(&[captured(1, 5000), refunded.clone()], PLEDGE, &plain),
            ["refund re_1: the provider says refunded 1.00 EUR, the ledger nothing"]
        );
        // An answer counts, whatever its place in the list.
        let answered = Statement::answered(refund(RefundState::Failed), noon(2));
        assert_eq!(
            said(&[answered, captured(1, 5000), refunded], PLEDGE, &plain),
            ["refund re_1: the provider says refund failed, the ledger nothing"]
        );
        let unknown = said(&[captured(1, 5000)], OTHER, &plain);
        assert_eq!(unknown, ["the provider says it is for a pledge that the ledger does not have"]);
    }

    #[test]
    fn what_moves_nothing_is_no_difference() {
        let failed = told(2, refund(RefundState::Failed));
        let known = ledger(&paid().hear(PLEDGE, 2, &[failed]), &[PLEDGE]);
        assert_eq!(said(&[captured(1, 5000)], PLEDGE, &known), [""; 0]);
        let over = Statement::answered(Stated::payment(Some(eur(5000)), Some(Over::Cancelled)), noon(3));
        assert_eq!(said(&[over], PLEDGE, &known), [""; 0]);
        let made = ledger(&Told::new().pledge(PLEDGE, 0), &[PLEDGE]);
        let open = told(1, Stated::payment(None, None));
        assert_eq!(said(std::slice::from_ref(&open), PLEDGE, &made), [""; 0]);
        let authorized = said(&[open.authorized(eur(5000))], PLEDGE, &made);
        assert_eq!(authorized, ["the provider says 50.00 EUR is authorized, the ledger nothing"]);
    }

    #[test]
    fn a_settlement_that_is_missing_is_a_difference() {
        let settled = Settlement { amount: eur(5000), at: noon(2) };
        let says = |ledger: &LedgerState, is_settled| {
            let mut list = list(&[captured(1, 5000)], PLEDGE);
            list.payments.get_mut(&pay()).unwrap().settled = Some(settled).filter(|_| is_settled);
            let found = list.differences_of(&pay(), "sandbox", ledger);
            found.into_iter().map(|found| found.what).collect::<Vec<_>>()
        };
        let captured = ledger(&paid(), &[PLEDGE]);
        assert_eq!(says(&captured, true), ["the provider says it is settled, the ledger does not"]);
        let completed = ledger(&paid().settled(PLEDGE, 2, 5000), &[PLEDGE]);
        assert_eq!(says(&completed, true), [""; 0]);
        assert_eq!(says(&completed, false), ["the ledger says it is settled, the provider does not"]);
    }

    #[test]
    fn money_of_another_pledge_is_a_difference_and_accepted_money_is_none() {
        let two = paid().pledge(OTHER, 2).hear(OTHER, 3, &[captured(1, 5000)]);
        let twice = said(&[captured(1, 5000)], PLEDGE, &ledger(&two, &[PLEDGE, OTHER]));
        assert_eq!(twice, [format!("the ledger has it under pledge {OTHER}, the provider does not")]);

        let held = Told::new().pledge(PLEDGE, 0).expired(PLEDGE, 1).hear(PLEDGE, 2, &[captured(2, 5000)]);
        let two = ledger(&held.accepted(PLEDGE, OTHER, 3), &[PLEDGE, OTHER]);
        for pledge_id in [PLEDGE, OTHER] {
            assert_eq!(said(&[captured(2, 5000)], pledge_id, &two), [""; 0]);
        }
        let refunded = told(2, refund(RefundState::Succeeded(eur(100))));
        let missing = said(&[captured(2, 5000), refunded], PLEDGE, &two);
        assert_eq!(missing, ["refund re_1: the provider says refunded 1.00 EUR, the ledger nothing"]);
    }

    /// No event tells of corrections yet, so one is put into the state.
    #[test]
    fn what_a_person_corrected_is_listed_and_is_no_difference() {
        let told = paid();
        let mut record = told.state(PLEDGE).record().unwrap().clone();
        let history = &mut record.payments.get_mut(&pay()).unwrap().history;
        let gone = refund(RefundState::Succeeded(eur(100)));
        let correction = history.correction(gone, noon(3), None, &[]).unwrap();
        history.correct(correction).unwrap();
        let mut ledger = ledger(&told, &[PLEDGE]);
        ledger.pledges.insert(PLEDGE, Pledge::Made(Box::new(record)));
        let statements = [captured(1, 5000), crate::told::told(2, refund(RefundState::Failed))];
        assert_eq!(said(&statements, PLEDGE, &ledger), [""; 0]);
        let corrected = list(&statements, PLEDGE).corrected_of("sandbox", &pay(), &ledger);
        let corrected: Vec<_> = corrected.into_iter().map(|difference| difference.what).collect();
        assert_eq!(corrected, ["refund re_1: the provider says refund failed, the ledger refunded 1.00 EUR"]);
    }
}
