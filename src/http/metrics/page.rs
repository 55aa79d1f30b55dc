//! The text of a scrape: families of samples, in the two formats Prometheus reads.
//!
//! Responsible for escaping, for numbers, and for what differs between text format 0.0.4 (which `promtool` reads)
//! and OpenMetrics 1.0. Not responsible for which metrics there are. Read [`Page`] first, then [`Labels`].
//!
//! prometheus-client writes OpenMetrics only; the formats differ in four places, all of them in this file.

use std::fmt::Write;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format to answer with, by the request's `Accept` header: OpenMetrics only when asked for by name and
    /// not less than plain text.
    pub fn accepted(accept: &str) -> Format {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            match kind.as_str() {
                "application/openmetrics-text" => open_metrics = f64::max(open_metrics, quality),
                "text/plain" | "text/*" | "*/*" => text = f64::max(text, quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// A sample's labels, escaped and ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// No labels.
    pub const NONE: Labels = Labels(String::new());

    /// These labels, in this order. Names must be label names; values may be any text.
    pub fn of(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().fold(Labels::NONE, |labels, (name, value)| labels.with(name, value))
    }

    /// These labels and one more.
    pub fn with(mut self, name: &str, value: &str) -> Labels {
        debug_assert!(is_label_name(name), "{name} is no label name");
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                _ => self.0.push(character),
            }
        }
        self.0.push('"');
        self
    }
}

/// Whether `name` may stand before a label's value.
pub fn is_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count, written exactly.
    Count(u64),
    /// Anything else; NaN says that there is none.
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Value {
        Value::Count(count as u64)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Count(truth.into())
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Value {
        Value::Real(real)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Real(real) if real.is_infinite() => f.write_str(if real > 0.0 { "+Inf" } else { "-Inf" }),
            Value::Real(real) => write!(f, "{real}"),
        }
    }
}

/// A page being written.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Page {
        Page { format, text: String::new() }
    }

    /// Begins counters: they only grow, and begin at 0 when the process does. The name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name} counts: its name ends in _total");
        self.family(name, help, Kind::Counter)
    }

    /// Begins values that go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Gauge)
    }

    /// Begins histograms: [`Family::histogram`].
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Histogram)
    }

    /// Begins summaries: [`Family::summary`].
    pub fn summary(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Summary)
    }

    fn family(&mut self, name: &'static str, help: &str, kind: Kind) -> Family<'_> {
        // the formats escape a help text differently: nothing in it needs it
        debug_assert!(!help.contains(['\\', '"', '\n']) && !help.is_empty(), "the help of {name}: {help:?}");
        let header = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        put(&mut self.text, format_args!("# HELP {header} {help}\n# TYPE {header} {kind_name}\n"));
        Family { name, kind, text: &mut self.text }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// True without any metric.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The page as it is served.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Appends to a text, which takes everything.
fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}

/// Samples of one name.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    kind: Kind,
    text: &'a mut String,
}

