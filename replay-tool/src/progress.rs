//! How far a long command is, for people at a terminal. Elsewhere it is silent.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows one step after the other on standard error.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    silent: bool,
}

/// One step under way.
#[derive(Clone, Debug)]
pub(crate) struct Bar(ProgressBar);

impl Progress {
    /// Shown, if standard error is a terminal.
    pub(crate) fn shown() -> Self {
        Self { silent: false }
    }

    /// Begins a step of `total` events or rows.
    pub(crate) fn begin(&self, step: &'static str, total: u64) -> Bar {
        let target = if self.silent { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(
            "{msg:20} {bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left",
        );
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(step);
        Bar(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }
}

impl Bar {
    /// So much is done.
    pub(crate) fn at(&self, done: u64) {
        self.0.set_position(done);
    }

    /// The step is done.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
