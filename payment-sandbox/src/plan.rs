//! Which messages tell of a fact: a pure function of the fact and the dial.

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::dial::Dial;
use crate::draws::Draws;
use crate::facts::{Fact, FactData, FactMessage, FactType};
use crate::money::Amount;

/// A message that is held back waits for at least this, and at most [`MAX_HELD_BACK_MS`]. The
/// facts of one payment follow each other within this.
const MIN_HELD_BACK_MS: u32 = 1_000;
const MAX_HELD_BACK_MS: u32 = 3_000;
/// A message is sent again at the same moment or up to this later.
const MAX_AGAIN_AFTER_MS: u32 = 1_000;
/// Most repeats of one message.
const MAX_COPIES: u32 = 3;
/// Amount in a forged message if the genuine one has none.
const FORGED_AMOUNT_MINOR: i64 = 100_000;

/// The purpose of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryKind {
    /// Tells of a fact.
    First,
    /// Tells of it again, under the same webhook id.
    Again,
    /// Would tell of it, and is never sent.
    Lost,
    /// Tells of money that never moved, and is signed with a wrong secret.
    Forged,
    /// Is signed rightly, and is no whole JSON.
    Malformed,
}

impl DeliveryKind {
    const ALL: [Self; 5] = [Self::First, Self::Again, Self::Lost, Self::Forged, Self::Malformed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::Lost => "lost",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
        }
    }

    /// Whether it is sent until the merchant takes it. A merchant should never take the others.
    pub(crate) fn is_genuine(self) -> bool {
        match self {
            Self::First | Self::Again | Self::Lost => true,
            Self::Forged | Self::Malformed => false,
        }
    }
}

impl TryFrom<String> for DeliveryKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| format!("{name} is no kind of a message"))
    }
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedMessage {
    pub(crate) kind: DeliveryKind,
    pub(crate) webhook_id: String,
    pub(crate) body: String,
    /// How long after now.
    pub(crate) after: Duration,
    /// Whether it was held back so that later ones overtake it.
    pub(crate) reordered: bool,
}

/// The messages that tell of `fact`, and those that are sent beside it.
///
/// # Errors
/// The fact cannot be written as JSON.
pub(crate) fn plan(dial: &Dial, fact: &Fact) -> Result<Vec<PlannedMessage>, serde_json::Error> {
    let number = fact.number.to_be_bytes();
    let subject: [&[u8]; 4] = [b"fact", fact.reference.as_bytes(), fact.r#type.name().as_bytes(), &number];
    let planner = Planner { dial, draws: Draws::new(dial.seed, &subject), fact };
    let body = to_json(&fact.message())?;
    let mut messages = planner.genuine(&body);
    if planner.draws.happens("forge", dial.forge_rate) {
        messages.push(planner.forged()?);
    }
    if planner.draws.happens("malform", dial.malformed_rate) {
        messages.push(planner.malformed(&body));
    }
    Ok(messages)
}

struct Planner<'a> {
    dial: &'a Dial,
    draws: Draws,
    fact: &'a Fact,
}

