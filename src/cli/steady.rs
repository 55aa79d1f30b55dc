//! Whether a loss looks like a limit on how often somebody answers: routers and hosts answer SYNs and echoes only so
//! many times a second, and what they do not answer looks like a broken path.
//!
//! A limit shows in the replies per second: they hardly differ from one second to the next, much less than losses by
//! chance would have them differ. Most limits let a burst pass first, so the seconds until it is used up do not count.
//! Read [`limit`] first; [`Watch`] looks for it in a collector's intervals.

use super::units::several;
use crate::probe::shape::MethodKind;
use crate::summary::Summary;
use std::collections::HashMap;
use std::net::IpAddr;

/// Probes and replies of a second, or of another interval.
pub type Second = (u64, u64);

/// Fewer seconds tell nothing.
const LEAST_SECONDS: usize = 4;
/// Fewer replies a second differ little by chance too.
const LEAST_REPLIES: f64 = 10.0;
/// Below this standard normal quantile (1 %) replies are steadier than chance would have them.
const Z_1: f64 = -2.326_348;

/// Replies per second, when there is a loss in every second and the replies are steadier than chance explains.
pub fn limit(seconds: &[Second]) -> Option<f64> {
    let most = seconds.iter().map(|(sent, _)| *sent).max()?;
    // what answered all, and the second in which that ended, had a burst to spend
    let spent = seconds.iter().take_while(|(sent, replied)| replied >= sent).count() + 1;
    let seconds = seconds.get(spent..)?;
    // the last second is seldom whole
    let whole: Vec<Second> = seconds.iter().copied().filter(|(sent, _)| sent * 10 >= most * 9).collect();
    if whole.len() < LEAST_SECONDS || whole.iter().any(|(sent, replied)| replied >= sent) {
        return None;
    }
    let n = whole.len() as f64;
    let mean = whole.iter().map(|(_, replied)| *replied as f64).sum::<f64>() / n;
    let sent = whole.iter().map(|(sent, _)| *sent as f64).sum::<f64>() / n;
    if mean < LEAST_REPLIES {
        return None;
    }
    // by chance this is chi-squared with n - 1 degrees of freedom
    let chance = mean * (1.0 - mean / sent);
    let spread = whole.iter().map(|(_, replied)| (*replied as f64 - mean).powi(2)).sum::<f64>() / chance;
    let freedom = n - 1.0;
    let part = 2.0 / (9.0 * freedom); // Wilson and Hilferty
    let least = freedom * (1.0 - part + Z_1 * part.sqrt()).powi(3);
    (spread < least).then_some(mean)
}

/// What a limit means and what to do about it, after the words that say who answers.
pub fn advice(method: MethodKind, a_second: f64) -> String {
    let answers = if method == MethodKind::TcpSyn { "TCP" } else { "ICMP" };
    let rate = if a_second < 10.0 { format!("{a_second:.1}") } else { format!("{a_second:.0}") };
    format!(
        "come at a steady {rate} a second, steadier than chance: perhaps a limit on how often {answers} answers (a router's policer, FreeBSD's icmplim), and no broken path"
    )
}

/// Intervals looked at together.
const WINDOW: usize = 7;
/// Windows in a row that must look like a limit: of losses by chance one window in a hundred does.
const WINDOWS: u32 = 2;

/// Looks for limits in interval after interval of a collector; it remembers targets that lose, no others.
#[derive(Debug, Default)]
pub struct Watch {
    targets: HashMap<(IpAddr, MethodKind), Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    intervals: Vec<Second>,
    windows: u32,
    said: bool,
}

