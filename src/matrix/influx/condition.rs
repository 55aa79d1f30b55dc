//! A window and a filter as conditions of InfluxQL.
//!
//! A condition takes at least what the filter takes: the paths of the answer are filtered once more. Where it takes
//! nothing else, it is exact, and the server may join paths by itself. Read [`Condition::of`].

use super::quote::{identifier, literal};
use crate::matrix::question::{Filter, Key, Term, Window};
use crate::probe::shape::MethodKind;
use crate::sink::influx::line::{OWN_TAGS, read_tag, written_tag};
use crate::summary::Path;
use std::collections::BTreeSet;

/// The largest time of InfluxDB, in ns since 1970.
const LATEST: u64 = i64::MAX as u64 - 1;

/// Method of points that name none: the first LLAMA's.
pub(super) const UPSTREAMS: MethodKind = MethodKind::Llama;

/// What follows `WHERE` and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Terms, each beginning with ` AND `.
    pub text: String,
    /// Whether it takes nothing but what the filter takes.
    pub exact: bool,
}

/// What one term comes to.
enum Pushed {
    /// Nothing fulfils it.
    Never,
    /// The server cannot tell.
    Not,
    /// Alternatives.
    Any(Vec<String>),
}

/// The time of a window as a condition.
pub(super) fn during(window: Window) -> String {
    format!("time > {} AND time <= {}", window.from.0.min(LATEST), window.to.0.min(LATEST))
}

impl Condition {
    /// The condition of a filter; `path` is the one that the filter's id names. `None` when nothing can fulfil it.
    pub fn of(filter: &Filter, path: Option<&Path>) -> Option<Condition> {
        let methods = MethodKind::ALL.into_iter().map(|method| method.name().to_string()).collect();
        let mut terms = vec![Term { key: Key::Method, values: methods }];
        terms.extend(filter.terms.iter().cloned());
        if let Some(path) = path {
            let of = |key: Key| Term { values: BTreeSet::from([key.of(path).into_owned()]), key };
            terms.extend([Key::SrcIp, Key::DstIp, Key::Method, Key::Dscp, Key::Group].map(of));
        }
        let mut condition = Condition { text: String::new(), exact: true };
        for term in terms {
            match pushed(&term) {
                Pushed::Never => return None,
                Pushed::Not => condition.exact = false,
                Pushed::Any(alternatives) => condition.text += &format!(" AND ({})", alternatives.join(" OR ")),
            }
        }
        Some(condition)
    }
}

fn pushed(term: &Term) -> Pushed {
    let mut values = term.values.clone();
    let name = match &term.key {
        // an address that does not parse is shown as the unspecified one
        Key::SrcIp | Key::DstIp if values.contains("0.0.0.0") || values.contains("") => return Pushed::Not,
        Key::SrcIp | Key::DstIp | Key::Method | Key::Dscp | Key::Group => term.key.name().into_owned(),
        Key::Size => return Pushed::Not,
        Key::Tag(tag) => {
            let name = written_tag(tag);
            if read_tag(&name) != tag || OWN_TAGS.contains(&name.as_str()) {
                return Pushed::Not;
            }
            name
        }
    };
    // what a point of the first LLAMA does not name
    let unnamed = match &term.key {
        Key::Method => values.contains(UPSTREAMS.name()),
        Key::Dscp => values.contains("0"),
        _ => values.contains(""),
    };
    values.remove("");
    if unnamed {
        values.insert(String::new());
    }
    let Some(name) = identifier(&name) else { return Pushed::Not };
    let any: Vec<_> = values.iter().filter_map(|value| Some(format!("{name} = {}", literal(value)?))).collect();
    if any.is_empty() { Pushed::Never } else { Pushed::Any(any) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use crate::time::Wall;

    fn text(key: Key, values: &[&str]) -> Option<(String, bool)> {
        let mut filter = Filter::all();
        values.iter().for_each(|value| filter.add(key.clone(), value.to_string()));
        let all = Condition::of(&Filter::all(), None).expect("condition").text;
        let condition = Condition::of(&filter, None)?;
        Some((condition.text.strip_prefix(&all).expect("methods").to_string(), condition.exact))
    }

    #[test]
    fn terms_become_conditions() {
        let some = |text: &str, exact| Some((text.to_string(), exact));
        assert_eq!(text(Key::Group, &["a", ""]), some(" AND (\"group\" = '' OR \"group\" = 'a')", true));
        assert_eq!(text(Key::Method, &["llama"]), some(" AND (\"method\" = '' OR \"method\" = 'llama')", true));
        assert_eq!(text(Key::Method, &["udp"]), some(" AND (\"method\" = 'udp')", true));
        assert_eq!(text(Key::Dscp, &["0"]), some(" AND (\"dscp\" = '' OR \"dscp\" = '0')", true));
        assert_eq!(text(Key::Tag("group".into()), &["x"]), some(" AND (\"tag_group\" = 'x')", true));
        assert_eq!(text(Key::Tag("a\"b".into()), &["'"]), some(" AND (\"a\\\"b\" = '\\'')", true));
        assert_eq!(text(Key::Tag("rack".into()), &["a\0"]), None, "no point has it");
        for (key, value) in [(Key::SrcIp, "0.0.0.0"), (Key::Tag("tag_loss".into()), "x"), (Key::Tag("a\nb".into()), "")]
        {
            assert_eq!(text(key, &[value]), some("", false), "left to the filter");
        }
    }

    #[test]
    fn a_path_is_named_by_what_makes_its_id() {
        let condition = Condition::of(&Filter::all(), Some(&samples::full().path)).expect("condition");
        let end = " AND (\"src_ip\" = '10.0.0.1') AND (\"dst_ip\" = '10.0.0.2') AND (\"method\" = 'udp') \
                   AND (\"dscp\" = '46') AND (\"group\" = 'far')";
        assert!(condition.exact && condition.text.ends_with(end), "{condition:?}");
    }

    #[test]
    fn times_stay_within_what_servers_know() {
        let all = Window { from: Wall(0), to: Wall(u64::MAX) };
        assert_eq!(during(all), "time > 0 AND time <= 9223372036854775806");
    }
}
