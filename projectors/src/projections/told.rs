//! One payment for tests, told in two orders. Whatever is folded of it must be the same in the end.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{CampaignId, DonorId, MoneyMove, PledgeId};
use uuid::Uuid;

pub(crate) const CAMPAIGN: CampaignId = CampaignId(Uuid::from_u128(1));
pub(crate) const DONOR: DonorId = DonorId(Uuid::from_u128(2));
pub(crate) const PLEDGE: PledgeId = PledgeId(Uuid::from_u128(3));

/// An event: when it was recorded, and the moves that it tells of.
pub(crate) type Told = (DateTime<Utc>, Vec<MoneyMove>);

/// Noon of a day.
pub(crate) fn noon(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(24 * day + 12)
}

/// A move on a day that moves nothing yet.
pub(crate) fn on(day: i64) -> MoneyMove {
    MoneyMove::none(noon(day), "EUR".parse().unwrap())
}

/// Captured on a day, as a gift or as more of one; less, where it is negative.
pub(crate) fn captured(day: i64, gifts: i64, captured_minor: i64) -> MoneyMove {
    MoneyMove { gifts, captured_minor, ..on(day) }
}

/// 2000 were captured on day 0, and 5000 so far on day 1. On day 2 a dispute of 5000 was opened, and 4000 of
/// it reversed. All of it was heard at once.
pub(crate) fn in_order() -> Vec<Told> {
    vec![
        (noon(0), vec![captured(0, 1, 2000)]),
        (noon(1), vec![captured(1, 0, 3000)]),
        (noon(2), vec![MoneyMove { in_dispute_minor: 5000, ..on(2) }]),
        (noon(2), vec![MoneyMove { in_dispute_minor: -4000, reversed_minor: 4000, ..on(2) }]),
    ]
}

/// The same, heard backwards on day 3: returns with the capture that they waited for.
pub(crate) fn in_reverse() -> Vec<Told> {
    let gone = MoneyMove { in_dispute_minor: 1000, reversed_minor: 4000, ..on(2) };
    vec![
        (noon(3), vec![captured(1, 1, 5000), gone]),
        (noon(3), vec![captured(1, -1, -2000), captured(0, 1, 2000)]),
    ]
}

/// The same, after which all of it is found to be another pledge's.
pub(crate) fn moved_away() -> Vec<Told> {
    let gone = MoneyMove { in_dispute_minor: -1000, reversed_minor: -4000, ..on(2) };
    let away = (noon(4), vec![captured(0, -1, -2000), captured(1, 0, -3000), gone]);
    in_order().into_iter().chain([away]).collect()
}
