//! Figures of one aggregate after the other, and what each of its events changed of them.

use crate::occurrence::Moment;

/// The figures of the present aggregate. An event is shown with the state before it, which is that after the
/// event before: so each change is known one event later, or at the end.
pub(super) struct Steps<const N: usize> {
    before: [i64; N],
    /// The event whose change is not known yet.
    last: Option<Moment>,
}

impl<const N: usize> Steps<N> {
    pub(super) fn new() -> Self {
        Self { before: [0; N], last: None }
    }

    /// An event that met a state of `figures`; none before the first. Gives the event before it, and by how
    /// much that changed each figure.
    pub(super) fn event(&mut self, figures: Option<[i64; N]>, at: Moment) -> Option<(Moment, [i64; N])> {
        let change = figures.and_then(|figures| self.change(figures));
        self.last = Some(at);
        change
    }

    /// The aggregate stands at `figures` in the end. The next one begins at nothing.
    pub(super) fn end(&mut self, figures: Option<[i64; N]>) -> Option<(Moment, [i64; N])> {
        let change = figures.and_then(|figures| self.change(figures));
        *self = Self::new();
        change
    }

    fn change(&mut self, figures: [i64; N]) -> Option<(Moment, [i64; N])> {
        let mut change = figures;
        change.iter_mut().zip(self.before).for_each(|(after, before)| *after -= before);
        self.before = figures;
        self.last.map(|at| (at, change))
    }
}
