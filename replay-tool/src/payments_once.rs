//! Every payment belongs to one pledge. Only money that was held apart goes to another one, by acceptance.

use std::hash::{BuildHasher, RandomState};
use std::io;

use domain::pledge::Usage;
use domain::{PaymentId, Pledge, PledgeId};
use uuid::Uuid;

use crate::ledger::Fault;
use crate::sorter::{Room, Sorter};

/// Which pledges have each payment, for any number of payments.
pub(crate) struct PaymentsOnce {
    /// The payments of the present pledge, and the event of it that names each first.
    present: Vec<(PaymentId, i64)>,
    /// By payment. Ids begin alike, and sorting is fast where keys do not, so each has a hash before it.
    holders: Sorter,
    hash: RandomState,
}

/// A pledge that has a payment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Holder {
    pledge_id: PledgeId,
    /// The first of its events that names the payment.
    position: i64,
    /// The pledge that the payment went to.
    went_to: Option<PledgeId>,
    /// Whether it came from another pledge.
    came: bool,
}

const HASH_BYTES: usize = 8;
const HOLDER_BYTES: usize = 41;

impl PaymentsOnce {
    /// No payment is known yet.
    pub(crate) fn new(room: Room) -> Self {
        Self { present: Vec::new(), holders: Sorter::new(room), hash: RandomState::new() }
    }

    /// An event of the present pledge names a payment.
    pub(crate) fn note(&mut self, payment_id: &PaymentId, position: i64) {
        if !self.present.iter().any(|(known, _)| known == payment_id) {
            self.present.push((payment_id.clone(), position));
        }
    }

    /// How the present pledge stands in the end.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn end(&mut self, pledge_id: PledgeId, pledge: &Pledge) -> io::Result<()> {
        for (payment_id, position) in self.present.drain(..) {
            let payment = pledge.record().and_then(|record| record.payments.get(&payment_id));
            let went_to = match payment.map(|payment| payment.usage) {
                Some(Usage::AcceptedAs(other)) => Some(other),
                Some(Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) | Usage::Unapplied(_))
                | None => None,
            };
            let came = payment.is_some_and(|payment| payment.came_as().is_some());
            let holder = Holder { pledge_id, position, went_to, came };
            let hash = self.hash.hash_one(payment_id.as_str()).to_be_bytes();
            self.holders.push(&[&hash, payment_id.as_str().as_bytes()].concat(), &[&holder.to_bytes()])?;
        }
        Ok(())
    }

    /// Gives every payment that more than one pledge has.
    ///
    /// # Errors
    /// The temporary file cannot be written or read.
    pub(crate) fn finish(self, mut tell: impl FnMut(Fault)) -> io::Result<()> {
        let sorted = self.holders.finish()?;
        let mut records = sorted.records()?;
        let (mut payment, mut holders): (Vec<u8>, Vec<Holder>) = (Vec::new(), Vec::new());
        while let Some((key, holder)) = records.next()? {
            if key != payment {
                fault(&payment, &mut holders).into_iter().for_each(&mut tell);
                payment.clear();
                payment.extend_from_slice(key);
                holders.clear();
            }
            holders.push(Holder::read(holder.try_into().map_err(io::Error::other)?));
        }
        fault(&payment, &mut holders).into_iter().for_each(tell);
        Ok(())
    }
}

/// The fault of a payment, if it has one.
fn fault(key: &[u8], holders: &mut [Holder]) -> Option<Fault> {
    let goes = |from: &Holder, to: &Holder| from.went_to == Some(to.pledge_id) && to.came;
    let has_gone = |holder: &&Holder| holders.iter().any(|other| goes(holder, other));
    let has_come = |holder: &&Holder| holders.iter().any(|other| goes(other, holder));
    let stay = holders.iter().filter(|holder| !has_gone(holder)).count();
    let from_nowhere = holders.iter().any(|holder| holder.came && !has_come(&holder));
    if stay <= 1 && !from_nowhere {
        return None;
    }
    holders.sort_unstable_by_key(|holder| holder.position);
    let position = holders.get(1).or(holders.first())?.position;
    let payment_id = String::from_utf8_lossy(key.get(HASH_BYTES..)?);
    let pledges: Vec<String> = holders.iter().map(|holder| holder.pledge_id.to_string()).collect();
    let pledges = pledges.join(" and ");
    let what = format!(
        "position {position}: payment {payment_id} is a payment of pledge {pledges}, and was not accepted"
    );
    Some(Fault { position, what })
}

impl Holder {
    fn to_bytes(self) -> [u8; HOLDER_BYTES] {
        let mut bytes = [0; HOLDER_BYTES];
        bytes[..16].copy_from_slice(self.pledge_id.0.as_bytes());
        bytes[16..32].copy_from_slice(self.went_to.map_or(Uuid::nil(), |other| other.0).as_bytes());
        bytes[32..40].copy_from_slice(&self.position.to_be_bytes());
        bytes[40] = u8::from(self.came);
        bytes
    }

    fn read(bytes: &[u8; HOLDER_BYTES]) -> Self {
        let id = |bytes: &[u8]| PledgeId(Uuid::from_slice(bytes).unwrap_or_default());
        let [.., a, b, c, d, e, f, g, h, came] = *bytes;
        Self {
            pledge_id: id(&bytes[..16]),
            went_to: Some(id(&bytes[16..32])).filter(|other| !other.0.is_nil()),
            position: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            came: came == 1,
        }
    }
}
