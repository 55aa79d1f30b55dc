//! The progress bar of a one-shot measurement: on standard error, and only on a terminal.

use super::units::{count, percent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a measurement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Probes sent.
    pub sent: u64,
    /// Probes replied to.
    pub replied: u64,
    /// Probes known to be lost (or answered by an error).
    pub lost: u64,
}

/// The bar.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar for `probes` probes; draws nothing when `quiet` or not on a terminal.
    pub fn new(probes: u64, quiet: bool) -> Bar {
        // ten redraws a second are smooth enough and cost the prober nothing
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
        let bar = ProgressBar::with_draw_target(Some(probes), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} %  {msg}  {eta} left") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Bar(bar)
    }

    /// Shows how far the measurement is.
    pub fn show(&self, progress: &Progress) {
        self.0.set_message(line(progress));
        self.0.set_position(progress.sent);
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.0.finish_and_clear();
    }
}

/// Counts so far. Probes still in flight are not lost, so loss is of those whose end is known.
fn line(progress: &Progress) -> String {
    let ended = progress.replied + progress.lost;
    let loss = if ended == 0 { 0.0 } else { 100.0 * progress.lost as f64 / ended as f64 };
    let [sent, replied, lost] = [progress.sent, progress.replied, progress.lost].map(count);
    format!("{sent} sent  {replied} replied  {lost} lost ({})", percent(loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_in_flight_are_not_lost() {
        let now = Progress { sent: 150, replied: 99, lost: 1 };
        assert_eq!(line(&now), "150 sent  99 replied  1 lost (1.0 %)");
        assert_eq!(line(&Progress::default()), "0 sent  0 replied  0 lost (0 %)");
    }
}
