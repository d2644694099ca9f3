//! Payouts: one message that settles many payments, of which the provider is asked page by page.

use std::collections::HashSet;

use domain::pledge::CaptureLimit;
use event_store::{Ledger, Metadata};
use payments::Provider;
use uuid::Uuid;

use crate::apply::{Hearing, Verdict, apply};
use crate::ask;

/// Pages of one payout that are read at most, so that a provider whose pages never end holds nothing
/// up. At a hundred payments each, a payout of a hundred thousand.
const MAX_PAGES: usize = 1_000;

/// The outcome of a payout.
#[derive(Debug)]
pub(crate) struct PayoutOutcome {
    pub(crate) verdict: Verdict,
    /// The pledges that have new events.
    pub(crate) moved: HashSet<Uuid>,
}

/// Records as settled what was part of a payout. Each page is applied before the next is read; a
/// payout that is begun again finds nothing new in what was applied before. The verdict is the worst
/// of all payments, so one that cannot be settled yet lets the whole payout be tried again.
///
/// # Errors
/// The database's error when pledges cannot be read.
pub(crate) async fn settle(
    ledger: &Ledger,
    limit: CaptureLimit,
    provider: &dyn Provider,
    payout_id: &str,
    metadata: &Metadata,
) -> Result<PayoutOutcome, sqlx::Error> {
    let mut paid_out = PayoutOutcome { verdict: Verdict::Processed, moved: HashSet::new() };
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = match provider.paid_out(payout_id, cursor.as_deref()).await {
            Ok(page) => page,
            Err(error) => {
                paid_out.verdict = error.into();
                return Ok(paid_out);
            }
        };
        let said = page
            .reports
            .into_iter()
            .flat_map(|report| Hearing::of_facts(0, report.pledge_id.0, report.facts, metadata));
        let applied = apply(ledger, limit, said.collect()).await?;
        paid_out.moved.extend(applied.moved);
        let mut worst = paid_out.verdict;
        for outcome in applied.outcomes {
            let verdict = match outcome.to_ask {
                Some(hearing) => {
                    let (verdict, asked) = ask::settle(ledger, limit, provider, hearing).await?;
                    paid_out.moved.extend(asked.moved);
                    verdict
                }
                None => outcome.verdict,
            };
            worst = worst.max(verdict);
        }
        paid_out.verdict = worst;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(paid_out);
        }
    }
    paid_out.verdict = Verdict::Review(format!("the payout {payout_id} does not end"));
    Ok(paid_out)
}
