//! Whether an answer without times is a new interval, and which time it gets.
//!
//! A collector of the first LLAMA answers the same points until its next interval has ended, and names no time. So
//! the points get the time of the pull that first saw them, in whole seconds as upstream's scraper wrote it, and an
//! answer that is unchanged is the same interval seen twice. One case cannot be told apart by that: when nothing
//! came back anywhere, one interval looks like the next. Such an answer is written again when as much time has
//! passed as lay between the latest changes. Pure; read [`Interval::judge`].

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a new interval: write it with this time, seconds since 1970.
    Write(u64),
    /// It has been written.
    Known,
}

/// What is known of one collector's latest interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Fingerprint and time of what was written last.
    written: Option<(u64, u64)>,
    /// It may not have arrived: an earlier process ended before it was sure. The same time makes the same points.
    unsure: bool,
    /// When the answer last changed, unless it may have changed twice since.
    changed: Option<u64>,
    /// Seconds between changes, in sixteenths, smoothed.
    period: Option<u64>,
}

/// Weight of a new spacing in the period: one in so many.
const SMOOTHING: u64 = 4;
/// Parts of a second the period is kept in.
const PARTS: u64 = 16;
/// Pauses between pulls that the latest time may lie ahead of the clock; beyond them the clock was wrong.
const MAX_AHEAD: u64 = 3;
/// Seconds between two changes beyond which it was the clock that moved, or the collector that stood still.
const LONGEST: u64 = 7200;

impl Interval {
    /// From what an earlier process stored: fingerprint, time, and whether it was sure of the delivery.
    pub fn restored(fingerprint: u64, time: u64, sure: bool) -> Interval {
        Interval { written: Some((fingerprint, time)), unsure: !sure, changed: None, period: None }
    }

    /// Fingerprint and time of what was written last.
    pub fn written(&self) -> Option<(u64, u64)> {
        self.written
    }

    /// A pull failed: what changes until the next one may be more than one interval.
    pub fn missed(&mut self) {
        self.changed = None;
    }

    /// Comes back to `now` when the latest time lies far ahead of it: the clock was ahead once, perhaps in an earlier
    /// process. Gives by how many seconds, once. Times written from now on may be some that were written before.
    pub fn come_back(&mut self, now: u64, pause: u64) -> Option<u64> {
        let (_, time) = self.written.as_mut()?;
        let ahead = time.saturating_sub(now);
        if ahead <= MAX_AHEAD * pause {
            return None;
        }
        // so that a new interval seen now gets this time
        *time = now.saturating_sub(1);
        // they were measured by the clock that was wrong
        (self.changed, self.period) = (None, None);
        Some(ahead)
    }

    /// Judges an answer seen at `now`, seconds since 1970; `pause` is the seconds between pulls.
    pub fn judge(&mut self, fingerprint: u64, outage: bool, now: u64, pause: u64) -> Verdict {
        match self.written {
            Some((known, time)) if known == fingerprint => {
                if std::mem::take(&mut self.unsure) {
                    return Verdict::Write(time);
                }
                let period = self.period.map_or(pause, |parts| parts.div_ceil(PARTS)).max(1);
                // half a pause of grace: pulls do not come to the second
                if !outage || now + pause / 2 < time.saturating_add(period) {
                    return Verdict::Known;
                }
                self.changed = None;
            }
            _ => {
                let spacing = self.changed.and_then(|changed| now.checked_sub(changed));
                if let Some(spacing) = spacing.filter(|spacing| *spacing <= LONGEST) {
                    let spacing = spacing * PARTS;
                    let before = self.period.unwrap_or(spacing);
                    self.period = Some((before * (SMOOTHING - 1) + spacing) / SMOOTHING);
                }
                self.changed = Some(now);
            }
        }
        // times go up by whole seconds, also when the clock stepped back a little: equal times would be one point
        let time = self.written.map_or(now, |(_, last)| now.max(last.saturating_add(1)));
        self.written = Some((fingerprint, time));
        self.unsure = false;
        Verdict::Write(time)
    }

