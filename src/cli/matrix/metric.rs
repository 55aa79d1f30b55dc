//! What a cell shows: which figure, in which unit, and how bad it is.
//!
//! Read [`Metric`], then [`Scale`].

use super::answer::Figures;
use crate::cli::units::percent;
use anstyle::{Ansi256Color, Color, Style};
use clap::ValueEnum;

/// The figure that cells show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// Share of probes without a reply
    #[default]
    Loss,
    /// Mean round-trip time
    Rtt,
    /// Median round-trip time
    P50,
    /// 99th percentile of round-trip times
    P99,
    /// Longest round-trip time
    Max,
    /// Mean difference of successive round trips (jitter)
    Ipdv,
    /// Share of the answers that tell of a class (DSCP) changed on the way
    Dscp,
}

/// How bad a value is, 0 to 5, or better than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Better than before.
    Better,
    /// 0: nothing to look at; 5: look here first.
    Bad(usize),
}

/// Shares in percent from which on levels 2 to 5 begin; any at all is level 1.
const SHARES: [f64; 4] = [0.1, 1.0, 5.0, 20.0];
/// Multiples of the matrix' median from which on levels 1 to 5 of times begin.
const TIMES: [f64; 5] = [1.5, 2.0, 4.0, 8.0, 16.0];
/// Growth against the value before, from which on levels 1 to 5 of changed times begin.
const GROWTHS: [f64; 5] = [0.1, 0.25, 0.5, 1.0, 3.0];
/// Growths and multiples of less than so many milliseconds are no news.
const NO_NEWS_MS: f64 = 0.01;

/// Text and background of levels 1 to 5: from light yellow to dark purple, ever darker, so that the order is seen without
/// telling red from green.
const COLOURS: [(u8, u8); 5] = [(16, 230), (16, 222), (16, 214), (231, 130), (231, 54)];
/// Of what is better than before.
const BETTER: (u8, u8) = (16, 153);

impl Level {
    /// How it is painted.
    pub fn style(self) -> Style {
        let painted = |(text, background): (u8, u8)| {
            Style::new()
                .fg_color(Some(Color::Ansi256(Ansi256Color(text))))
                .bg_color(Some(Color::Ansi256(Ansi256Color(background))))
        };
        match self {
            Level::Better => painted(BETTER),
            Level::Bad(level) => match level.checked_sub(1).and_then(|at| COLOURS.get(at)) {
                Some(colours) if level == COLOURS.len() => painted(*colours).bold(),
                Some(colours) => painted(*colours),
                None => Style::new(),
            },
        }
    }
}

impl Metric {
    /// Its value of some figures: percent or milliseconds. `None` where nothing was measured.
    pub fn value(self, figures: &Figures) -> Option<f64> {
        if self == Metric::Loss && figures.count("sent") == 0 {
            return None; // no share of nothing, whatever is said
        }
        figures.number(match self {
            Metric::Loss => "loss_percent",
            Metric::Rtt => "rtt_mean_ms",
            Metric::P50 => "rtt_p50_ms",
            Metric::P99 => "rtt_p99_ms",
            Metric::Max => "rtt_max_ms",
            Metric::Ipdv => "ipdv_mean_ms",
            Metric::Dscp => "dscp_changed_percent",
        })
    }

    /// Whether the value is only known to be not above what is said.
    pub fn is_bound(self, figures: &Figures) -> bool {
        matches!(self, Metric::P50 | Metric::P99) && figures.text("percentiles") == Some("bound")
    }

    /// Order of paths in which its worst come first, as the API names it.
    pub fn paths_order(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Dscp => "dscp_changed",
            Metric::Rtt => "rtt_mean",
            Metric::P50 => "rtt_p50",
            Metric::P99 | Metric::Max => "rtt_p99",
            Metric::Ipdv => "ipdv",
        }
    }

    /// The same of flows, which have no percentiles.
    pub fn flows_order(self) -> &'static str {
        match self {
            Metric::Loss | Metric::Dscp => "loss",
            _ => "rtt",
        }
    }

    /// Whether it is a time.
    pub fn is_time(self) -> bool {
        !matches!(self, Metric::Loss | Metric::Dscp)
    }

    fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Rtt => "mean rtt",
            Metric::P50 => "median rtt",
            Metric::P99 => "99th percentile of rtt",
            Metric::Max => "longest rtt",
            Metric::Ipdv => "mean ipdv",
            Metric::Dscp => "class changed",
        }
    }
}

/// Unit and levels that all cells of one matrix share.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    metric: Metric,
    /// Whether changes are shown.
    changes: bool,
    /// What a value is multiplied with, and the unit it is in then.
    unit: (f64, &'static str),
    median: f64,
}

