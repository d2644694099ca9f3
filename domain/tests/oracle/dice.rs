//! Choices from a seed. Written out here, so that a seed means the same history whatever library is upgraded.

/// SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that roll the same for the same seed and purpose, and differently for any other.
    pub(super) fn new(seed: u64, purpose: u64) -> Dice {
        let mut dice = Dice(seed);
        Dice(dice.next() ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both possible.
    pub(super) fn between(&mut self, least: i64, most: i64) -> i64 {
        assert!(least <= most, "{least} is more than {most}");
        least + (self.next() % (most - least + 1) as u64) as i64
    }

    /// Always rolls, so that a dial changes no later choice.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}
