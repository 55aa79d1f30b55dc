//! An independent reading of a page of metrics, as strict as the formats' descriptions.

use std::collections::{BTreeMap, BTreeSet};

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, with its ending.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// As in text format: counters with `_total`.
    pub name: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

/// A page, by name.
pub type Page = BTreeMap<String, Family>;

/// Reads a page in text format 0.0.4, or OpenMetrics when `open`.
///
/// # Panics
/// On everything that is not as it should be, with the line.
pub fn read(text: &str, open: bool) -> Page {
    let text = match (open, text.strip_suffix("# EOF\n")) {
        (true, Some(text)) => text,
        (false, None) => text,
        (_, end) => panic!("the end of the page: {end:?}"),
    };
    assert!(text.ends_with('\n'), "the last line is whole");
    let mut page = Page::new();
    let mut current: Option<Family> = None;
    let mut help = None;
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(!text.trim().is_empty(), "{line}");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(help.take().as_deref(), Some(name), "help comes before {line}");
            close(&mut page, current.take());
            let ending = if open && kind == "counter" { "_total" } else { "" };
            current = Some(Family { name: format!("{name}{ending}"), kind: kind.to_owned(), samples: Vec::new() });
        } else {
            let family = current.as_mut().unwrap_or_else(|| panic!("a sample before its type: {line}"));
            let sample = sample(line);
            let endings: &[&str] = match family.kind.as_str() {
                "counter" | "gauge" => &[""],
                "summary" => &["", "_sum", "_count"],
                "histogram" => &["_bucket", "_sum", "_count"],
                kind => panic!("{kind} is no type of ours"),
            };
            let ending = sample.name.strip_prefix(&family.name);
            assert!(ending.is_some_and(|ending| endings.contains(&ending)), "{line} in the family {}", family.name);
            assert!(family.kind != "counter" || family.name.ends_with("_total") && sample.value >= 0.0, "{line}");
            family.samples.push(sample);
        }
    }
    close(&mut page, current);
    page
}

/// Takes a family that is complete.
fn close(page: &mut Page, family: Option<Family>) {
    let Some(family) = family else { return };
    assert!(!family.samples.is_empty(), "{} has no sample", family.name);
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        assert!(seen.insert((&sample.name, &sample.labels)), "twice: {sample:?}");
    }
    if family.kind == "histogram" {
        buckets_add_up(&family);
    }
    let name = family.name.clone();
    assert!(page.insert(name.clone(), family).is_none(), "{name} comes twice");
}

/// Buckets grow up to the count.
fn buckets_add_up(family: &Family) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        series.entry(labels).or_default().push((bound, sample.value));
    }
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{labels:?}: {buckets:?}");
        let count = family.samples.iter().find(|s| s.name.ends_with("_count") && s.labels == labels).unwrap();
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count.value)), "{labels:?}");
    }
}

fn sample(line: &str) -> Sample {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}")));
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            let (value, after) = unquote(after).unwrap_or_else(|| panic!("{line}"));
            assert!(labels.insert(label.to_owned(), value).is_none(), "{label} comes twice in {line}");
            match after.as_bytes().first() {
                Some(b',') => rest = &after[1..],
                Some(b'}') => {
                    rest = &after[1..];
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap_or_else(|_| panic!("{line}")) };
    for part in labels.keys().map(String::as_str).chain([name]) {
        let plain = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(plain && !part.starts_with(|c: char| c.is_ascii_digit()), "{part} in {line}");
    }
    Sample { name: name.to_owned(), labels, value }
}

/// The text up to an unescaped quote, and what comes after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
    None
}

/// What a reader that accepts everything would not notice.
#[test]
fn the_reader_refuses_what_is_wrong() {
    let head = "# HELP llama_a A.\n# TYPE llama_a gauge\n";
    read(&format!("{head}llama_a{{b=\"c\\\"\\\\\\n\"}} 1\n"), false);
    for bad in [
        "llama_a 1\n".to_owned(),
        format!("{head}llama_b 1\n"),
        format!("{head}llama_a 1\nllama_a 2\n"),
        format!("{head}llama_a{{b=\"\\x\"}} 1\n"),
        format!("{head}llama_a{{b=\"}} 1\n"),
        format!("{head}llama_a one\n"),
        format!("{head}llama_a 1"),
        format!("{head}llama_a 1\n# EOF\n"),
        head.to_owned(),
        "# TYPE llama_a gauge\nllama_a 1\n".to_owned(),
        "# HELP llama_a A.\n# TYPE llama_a counter\nllama_a 1\n".to_owned(),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"
            .to_owned(),
    ] {
        assert!(std::panic::catch_unwind(|| read(&bad, false)).is_err(), "{bad}");
    }
}
