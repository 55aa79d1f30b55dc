//! `/api/v1/matrix/series`: paths joined, step by step.
//!
//! Read [`step`] for how fine.

use super::Shown;
use super::question::Asked;
use super::records::{FIELDS, row, text, values, window};
use crate::http::answer::{Refusal, joined, json_text};
use crate::matrix::{Figures, Point, Window};
use crate::sink::rfc3339;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Map, Value};
use std::iter::once;
use std::time::Duration;

/// Points of an answer unless asked for otherwise, and at most.
const POINTS: (u64, u64) = (300, 3000);
/// Steps people read easily, in seconds; beyond the last they are whole days.
const STEPS_S: [u64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const DAY_S: u64 = 86_400;
const NS_PER_S: u64 = 1_000_000_000;

pub(super) fn parse(uri: &Uri) -> Result<(Asked, u64), Refusal> {
    let (asked, parameters) = Asked::of(uri, &["points"])?;
    Ok((asked, parameters.number("points", 1..=POINTS.1)?.unwrap_or(POINTS.0)))
}

/// The smallest step, no shorter than an interval, of which the window touches `points` at most. Steps end at
/// multiples of their length, so one more may be touched than fit: a window is never shown in less than two.
fn step(window: Window, interval: Duration, points: u64) -> Duration {
    let touched = |step_s: u64| {
        let step = step_s.saturating_mul(NS_PER_S);
        window.to.0.div_ceil(step) - window.from.0 / step
    };
    let fits = |step_s: &u64| Duration::from_secs(*step_s) >= interval && touched(*step_s) <= points.max(2);
    let days = || {
        let least = (window.length().as_secs() / DAY_S / points.max(2)).max(interval.as_secs() / DAY_S).max(1);
        (least..=2 * least + 2).map(|days| days * DAY_S).find(fits).unwrap_or(least * DAY_S)
    };
    Duration::from_secs(STEPS_S.into_iter().find(fits).unwrap_or_else(days))
}

/// `GET /api/v1/matrix/series`.
pub(super) fn answer((asked, points): (Asked, u64), shown: &Shown) -> Result<Response, Refusal> {
    let source = shown.source();
    let extent = source.extent()?;
    let asked_for = asked.time.window(&extent);
    let step = step(asked_for, extent.interval, points);
    let answer = source.series(asked_for, &asked.filter, step)?;
    let mut total = Figures::default();
    answer.value.iter().for_each(|point| total.add_time(&point.figures));
    let mut object: Map<String, Value> = FIELDS.into_iter().map(str::to_string).zip(values(&total)).collect();
    let histogram: Vec<Value> =
        total.histogram.values().into_iter().map(|(ns, count)| vec![ns, count].into()).collect();
    object.insert("rtt_histogram".into(), histogram.into());
    let fields: Vec<&str> = once("end").chain(FIELDS).collect();
    let head = format!(
        r#"{{{},"step_s":{},"fields":{},"points":["#,
        window(&answer),
        text(&step.as_secs_f64()),
        text(&fields)
    );
    let one = |(position, Point { end, figures }): (usize, Point)| {
        row(position, once(rfc3339(end).into()).chain(values(&figures)))
    };
    let rows = answer.value.into_iter().enumerate().map(one);
    let tail = format!(r#"],"total":{}}}"#, text(&object));
    Ok(json_text(joined(once(head.into_bytes()).chain(rows).chain(once(tail.into_bytes())))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use proptest::prelude::*;

    fn of(from: u64, to: u64, interval: u64, points: u64) -> u64 {
        let window = Window { from: Wall(from * NS_PER_S), to: Wall(to * NS_PER_S) };
        step(window, Duration::from_secs(interval), points).as_secs()
    }

    #[test]
    fn steps_are_the_smallest_that_fit() {
        for (length, interval, points, expected) in [
            (10, 10, 300, 10),
            (300, 1, 300, 1),
            (301, 1, 300, 2),
            (3600, 10, 300, 15),
            (86_400, 10, 300, 300),
            (86_400, 7, 3000, 30),
            (86_400, 0, 1, 43_200),
            (400 * 86_400, 10, 300, 2 * 86_400),
            (400 * 86_400, 10, 1, 200 * 86_400),
        ] {
            let day = 400 * 86_400 * 10;
            assert_eq!(of(day, day + length, interval, points), expected, "{length} s, {points} points");
        }
        assert_eq!(of(0, u64::MAX / NS_PER_S, 10, 300) % DAY_S, 0);
    }

    proptest! {
        #[test]
        fn no_more_points_than_asked(from in 0u64..4_000_000_000, length in 1u64..400_000_000, points in 2u64..3000) {
            let step = of(from, from + length, 10, points);
            prop_assert!(step >= 10 && (from + length).div_ceil(step) - from / step <= points, "{step}");
        }
    }
}
