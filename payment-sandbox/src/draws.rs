//! Random choices that can be repeated.

use sha2::{Digest, Sha256};

/// The draws for one subject, such as a message: each is a hash of the seed, the subject and what
/// is drawn for. So they depend neither on time nor on the order in which subjects come, and
/// turning one rate of the dial leaves the choices of the others as they were.
pub(crate) struct Draws(Sha256);

impl Draws {
    /// The draws for the subject that `parts` name.
    pub(crate) fn new(seed: i64, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        // Each part is preceded by its length, so that no two lists of parts run together.
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash)
    }

    /// 16 random bytes.
    pub(crate) fn bytes(&self, purpose: &str) -> [u8; 16] {
        let digest = self.0.clone().chain_update(purpose).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes
    }

    /// True for a share of `rate` of all subjects: never at 0, always at 1.
    pub(crate) fn happens(&self, purpose: &str, rate: f64) -> bool {
        // 53 bits are what a float holds exactly; the quotient is below 1.
        let unit = (self.number(purpose) >> 11) as f64 / (1_u64 << 53) as f64;
        unit < rate
    }

    /// A number from 0 to `max`, each as likely as the others.
    pub(crate) fn up_to(&self, purpose: &str, max: u32) -> u32 {
        let scaled = u128::from(self.number(purpose)) * (u128::from(max) + 1);
        // The upper half of the product, which is at most `max`.
        (scaled >> 64) as u32
    }

    fn number(&self, purpose: &str) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.bytes(purpose)[..8]);
        u64::from_be_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(n: u32) -> Draws {
        Draws::new(7, &[&n.to_be_bytes()])
    }

    #[test]
    fn rates_are_met() {
        let share = |rate: f64| (0..10_000).filter(|n| subject(*n).happens("lost", rate)).count();
        assert_eq!((share(0.0), share(1.0)), (0, 10_000));
        assert!((2_850..3_150).contains(&share(0.3)), "{}", share(0.3));
    }

    #[test]
    fn numbers_reach_both_ends_and_not_beyond() {
        let mut seen = [0; 4];
        for n in 0..4_000 {
            seen[subject(n).up_to("copies", 3) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (850..1_150).contains(count)), "{seen:?}");
        assert!((0..100).all(|n| subject(n).up_to("none", 0) == 0));
    }

    #[test]
    fn seed_subject_and_purpose_all_count() {
        let base = subject(1).bytes("lost");
        assert_eq!(base, subject(1).bytes("lost"));
        assert_ne!(base, subject(2).bytes("lost"));
        assert_ne!(base, subject(1).bytes("forged"));
        assert_ne!(base, Draws::new(8, &[&1_u32.to_be_bytes()]).bytes("lost"));
        assert_ne!(Draws::new(7, &[b"ab", b"c"]).bytes(""), Draws::new(7, &[b"a", b"bc"]).bytes(""));
    }
}
