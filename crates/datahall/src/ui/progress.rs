//! Progress: a bar that redraws itself on a terminal, a plain line every few seconds elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// How often a plain line appears where no bar can be drawn.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// One stage of work.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    total: u64,
    last_plain: Instant,
    quiet: bool,
}

impl Progress {
    /// A stage of `total` units.
    pub(crate) fn new(label: &str, total: u64, quiet: bool) -> Self {
        let bar = (output::interactive() && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let template = "    {prefix} {bar:30} {percent:>3} %  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar.set_prefix(label.to_owned());
            bar
        });
        Self { bar, label: label.to_owned(), total, last_plain: Instant::now(), quiet }
    }

    /// Where the work is, and a few words beside it.
    pub(crate) fn at(&mut self, position: u64, words: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(words.to_owned());
        } else if !self.quiet && self.last_plain.elapsed() >= PLAIN_EVERY {
            let percent = position.saturating_mul(100) / self.total.max(1);
            output::note(format!("    {} {percent} %  {words}", self.label));
            self.last_plain = Instant::now();
        }
    }

    /// A line that stays, above the bar.
    pub(crate) fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(words),
            None if self.quiet => {}
            None => output::note(words),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
