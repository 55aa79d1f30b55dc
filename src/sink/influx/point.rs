//! One point of line protocol from parts that anybody named: cleaned, escaped, never two lines.
//!
//! The builder of `influxdb-line-protocol` escapes what line protocol can escape; what it cannot
//! carry is replaced here first: control characters by a space (a newline ends the line), a backslash
//! by a slash (InfluxDB 1.x and 2.x keep the builder's escaping backslash as text, others remove it), and
//! empty texts are left out, which means the same to the server. Read [`Point`].

use crate::time::Wall;
use influxdb_line_protocol::LineProtocolBuilder;
use influxdb_line_protocol::builder::AfterField;
use std::collections::BTreeMap;

/// Names of servers that a tag must not have: `time` is refused, the underscored ones are 2.x's own.
pub(super) const SERVERS: [&str; 5] = ["time", "_time", "_measurement", "_field", "_value"];

/// Text that line protocol can carry.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\\' => '/',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// Adds a tag, cleaned, under a name that is neither `taken` nor another tag's; without a text it is left out.
pub(super) fn add_tag(tags: &mut BTreeMap<String, String>, key: &str, value: &str, taken: impl Fn(&str) -> bool) {
    let (mut key, value) = (clean(key), clean(value));
    if key.is_empty() || value.is_empty() {
        return;
    }
    if taken(&key) || SERVERS.contains(&key.as_str()) {
        key = format!("tag_{key}");
    }
    while tags.contains_key(&key) {
        key.push('_');
    }
    tags.insert(key, value);
}

/// A field's value. A field keeps its type for ever: a server refuses a line that changes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number with a fraction; left out unless it is finite.
    Float(f64),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// A text, cleaned when it is written.
    Text(String),
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Boolean(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.into())
    }
}

/// A point for a database: measurement, tags, fields and the time of the measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    measurement: String,
    at: Wall,
    tags: Vec<(String, String)>,
    fields: Vec<(String, Value)>,
}

impl Point {
    /// A point of `measurement` measured at `at`, without tags and fields.
    pub fn new(measurement: &str, at: Wall) -> Point {
        Point { measurement: clean(measurement), at, tags: Vec::new(), fields: Vec::new() }
    }

    /// Adds a tag. One named as a field, or as a server's own column, is written as `tag_NAME`; of two with one
    /// name the second gets a `_`; an empty one is left out.
    pub fn tag(mut self, key: &str, value: &str) -> Point {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Adds a field. One without a name, a second one with the same name, and a float that is no number are left
    /// out; a server's own column is written as `field_NAME`.
    pub fn field(mut self, key: &str, value: impl Into<Value>) -> Point {
        let (mut key, value) = (clean(key), value.into());
        if SERVERS.contains(&key.as_str()) {
            key = format!("field_{key}");
        }
        let sound = !matches!(value, Value::Float(number) if !number.is_finite());
        if sound && !key.is_empty() && !self.fields.iter().any(|(name, _)| *name == key) {
            self.fields.push((key, value));
        }
        self
    }

    /// Adds a count; one beyond what servers take (2⁶³) becomes the largest they do.
    pub fn count(self, key: &str, value: u64) -> Point {
        // unsigned values are refused by servers
        self.field(key, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// The point as one line, its newline included; `None` without a measurement or without a field, which no
    /// server takes.
    pub fn line(&self) -> Option<Vec<u8>> {
        let ((first, value), rest) = self.fields.split_first()?;
        if self.measurement.is_empty() {
            return None;
        }
        let mut tags = BTreeMap::new();
        for (key, value) in &self.tags {
            add_tag(&mut tags, key, value, |key| self.fields.iter().any(|(name, _)| name == key));
        }
        let mut head = LineProtocolBuilder::new().measurement(&self.measurement);
        for (key, value) in &tags {
            head = head.tag(key, value);
        }
        let mut body: LineProtocolBuilder<Vec<u8>, AfterField> = match value {
            Value::Float(number) => head.field(first, *number),
            Value::Integer(number) => head.field(first, *number),
            Value::Boolean(yes) => head.field(first, *yes),
            Value::Text(text) => head.field(first, clean(text).as_str()),
        };
        for (key, value) in rest {
            body = match value {
                Value::Float(number) => body.field(key, *number),
                Value::Integer(number) => body.field(key, *number),
                Value::Boolean(yes) => body.field(key, *yes),
                Value::Text(text) => body.field(key, clean(text).as_str()),
            };
        }
        let at = i64::try_from(self.at.0).unwrap_or(i64::MAX);
        Some(body.timestamp(at).close_line().build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use influxdb_line_protocol::parse_lines;
    use proptest::prelude::*;

    fn text(point: &Point) -> String {
        String::from_utf8(point.line().expect("a line")).expect("text")
    }

    #[test]
    fn every_kind_of_field_keeps_its_type() {
        let point = Point::new("m", Wall(7)).tag("b", "x y").tag("a", "1").field("f", 1.5).field("i", -2_i64);
        let point = point.field("yes", true).field("t", "say \"hi\"").count("n", u64::MAX);
        assert_eq!(text(&point), "m,a=1,b=x\\ y f=1.5,i=-2i,yes=true,t=\"say \\\"hi\\\"\",n=9223372036854775807i 7\n");
    }

    #[test]
    fn names_that_collide_are_moved_and_what_is_empty_is_left_out() {
        let point = Point::new("m", Wall(7)).tag("f", "field").tag("time", "noon").tag("a", "1").tag("a", "2");
        let point = point.tag("", "x").tag("x", "").field("f", 1.0).field("f", 2.0).field("time", 3.0).field("", 4.0);
        assert_eq!(text(&point), "m,a=1,a_=2,tag_f=field,tag_time=noon f=1,field_time=3 7\n");
    }

    #[test]
    fn what_no_server_takes_is_no_line() {
        assert_eq!(Point::new("m", Wall(7)).tag("a", "1").line(), None);
        assert_eq!(Point::new("m", Wall(7)).field("f", f64::NAN).line(), None);
        assert_eq!(Point::new("", Wall(7)).field("f", 1.0).line(), None);
    }

    proptest! {
        #[test]
        fn any_texts_make_one_line_that_parses(
            texts in proptest::collection::vec("\\PC{0,3}[\\\\ ,=\n\"a#]{0,3}", 6),
        ) {
            let point = Point::new(&format!("m{}", texts[0]), Wall(7)).tag(&texts[1], &texts[2]).tag(&texts[3], "v");
            let text = text(&point.field(&texts[4], texts[5].as_str()).field("n", 1_i64));
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: Vec<_> = parse_lines(&text).collect();
            prop_assert_eq!(parsed.len(), 1);
            prop_assert!(parsed[0].is_ok(), "{text}: {:?}", parsed[0]);
        }
    }
}