impl Planner<'_> {
    /// The message, and those that repeat it; none of them is sent if it is lost.
    fn genuine(&self, body: &str) -> Vec<PlannedMessage> {
        let lost = self.draws.happens("lose", self.dial.loss_rate);
        let reordered = !lost && self.draws.happens("reorder", self.dial.reorder_rate);
        let held_back_ms = match reordered {
            true => MIN_HELD_BACK_MS + self.draws.up_to("hold back", MAX_HELD_BACK_MS - MIN_HELD_BACK_MS),
            false => 0,
        };
        let first = PlannedMessage {
            kind: if lost { DeliveryKind::Lost } else { DeliveryKind::First },
            webhook_id: self.id("msg", "message"),
            body: body.to_owned(),
            after: self.delay("delay") + milliseconds(held_back_ms),
            reordered,
        };
        let copies = match !lost && self.draws.happens("duplicate", self.dial.duplicate_rate) {
            true => 1 + self.draws.up_to("copies", MAX_COPIES - 1),
            false => 0,
        };
        let again = (1..=copies).map(|copy| PlannedMessage {
            kind: DeliveryKind::Again,
            after: first.after + self.again_after(copy),
            reordered: false,
            ..first.clone()
        });
        let again: Vec<_> = again.collect();
        [vec![first], again].concat()
    }

    /// Half of the copies are sent at the same moment as the first, which is when a merchant that asks
    /// "do I know it?" and then stores takes both.
    fn again_after(&self, copy: u32) -> Duration {
        match self.draws.happens(&format!("together {copy}"), 0.5) {
            true => Duration::ZERO,
            false => milliseconds(self.draws.up_to(&format!("again {copy}"), MAX_AGAIN_AFTER_MS)),
        }
    }

    fn forged(&self) -> Result<PlannedMessage, serde_json::Error> {
        let message = FactMessage {
            r#type: FactType::Captured,
            timestamp: self.fact.occurs_at,
            data: FactData {
                pledge_id: self.fact.reference,
                payment_id: self.id("pay", "forged payment"),
                amount: Some(Amount {
                    amount_minor: self.fact.amount_minor.unwrap_or(FORGED_AMOUNT_MINOR),
                    currency: self.fact.currency.clone(),
                }),
                refund_id: None,
                dispute_id: None,
                reversal_id: None,
                reason: None,
            },
        };
        Ok(self.beside(DeliveryKind::Forged, "forged", to_json(&message)?))
    }

    fn malformed(&self, body: &str) -> PlannedMessage {
        // Cut somewhere before the last brace, which leaves no whole JSON.
        let longest = u32::try_from(body.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let mut end = self.draws.up_to("cut", longest) as usize;
        while !body.is_char_boundary(end) {
            end -= 1;
        }
        self.beside(DeliveryKind::Malformed, "malformed", body[..end].to_owned())
    }

    fn beside(&self, kind: DeliveryKind, purpose: &str, body: String) -> PlannedMessage {
        PlannedMessage {
            kind,
            webhook_id: self.id("msg", purpose),
            body,
            after: self.delay(&format!("{purpose} delay")),
            reordered: false,
        }
    }

    fn id(&self, prefix: &str, purpose: &str) -> String {
        format!("{prefix}_{}", Uuid::new_v8(self.draws.bytes(&format!("{purpose} id"))).simple())
    }

    fn delay(&self, purpose: &str) -> Duration {
        milliseconds(self.draws.up_to(purpose, self.dial.delay_ms.unsigned_abs()))
    }
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

fn to_json(message: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn fact(reference: u128, r#type: FactType, number: i32) -> Fact {
        Fact {
            session_id: Uuid::from_u128(1),
            number,
            r#type,
            amount_minor: (r#type != FactType::Failed).then_some(2_500),
            subject_id: None,
            reason: (r#type == FactType::Failed).then(|| "zu teuer – häßlich".to_owned()),
            occurs_at: DateTime::UNIX_EPOCH,
            reference: Uuid::from_u128(reference),
            payment_id: "pay_1".to_owned(),
            currency: "USD".to_owned(),
        }
    }

    fn planned(dial: &Dial, reference: u128) -> Vec<PlannedMessage> {
        plan(dial, &fact(reference, FactType::Captured, 2)).unwrap()
    }

    fn all_faults(seed: i64, rate: f64) -> Dial {
        Dial {
            seed,
            duplicate_rate: rate,
            reorder_rate: rate,
            delay_ms: 500,
            forge_rate: rate,
            malformed_rate: rate,
            ..Dial::default()
        }
    }

    fn of_kind(messages: &[PlannedMessage], kind: DeliveryKind) -> usize {
        messages.iter().filter(|message| message.kind == kind).count()
    }

    #[test]
    fn without_faults_a_fact_is_told_once_and_at_once() {
        let messages = planned(&Dial::default(), 2);
        let [only] = &messages[..] else { panic!("{messages:?}") };
        let expected = serde_json::to_string(&fact(2, FactType::Captured, 2).message()).unwrap();
        assert_eq!((only.kind, only.after, only.reordered), (DeliveryKind::First, Duration::ZERO, false));
        assert_eq!(only.body, expected);
    }

    #[test]
    fn rates_are_shares_of_the_messages() {
        let plans: Vec<_> = (0..2_000).map(|n| planned(&all_faults(5, 0.25), n)).collect();
        let share =
            |holds: &dyn Fn(&Vec<PlannedMessage>) -> bool| plans.iter().filter(|plan| holds(plan)).count();
        for found in [
            share(&|plan| of_kind(plan, DeliveryKind::Again) > 0),
            share(&|plan| plan[0].reordered),
            share(&|plan| of_kind(plan, DeliveryKind::Forged) > 0),
            share(&|plan| of_kind(plan, DeliveryKind::Malformed) > 0),
        ] {
            assert!((420..580).contains(&found), "{found} of 2000");
        }
        for copies in 1..=3 {
            let found = share(&|plan| of_kind(plan, DeliveryKind::Again) == copies);
            assert!((110..230).contains(&found), "{found} with {copies} copies");
        }
    }

    #[test]
    fn a_lost_message_is_lost_with_all_that_repeats_it() {
        let dial = Dial { loss_rate: 1.0, ..all_faults(1, 1.0) };
        let messages = planned(&dial, 2);
        assert_eq!(
            (of_kind(&messages, DeliveryKind::First), of_kind(&messages, DeliveryKind::Again)),
            (0, 0)
        );
        assert_eq!(of_kind(&messages, DeliveryKind::Lost), 1);
        // Forged and malformed copies are not repeats.
        assert_eq!(
            (of_kind(&messages, DeliveryKind::Forged), of_kind(&messages, DeliveryKind::Malformed)),
            (1, 1)
        );
    }

    proptest! {
        #[test]
        fn the_same_seed_makes_the_same_plan(seed in 0..i64::MAX, reference: u128) {
            let dial = all_faults(seed, 0.5);
            prop_assert_eq!(planned(&dial, reference), planned(&dial, reference));
        }

        #[test]
        fn one_rate_does_not_disturb_the_others(seed in 0..i64::MAX, reference: u128) {
            let dial = all_faults(seed, 0.5);
            let fewer = Dial { duplicate_rate: 0.0, ..all_faults(seed, 0.5) };
            let mut messages = planned(&dial, reference);
            messages.retain(|message| message.kind != DeliveryKind::Again);
            prop_assert_eq!(messages, planned(&fewer, reference));
        }

        #[test]
        fn repeats_are_the_same_message_and_never_before_it(seed in 0..i64::MAX, reference: u128) {
            let messages = planned(&all_faults(seed, 1.0), reference);
            let first = &messages[0];
            prop_assert!(first.reordered && first.after >= milliseconds(MIN_HELD_BACK_MS));
            prop_assert!(first.after <= milliseconds(MAX_HELD_BACK_MS + 500));
            let is_again = |message: &&PlannedMessage| message.kind == DeliveryKind::Again;
            let again: Vec<_> = messages.iter().filter(is_again).collect();
            prop_assert!((1..=3).contains(&again.len()));
            for copy in again {
                prop_assert_eq!((&copy.webhook_id, &copy.body), (&first.webhook_id, &first.body));
                prop_assert!(copy.after >= first.after);
            }
        }

        #[test]
        fn what_is_not_genuine_has_an_id_of_its_own_and_tells_nothing_true(
            seed in 0..i64::MAX, reference: u128, r#type in 0..FactType::ALL.len(),
        ) {
            let fact = fact(reference, FactType::ALL[r#type], 3);
            let messages = plan(&all_faults(seed, 1.0), &fact).unwrap();
            let find = |kind| messages.iter().find(|message| message.kind == kind).unwrap();
            let (forged, malformed) = (find(DeliveryKind::Forged), find(DeliveryKind::Malformed));
            prop_assert!(messages[0].webhook_id != forged.webhook_id);
            prop_assert!(messages[0].webhook_id != malformed.webhook_id);
            prop_assert!(forged.webhook_id != malformed.webhook_id);
            let lie: serde_json::Value = serde_json::from_str(&forged.body).unwrap();
            prop_assert_eq!(&lie["type"], "payment.captured");
            prop_assert!(lie["data"]["payment_id"] != "pay_1");
            prop_assert!(serde_json::from_str::<serde_json::Value>(&malformed.body).is_err());
        }

        #[test]
        fn facts_of_one_payment_are_drawn_for_apart(seed in 0..i64::MAX, reference: u128) {
            let dial = all_faults(seed, 0.5);
            let one = plan(&dial, &fact(reference, FactType::Refunded, 4)).unwrap();
            let two = plan(&dial, &fact(reference, FactType::Refunded, 5)).unwrap();
            prop_assert!(one[0].webhook_id != two[0].webhook_id);
        }
    }
}
