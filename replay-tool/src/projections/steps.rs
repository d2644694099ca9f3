//! Numbers of one aggregate after the other, and what each of its events changed of them.

/// The numbers of the present aggregate after the event before.
pub(super) struct Steps<const N: usize>([i64; N]);

impl<const N: usize> Steps<N> {
    pub(super) fn new() -> Self {
        Self([0; N])
    }

    /// By how much an event changed each number, which is `numbers` after it. The first event of an
    /// aggregate begins at nothing.
    pub(super) fn to(&mut self, sequence: i64, numbers: [i64; N]) -> [i64; N] {
        let before = if sequence == 1 { [0; N] } else { self.0 };
        self.0 = numbers;
        std::array::from_fn(|n| numbers[n] - before[n])
    }
}
