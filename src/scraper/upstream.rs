//! What a collector of the first LLAMA answers at `/influxdata`: the summaries of its latest interval as points.
//!
//! Pure: bytes → [`Body`]. Lenient in what it takes, since two generations and their forks wrote it: unknown keys
//! are passed over, numbers may be texts, what is no number is left out. Not responsible for what has been written
//! before: see [`super::interval`].

use super::fingerprint::Fingerprint;
use crate::sink::parse_rfc3339;
use crate::time::Wall;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Points of one answer at most.
pub const MAX_POINTS: usize = 100_000;
/// The measurement when none is named.
const MEASUREMENT: &str = "raw_stats";

/// One object of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its measurement, `raw_stats` as a rule.
    pub measurement: String,
    /// Its tags as they came.
    pub tags: BTreeMap<String, String>,
    /// Its fields, finite numbers: at least one.
    pub fields: BTreeMap<String, f64>,
    /// When the interval ended, if it says so: the Go generation says year 1, which is nothing.
    pub time: Option<Wall>,
    /// What identifies it, its time included.
    pub fingerprint: u64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Its points.
    pub points: Vec<Point>,
    /// Objects without a usable field.
    pub unusable: u64,
}

impl Body {
    /// What identifies the points without a time, in whatever order they came; `None` when there is none.
    pub fn fingerprint(&self) -> Option<u64> {
        self.timeless().map(|point| point.fingerprint).reduce(u64::wrapping_add)
    }

    /// Whether probes were sent and none came back anywhere, judged by the points without a time.
    pub fn is_outage(&self) -> bool {
        let of = |point: &Point, name: &str| point.fields.get(name).copied().unwrap_or(0.0);
        self.timeless().all(|point| of(point, "rtt") == 0.0) && self.timeless().any(|point| of(point, "sent") > 0.0)
    }

    fn timeless(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|point| point.time.is_none())
    }
}

/// An object as it is written.
#[derive(Deserialize)]
struct Object {
    fields: Option<BTreeMap<String, Value>>,
    tags: Option<BTreeMap<String, Value>>,
    time: Option<Value>,
    measurement: Option<String>,
}

/// Reads an answer.
///
/// # Errors
/// It is no JSON array of objects, or has more than [`MAX_POINTS`].
pub fn parse(bytes: &[u8]) -> Result<Body, String> {
    // before its first interval has ended a collector may answer null
    let objects: Option<Vec<Object>> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let objects = objects.unwrap_or_default();
    if objects.len() > MAX_POINTS {
        return Err(format!("{} points in one answer, {MAX_POINTS} are taken", objects.len()));
    }
    let mut body = Body::default();
    for object in objects {
        match object.point() {
            Some(point) => body.points.push(point),
            None => body.unusable += 1,
        }
    }
    Ok(body)
}

impl Object {
    fn point(self) -> Option<Point> {
        let number = |value: &Value| match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let fields: BTreeMap<String, f64> = (self.fields.unwrap_or_default().into_iter())
            .filter_map(|(key, value)| Some((key, number(&value).filter(|number| number.is_finite())?)))
            .collect();
        if fields.is_empty() {
            return None;
        }
        let tags: BTreeMap<String, String> =
            self.tags.unwrap_or_default().into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect();
        let measurement = self.measurement.filter(|name| !name.is_empty()).unwrap_or_else(|| MEASUREMENT.into());
        let time = self.time.as_ref().and_then(instant);
        let mut print = Fingerprint::new().take(measurement.as_bytes());
        for (key, value) in &tags {
            print = print.take(key.as_bytes()).take(value.as_bytes());
        }
        for (key, value) in &fields {
            print = print.take(key.as_bytes()).take(&value.to_bits().to_le_bytes());
        }
        let fingerprint = print.take(&time.map_or(0, |wall| wall.0).to_le_bytes()).bits();
        Some(Point { measurement, tags, fields, time, fingerprint })
    }
}

/// A time: a text in the Go generation, whose year 1 is none, and nanoseconds since 1970 in the Python one.
fn instant(value: &Value) -> Option<Wall> {
    let wall = match value {
        Value::String(text) => parse_rfc3339(text)?,
        Value::Number(number) => Wall(number.as_u64().or_else(|| number.as_f64().map(|ns| ns as u64))?),
        _ => return None,
    };
    (wall.0 > 0).then_some(wall)
}