    /// Seconds between the collector's intervals, as far as seen.
    pub fn period(&self) -> Option<u64> {
        self.period.map(|parts| parts.div_ceil(PARTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Known, Write};
    use proptest::prelude::*;

    #[test]
    fn an_unchanged_answer_is_the_same_interval() {
        let mut interval = Interval::default();
        assert_eq!(interval.judge(1, false, 100, 10), Write(100));
        assert_eq!(interval.judge(1, false, 110, 10), Known);
        assert_eq!(interval.judge(1, false, 9999, 10), Known);
        assert_eq!(interval.judge(2, false, 10_000, 10), Write(10_000));
        // back to what it was before is a change as well
        assert_eq!(interval.judge(1, false, 10_010, 10), Write(10_010));
    }

    #[test]
    fn an_outage_is_written_once_per_interval_of_the_collector() {
        // the collector's interval is 30 s, the scraper's 10 s
        let mut interval = Interval::default();
        let mut written = 0;
        for pull in 0..12u64 {
            interval.judge(pull / 3, false, 1000 + pull * 10, 10);
        }
        assert_eq!(interval.period(), Some(30));
        for pull in 12..42u64 {
            written += u64::from(interval.judge(99, true, 1000 + pull * 10, 10) != Known);
        }
        assert_eq!(written, 10, "300 s of outage are ten intervals");
        assert_eq!(interval.period(), Some(30));
    }

    #[test]
    fn an_outage_from_the_start_is_written_once_per_pull() {
        let mut interval = Interval::default();
        let written = (0..10u64).filter(|n| interval.judge(5, true, 1000 + n * 30, 30) != Known).count();
        assert_eq!(written, 10);
    }

    #[test]
    fn after_a_restart_the_unsure_is_repeated_with_its_time_and_the_sure_is_not() {
        let mut unsure = Interval::restored(7, 100, false);
        assert_eq!(unsure.judge(7, false, 130, 30), Write(100));
        assert_eq!(unsure.judge(7, false, 160, 30), Known);
        assert_eq!(Interval::restored(7, 100, true).judge(7, false, 130, 30), Known);
        assert_eq!(Interval::restored(7, 100, false).judge(8, false, 130, 30), Write(130));
    }

    #[test]
    fn what_happened_while_nothing_was_pulled_does_not_count_as_a_period() {
        let mut interval = Interval::default();
        interval.judge(1, false, 100, 10);
        interval.judge(2, false, 130, 10);
        interval.missed();
        interval.judge(3, false, 9000, 10);
        assert_eq!(interval.period(), Some(30));
    }

    const IN_2036: u64 = 2_082_758_400;
    const NOW: u64 = 1_790_000_000;

    #[test]
    fn a_clock_that_was_ahead_once_does_not_rule_the_times_after_it() {
        let mut interval = Interval::default();
        assert_eq!(interval.judge(1, false, NOW, 30), Write(NOW));
        assert_eq!(interval.judge(2, false, IN_2036, 30), Write(IN_2036));
        assert_eq!(interval.period(), None, "ten years are no interval");
        assert_eq!(interval.come_back(NOW + 60, 30), Some(IN_2036 - NOW - 60));
        assert_eq!(interval.come_back(NOW + 60, 30), None, "said once");
        assert_eq!(interval.judge(2, false, NOW + 60, 30), Known);
        assert_eq!(interval.judge(3, false, NOW + 90, 30), Write(NOW + 90));
        // an outage goes on as well
        assert_eq!(interval.judge(3, true, NOW + 120, 30), Write(NOW + 120));
    }

    #[test]
    fn a_stored_time_that_is_ahead_is_come_back_from_too() {
        for time in [IN_2036, u64::MAX] {
            let mut sure = Interval::restored(7, time, true);
            assert_eq!(sure.come_back(NOW, 30), Some(time - NOW));
            assert_eq!(sure.judge(8, false, NOW, 30), Write(NOW));
            let mut unsure = Interval::restored(7, time, false);
            unsure.come_back(NOW, 30);
            assert_eq!(unsure.judge(7, false, NOW, 30), Write(NOW - 1));
        }
    }

    #[test]
    fn a_small_step_back_is_no_reason_to_write_a_time_twice() {
        let mut interval = Interval::default();
        interval.judge(1, false, NOW, 30);
        assert_eq!(interval.come_back(NOW - 90, 30), None);
        assert_eq!(interval.judge(2, false, NOW - 90, 30), Write(NOW + 1));
    }

    proptest! {
        #[test]
        fn times_rise_and_stay_near_the_clock(
            pulls in proptest::collection::vec((0u64..4, any::<bool>(), 0u64..1000), 1..100),
        ) {
            let (mut interval, mut last) = (Interval::default(), None);
            for (fingerprint, outage, now) in pulls {
                if interval.come_back(now, 10).is_some() {
                    last = None;
                }
                if let Write(time) = interval.judge(fingerprint, outage, now, 10) {
                    prop_assert!(last.is_none_or(|last| time > last));
                    prop_assert!(time <= now + MAX_AHEAD * 10 + 1);
                    last = Some(time);
                }
            }
        }
    }
}