impl Scale {
    /// For a matrix with these values of its cells, in any order.
    pub fn of(metric: Metric, changes: bool, values: &mut [f64]) -> Scale {
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len() / 2).copied().unwrap_or(0.0);
        let unit = match (metric, median) {
            (Metric::Loss | Metric::Dscp, _) if changes => (1.0, "percentage points"),
            (Metric::Loss | Metric::Dscp, _) => (1.0, "%"),
            (_, ms) if ms < 0.9995 => (1e3, "µs"),
            (_, ms) if ms < 999.5 => (1.0, "ms"),
            _ => (1e-3, "s"),
        };
        Scale { metric, changes, unit, median }
    }

    /// What the matrix shows: `loss in %`.
    pub fn title(&self) -> String {
        let change = if self.changes { "change of " } else { "" };
        format!("{change}{} in {}", self.metric.name(), self.unit.1)
    }

    /// A value in the matrix' unit, without it.
    pub fn number(&self, value: f64) -> String {
        match self.metric {
            Metric::Loss | Metric::Dscp => percent(value).trim_end_matches(" %").to_owned(),
            _ => digits(value * self.unit.0),
        }
    }

    /// A difference, with its sign.
    pub fn signed(&self, change: f64) -> String {
        let number = self.number(change.abs());
        match number.as_str() {
            "0" => number,
            _ if change < 0.0 => format!("-{number}"),
            _ => format!("+{number}"),
        }
    }

    /// How bad a value is.
    pub fn level(&self, value: f64) -> Level {
        match self.metric {
            Metric::Loss | Metric::Dscp => share_level(value),
            _ if value - self.median < NO_NEWS_MS => Level::Bad(0),
            _ => Level::Bad(steps(&TIMES, value / self.median)),
        }
    }

    /// How bad a change from `before` is.
    pub fn change_level(&self, before: f64, change: f64) -> Level {
        match self.metric {
            _ if change == 0.0 => Level::Bad(0),
            Metric::Loss | Metric::Dscp if change < 0.0 => Level::Better,
            Metric::Loss | Metric::Dscp => share_level(change),
            _ if change.abs() < NO_NEWS_MS || change.abs() < GROWTHS[0] * before => Level::Bad(0),
            _ if change < 0.0 => Level::Better,
            _ => Level::Bad(steps(&GROWTHS, change / before)),
        }
    }

    /// The levels as a line of samples of their colours.
    pub fn key(&self) -> String {
        let number = |limit: f64| limit.to_string();
        let limits: Vec<String> = match self.metric {
            Metric::Loss | Metric::Dscp => std::iter::once("above 0".to_owned()).chain(SHARES.map(number)).collect(),
            _ if self.changes => GROWTHS.map(|share| format!("+{} %", share * 100.0)).into(),
            _ => TIMES.map(|times| format!("{times}×")).into(),
        };
        let painted = limits.iter().enumerate().map(|(at, limit)| {
            let style = Level::Bad(at + 1).style();
            format!("{style} {limit} {style:#}")
        });
        let from = if self.metric.is_time() && !self.changes { "times the median, from: " } else { "from: " };
        format!("colours {from}{}", painted.collect::<String>())
    }
}

fn share_level(percent: f64) -> Level {
    Level::Bad(if percent > 0.0 { 1 + steps(&SHARES, percent) } else { 0 })
}

/// How many limits are reached. A value that is no number (0 ÷ 0) reaches none.
fn steps(limits: &[f64], value: f64) -> usize {
    limits.iter().filter(|limit| value >= **limit).count()
}

/// Three significant digits, none rounded away to 0.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 0.005 => "<0.01".to_owned(),
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        v if v < 99_999.5 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_hide_nothing() {
        let loss = Scale::of(Metric::Loss, false, &mut []);
        assert_eq!(
            [0.0, 0.0001, 0.5, 3.0, 99.97, 100.0].map(|p| loss.number(p)),
            ["0", "<0.001", "0.50", "3.0", ">99.9", "100"]
        );
        let rtt = Scale::of(Metric::Rtt, false, &mut [0.02, 3.0, 0.04]);
        assert_eq!(rtt.title(), "mean rtt in µs");
        assert_eq!(
            [0.0, 0.000_001, 0.0213, 1.2, 2000.0].map(|ms| rtt.number(ms)),
            ["0", "<0.01", "21.3", "1200", "2e6"]
        );
        let changed = Scale::of(Metric::Loss, true, &mut []);
        assert_eq!([3.0, -0.5, 0.0].map(|change| changed.signed(change)), ["+3.0", "-0.50", "0"]);
        let class = Scale::of(Metric::Dscp, false, &mut []);
        assert_eq!((class.title().as_str(), class.number(30.848).as_str()), ("class changed in %", "30.8"));
    }

    #[test]
    fn levels_grow_with_the_value() {
        let loss = Scale::of(Metric::Loss, false, &mut []);
        assert_eq!([0.0, 0.01, 0.1, 1.0, 5.0, 100.0].map(|p| loss.level(p)), [0, 1, 2, 3, 4, 5].map(Level::Bad));
        let p99 = Scale::of(Metric::P99, false, &mut [1.0, 1.0, 40.0]);
        assert_eq!([0.5, 1.4, 1.5, 40.0].map(|ms| p99.level(ms)), [0, 0, 1, 5].map(Level::Bad));
        let changed = Scale::of(Metric::P99, true, &mut [1.0]);
        assert_eq!(changed.change_level(1.0, -0.5), Level::Better);
        assert_eq!(changed.change_level(1.0, 0.05), Level::Bad(0));
        assert_eq!(changed.change_level(1.0, 1.0), Level::Bad(4));
        assert_eq!(changed.change_level(0.0, 1.0), Level::Bad(5));
    }

    #[test]
    fn colours_grow_darker() {
        // relative luminance (WCAG 2) of the 256-colour cube
        let luminance = |index: u8| {
            let n = index - 16;
            let part = |step: u8| (f64::from([0, 95, 135, 175, 215, 255][usize::from(step)]) / 255.0).powf(2.2);
            0.2126 * part(n / 36) + 0.7152 * part(n / 6 % 6) + 0.0722 * part(n % 6)
        };
        let backgrounds = COLOURS.map(|(_, background)| luminance(background));
        assert!(backgrounds.windows(2).all(|two| two[0] > two[1] + 0.04), "{backgrounds:?}");
        for (text, background) in COLOURS.into_iter().chain([BETTER]) {
            let (a, b) = (luminance(text), luminance(background));
            assert!((a.max(b) + 0.05) / (a.min(b) + 0.05) >= 4.5, "{text} on {background}");
        }
    }
}
