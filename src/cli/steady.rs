//! Whether a loss looks like a limit on how often somebody answers: routers and hosts answer SYNs and echoes only so
//! many times a second, and what they do not answer looks like a broken path.
//!
//! A limit shows in the replies per second: they hardly differ from one second to the next, much less than losses by
//! chance would have them differ. Most limits let a burst pass first, so the seconds until it is used up do not count.
//! Read [`limit`] first.

/// Probes and replies of a second.
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
}