impl Family<'_> {
    /// The only sample, without labels.
    pub fn value(&mut self, value: impl Into<Value>) {
        self.put(&Labels::NONE, value);
    }

    /// A sample of a counter or gauge.
    pub fn put(&mut self, labels: &Labels, value: impl Into<Value>) -> &mut Self {
        debug_assert!(matches!(self.kind, Kind::Counter | Kind::Gauge), "{} needs more than a value", self.name);
        self.sample("", labels, None, value.into());
        self
    }

    /// A histogram: ascending upper `bounds`, and a count for each and one for what is above the last.
    pub fn histogram(&mut self, labels: &Labels, bounds: &[f64], counts: &[u64], sum: f64) -> &mut Self {
        debug_assert!(self.kind == Kind::Histogram && counts.len() == bounds.len() + 1, "{}", self.name);
        let mut below = 0;
        for (bound, count) in bounds.iter().copied().chain([f64::INFINITY]).zip(counts) {
            below += count;
            let bound = Value::Real(bound).to_string();
            self.sample("_bucket", labels, Some(("le", &bound)), Value::Count(below));
        }
        self.sample("_sum", labels, None, Value::Real(sum));
        self.sample("_count", labels, None, Value::Count(below));
        self
    }

    /// A summary: quantiles, and sum and count of all values since the start.
    pub fn summary(&mut self, labels: &Labels, quantiles: &[(&str, f64)], sum: f64, count: u64) -> &mut Self {
        debug_assert!(self.kind == Kind::Summary, "{}", self.name);
        for (quantile, value) in quantiles {
            self.sample("", labels, Some(("quantile", quantile)), Value::Real(*value));
        }
        self.sample("_sum", labels, None, Value::Real(sum));
        self.sample("_count", labels, None, Value::Count(count));
        self
    }

    fn sample(&mut self, suffix: &str, labels: &Labels, more: Option<(&str, &str)>, value: Value) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        if !labels.0.is_empty() || more.is_some() {
            self.text.push('{');
            self.text.push_str(&labels.0);
            if let Some((name, value)) = more {
                let comma = if labels.0.is_empty() { "" } else { "," };
                put(self.text, format_args!("{comma}{name}=\"{value}\""));
            }
            self.text.push('}');
        }
        put(self.text, format_args!(" {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample_page(format: Format) -> String {
        let mut page = Page::new(format);
        page.counter("llama_things_total", "Things.").put(&Labels::of(&[("kind", "a")]), 3u64);
        page.gauge("llama_depth", "Depth.").value(f64::NAN);
        page.histogram("llama_wait_seconds", "Wait.").histogram(&Labels::NONE, &[0.001, 0.5], &[1, 2, 3], 4.5);
        page.summary("llama_rtt_seconds", "Round trips.").summary(
            &Labels::of(&[("dst", "b")]),
            &[("0.5", 0.25)],
            1.5,
            6,
        );
        page.finish()
    }

    #[test]
    fn text_format() {
        let expected = "\
# HELP llama_things_total Things.
# TYPE llama_things_total counter
llama_things_total{kind=\"a\"} 3
# HELP llama_depth Depth.
# TYPE llama_depth gauge
llama_depth NaN
# HELP llama_wait_seconds Wait.
# TYPE llama_wait_seconds histogram
llama_wait_seconds_bucket{le=\"0.001\"} 1
llama_wait_seconds_bucket{le=\"0.5\"} 3
llama_wait_seconds_bucket{le=\"+Inf\"} 6
llama_wait_seconds_sum 4.5
llama_wait_seconds_count 6
# HELP llama_rtt_seconds Round trips.
# TYPE llama_rtt_seconds summary
llama_rtt_seconds{dst=\"b\",quantile=\"0.5\"} 0.25
llama_rtt_seconds_sum{dst=\"b\"} 1.5
llama_rtt_seconds_count{dst=\"b\"} 6
";
        assert_eq!(sample_page(Format::Text), expected);
    }

    #[test]
    fn open_metrics_names_counters_without_their_ending_and_has_an_end() {
        let (text, open) = (sample_page(Format::Text), sample_page(Format::OpenMetrics));
        let expected = text
            .replace("# HELP llama_things_total", "# HELP llama_things")
            .replace("# TYPE llama_things_total", "# TYPE llama_things");
        assert_eq!(open, expected + "# EOF\n");
    }

    #[test]
    fn the_format_is_what_the_client_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("text/html, */*;q=0.8", Format::Text),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.3", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=much", Format::Text),
            ("application/json", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn values_as_prometheus_reads_them() {
        let shown = |value: Value| value.to_string();
        assert_eq!(shown(u64::MAX.into()), "18446744073709551615");
        assert_eq!(shown(true.into()), "1");
        assert_eq!(shown(1e-6.into()), "0.000001");
        assert_eq!(shown(f64::INFINITY.into()), "+Inf");
        assert_eq!(shown(f64::NEG_INFINITY.into()), "-Inf");
        assert_eq!(shown(f64::NAN.into()), "NaN");
    }

    #[test]
    fn label_names() {
        assert!(["a", "_a", "A9_"].into_iter().all(is_label_name));
        assert!(!["", "9a", "a-b", "é", "a b"].into_iter().any(is_label_name));
    }

    proptest! {
        /// The value is all of one line, and taking the escapes back gives the text.
        #[test]
        fn any_text_survives_as_a_label(value in "\\PC*|[\\\\\"\n\r\t{},= a-c]*") {
            let Labels(written) = Labels::of(&[("tag_x", &value)]);
            let inner = written.strip_prefix("tag_x=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!written.contains('\n'));
            let (mut read, mut characters) = (String::new(), inner.chars());
            while let Some(character) = characters.next() {
                prop_assert_ne!(character, '"', "an unescaped quote ends the value early");
                read.push(match character {
                    '\\' => match characters.next() {
                        Some('n') => '\n',
                        Some(escaped @ ('\\' | '"')) => escaped,
                        other => return Err(TestCaseError::fail(format!("no such escape: {other:?}"))),
                    },
                    plain => plain,
                });
            }
            prop_assert_eq!(read, value);
        }
    }
}