impl Watch {
    /// Takes in an interval's summaries; gives a sentence when targets have come to look limited, once until they do
    /// not lose any more.
    pub fn add(&mut self, summaries: &[Summary]) -> Option<String> {
        let mut sums: HashMap<(IpAddr, MethodKind), (Second, bool)> = HashMap::new();
        // a limit is a target's, whatever the class and size
        for summary in summaries.iter().filter(|summary| !summary.path.method.is_udp()) {
            let ((sent, replied), sound) =
                sums.entry((summary.path.dst, summary.path.method)).or_insert(((0, 0), true));
            (*sent, *replied) = (*sent + summary.counts.left(), *replied + summary.counts.replied);
            *sound &= summary.suspect.is_empty();
        }
        self.targets.retain(|target, _| sums.get(target).is_some_and(|((sent, replied), _)| replied < sent));
        let first = summaries.first()?;
        let seconds = first.end.minus(first.start).0.max(1) as f64 / 1e9;
        let mut found: Vec<(IpAddr, MethodKind, f64)> = Vec::new();
        for (target, (interval, sound)) in sums {
            if !sound || interval.1 >= interval.0 {
                continue;
            }
            let watched = self.targets.entry(target).or_default();
            watched.intervals.push(interval);
            if watched.intervals.len() < WINDOW {
                continue;
            }
            let limit = limit(&watched.intervals);
            watched.intervals.clear();
            watched.windows = if limit.is_some() { watched.windows + 1 } else { 0 };
            if let Some(limit) = limit.filter(|_| watched.windows >= WINDOWS && !watched.said) {
                watched.said = true;
                found.push((target.0, target.1, limit / seconds));
            }
        }
        found.sort_by_key(|(target, ..)| *target);
        let (target, method, limit) = *found.first()?;
        let others = match found.len() - 1 {
            0 => String::new(),
            n => format!(" (and those of {})", several(n as u64, "other target")),
        };
        let advice = advice(method, limit);
        Some(format!("answers of {target} to {}{others} {advice}; probe it less often", method.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::random::Random;

    #[test]
    fn a_limit_is_seen() {
        let seconds = [(500, 231), (500, 200), (500, 200), (500, 201), (500, 200), (500, 199), (40, 40)];
        assert_eq!(limit(&seconds).map(f64::round), Some(200.0));
        let burst: Vec<Second> = [(320, 320), (500, 500), (500, 420)].into_iter().chain(seconds).collect();
        assert_eq!(limit(&burst).map(f64::round), None, "the 231 comes later");
        let burst: Vec<Second> = burst.into_iter().filter(|second| second.1 != 231).collect();
        assert_eq!(limit(&burst).map(f64::round), Some(200.0));
        assert_eq!(limit(&[(500, 200); 4]), None, "too short");
        assert_eq!(limit(&[(500, 500); 9]), None, "no loss");
        assert_eq!(limit(&[(500, 0); 9]), None, "no reply");
        assert_eq!(limit(&[]), None);
    }

    #[test]
    fn losses_by_chance_are_hardly_ever_taken_for_one() {
        let mut random = Random::new(7);
        let mut taken = 0;
        for _ in 0..1000 {
            let second = |random: &mut Random| (200, (0..200).filter(|_| random.unit() < 0.9).count() as u64);
            let seconds: Vec<Second> = (0..7).map(|_| second(&mut random)).collect();
            taken += u32::from(limit(&seconds).is_some());
        }
        assert!(taken < 30, "{taken} of 1000");
    }

    fn interval(method: MethodKind, sent: u64, replied: u64) -> Summary {
        let mut summary = crate::cli::ping::tests::summary();
        summary.path = std::sync::Arc::new(crate::summary::Path { method, ..(*summary.path).clone() });
        summary.counts = crate::summary::Counts { sent, replied, lost: sent - replied, ..Default::default() };
        summary
    }

    #[test]
    fn a_collector_says_it_once_after_two_windows() {
        for (method, expected) in [(MethodKind::TcpSyn, 1), (MethodKind::Icmp, 1), (MethodKind::Udp, 0)] {
            let mut watch = Watch::default();
            let mut said = Vec::new();
            for number in 0..5 * WINDOW {
                // of two classes, whose shares differ
                let one = 100 + 7 * (number as u64 % 5);
                let both = [interval(method, 600, one), interval(method, 600, 400 - one)];
                said.extend(watch.add(&both).map(|say| (number, say)));
            }
            assert_eq!(said.len(), expected, "{said:?}");
            if let Some((number, say)) = said.first() {
                assert_eq!(*number, 2 * WINDOW - 1);
                // the summaries' interval has six seconds
                assert!(say.starts_with("answers of 10.0.0.2 to ") && say.contains("a steady 67 a second"), "{say}");
            }
            assert_eq!(watch.add(&[interval(method, 600, 600)]), None);
            assert!(watch.targets.is_empty(), "what loses nothing is not remembered");
        }
    }

    #[test]
    fn what_the_prober_may_have_done_counts_for_nothing() {
        let mut watch = Watch::default();
        for _ in 0..5 * WINDOW {
            let mut summary = interval(MethodKind::Icmp, 600, 200);
            summary.suspect = vec![crate::summary::Suspicion::NotSent];
            assert_eq!(watch.add(&[summary]), None);
        }
    }
}