/// A tag's value as text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the first LLAMA writes it.
    const GOLDEN: &str = r#"[{"fields":{"loss":25.000000,"lost":120.000000,"rtt":1.234567,"sent":480.000000},"tags":{"dst_ip":"10.0.0.2","dst_metro":"fra","src_ip":"10.0.0.1"},"time":"0001-01-01T00:00:00Z","measurement":"raw_stats"}]"#;

    #[test]
    fn an_answer_of_the_first_llama() {
        let body = parse(GOLDEN.as_bytes()).unwrap();
        let point = &body.points[0];
        assert_eq!((point.measurement.as_str(), point.time, body.unusable), ("raw_stats", None, 0));
        assert_eq!(point.fields["loss"], 25.0);
        assert_eq!((point.fields["lost"], point.fields["rtt"], point.fields["sent"]), (120.0, 1.234567, 480.0));
        assert_eq!((point.tags["dst_metro"].as_str(), point.tags.len()), ("fra", 3));
        assert!(!body.is_outage());
    }

    #[test]
    fn a_time_that_is_one_is_taken() {
        let ours = GOLDEN.replace("0001-01-01T00:00:00Z", "2024-02-29T12:30:00.5Z");
        let body = parse(ours.as_bytes()).unwrap();
        assert_eq!(body.points[0].time, Some(Wall(1_709_209_800_500_000_000)));
        assert_eq!(body.fingerprint(), None);
    }

    #[test]
    fn an_answer_of_the_python_generation() {
        let text = r#"[{"measurement": "rtt", "tags": {"dst_cluster": "b"}, "fields": {"value": 0.25}, "time": 1709209800500000000},
            {"measurement": "loss", "tags": {"dst_cluster": "b"}, "fields": {"value": null}, "time": null}]"#;
        let body = parse(text.as_bytes()).unwrap();
        assert_eq!((body.points.len(), body.unusable), (1, 1), "what was not measured is no point");
        assert_eq!((body.points[0].measurement.as_str(), body.points[0].fields["value"]), ("rtt", 0.25));
        assert_eq!(body.points[0].time, Some(Wall(1_709_209_800_500_000_000)));
    }

    #[test]
    fn lenient_where_it_does_no_harm() {
        for (text, points, unusable) in [
            ("null", 0, 0),
            ("[]", 0, 0),
            ("[{}]", 0, 1),
            (r#"[{"fields":null,"tags":null}]"#, 0, 1),
            (r#"[{"fields":{"rtt":null,"sent":"x"}}]"#, 0, 1),
            (r#"[{"fields":{"rtt":"1.5","extra":3},"tags":{"a":1,"b":true,"c":null},"time":{},"more":[{}]}]"#, 1, 0),
        ] {
            let body = parse(text.as_bytes()).unwrap();
            assert_eq!((body.points.len(), body.unusable), (points, unusable), "{text}");
        }
        for text in ["", "{}", "[1]", "[{]", "<html>", &GOLDEN[..GOLDEN.len() - 1], r#"[{"fields":[]}]"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_interval_is_known_in_any_order_and_spelling() {
        let (a, b) = (GOLDEN.trim_matches(['[', ']']), GOLDEN.trim_matches(['[', ']']).replace("10.0.0.2", "10.0.0.3"));
        let print = |text: &str| parse(text.as_bytes()).unwrap().fingerprint().unwrap();
        let one = print(&format!("[{a},{b}]"));
        assert_eq!(one, print(&format!("[ {b} ,\n{a}]").replace("480.000000", "480")));
        assert_ne!(one, print(&format!("[{a},{b}]").replace("1.234567", "1.234568")));
        assert_ne!(one, print(&format!("[{a}]")));
    }

    #[test]
    fn an_outage_is_told_from_having_sent_nothing() {
        let with = |rtt: &str, sent: &str| {
            let text = GOLDEN.replace("1.234567", rtt).replace("480.000000", sent);
            parse(text.as_bytes()).unwrap().is_outage()
        };
        assert!(with("0.000000", "480"));
        assert!(!with("0.000000", "0.000000"));
        assert!(!with("0.000001", "480"));
        assert!(!Body::default().is_outage());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_truncation_is_refused(cut in 1..GOLDEN.len()) {
            prop_assert!(parse(&GOLDEN.as_bytes()[..cut]).is_err());
        }
    }
}
