//! From a tree to single values: finds keys, checks ranges, notes what is odd, and goes on.
//!
//! A wrong value is noted and the default taken, so that one run finds every mistake. Not responsible
//! for what sections mean ([`super::file`]). Read [`Reader`] first.

use super::draft::Located;
use super::keys::{self, Range};
use super::problem::{Place, Problems, did_you_mean};
use super::scalar;
use super::yaml::{Key, Node, Value, quote};
use std::collections::HashMap;
use std::fmt;

/// A dotted key, built only when it is shown.
#[derive(Clone, Copy)]
pub(super) struct KeyPath<'p> {
    parent: Option<&'p KeyPath<'p>>,
    segment: Segment<'p>,
}

#[derive(Clone, Copy)]
enum Segment<'p> {
    Root,
    Name(&'p str),
    Item(usize),
}

impl<'p> KeyPath<'p> {
    pub(super) const ROOT: KeyPath<'static> = KeyPath { parent: None, segment: Segment::Root };

    pub(super) fn name(&'p self, name: &'p str) -> KeyPath<'p> {
        KeyPath { parent: Some(self), segment: Segment::Name(name) }
    }

    pub(super) fn item(&'p self, index: usize) -> KeyPath<'p> {
        KeyPath { parent: Some(self), segment: Segment::Item(index) }
    }
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Item(index) => write!(f, "[{index}]"),
            Segment::Name(name) => {
                let first = self.parent.is_none_or(|p| matches!(p.segment, Segment::Root));
                write!(f, "{}{name}", if first { "" } else { "." })
            }
        }
    }
}

/// The entries of a map with known keys.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n, 'a> {
    section: &'static str,
    entries: &'n [(Key<'a>, Node<'a>)],
}

impl<'n, 'a> Fields<'n, 'a> {
    /// The value of a key: the last one given; `None` when missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node<'a>> {
        let (_, node) = self.entries.iter().rfind(|(key, _)| key.text == name)?;
        (node.value != Value::Null).then_some(node)
    }
}

/// Reads values and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) problems: Problems,
}

impl Reader {
    /// Notes a mistake about the value of a key.
    pub(super) fn error(&mut self, place: Place, path: &KeyPath<'_>, what: impl Into<String>, remedy: &str) {
        self.problems.error(place, &path.to_string(), what, remedy);
    }

    /// Notes a doubt about the value of a key.
    pub(super) fn warning(&mut self, place: Place, path: &KeyPath<'_>, what: impl Into<String>, remedy: &str) {
        self.problems.warning(place, &path.to_string(), what, remedy);
    }

    /// The entries of a map; none for null.
    pub(super) fn entries<'n, 'a>(&mut self, node: &'n Node<'a>, path: &KeyPath<'_>) -> &'n [(Key<'a>, Node<'a>)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.error(
                    node.place,
                    path,
                    format!("{} found, a map expected", node.describe()),
                    "write `key: value` lines",
                );
                &[]
            }
        }
    }

    /// The items of a list; none for null.
    pub(super) fn items<'n, 'a>(&mut self, node: &'n Node<'a>, path: &KeyPath<'_>) -> &'n [Node<'a>] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.error(
                    node.place,
                    path,
                    format!("{} found, a list expected", node.describe()),
                    "write `- item` lines",
                );
                &[]
            }
        }
    }

    /// A map whose keys the table lists; others are noted and skipped.
    pub(super) fn section<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        section: &'static str,
        path: &KeyPath<'_>,
    ) -> Fields<'n, 'a> {
        let entries = self.entries(node, path);
        for (key, _) in entries {
            if !keys::of(section).any(|known| known.name == key.text) {
                let near = did_you_mean(&key.text, keys::of(section).map(|known| known.name));
                let what = format!("unknown key{near}, ignored");
                self.warning(key.place, &path.name(&key.text), what, "correct or remove it");
            }
        }
        for known in keys::of(section) {
            let mut given = entries.iter().filter(|(key, _)| key.text == known.name);
            if let (Some(_), Some((last, _))) = (given.next(), given.next_back()) {
                self.warning(
                    last.place,
                    &path.name(known.name),
                    "given more than once, the last counts",
                    "remove the others",
                );
            }
        }
        Fields { section, entries }
    }

    /// A map whose keys the user chooses: the last of each name, in file order.
    pub(super) fn names<'n, 'a>(&mut self, node: &'n Node<'a>, path: &KeyPath<'_>) -> Vec<(&'n Key<'a>, &'n Node<'a>)> {
        let entries = self.entries(node, path);
        let last: HashMap<&str, usize> = entries.iter().enumerate().map(|(i, (key, _))| (&*key.text, i)).collect();
        let mut kept = Vec::with_capacity(last.len());
        for (i, (key, node)) in entries.iter().enumerate() {
            if last.get(&*key.text) == Some(&i) {
                kept.push((key, node));
            } else {
                self.warning(
                    key.place,
                    &path.name(&key.text),
                    "given again further down, the last counts",
                    "remove this one",
                );
            }
        }
        kept
    }

    /// A scalar as written; `None` when missing or null.
    pub(super) fn text<'n>(
        &mut self,
        fields: &Fields<'n, '_>,
        name: &'static str,
        path: &KeyPath<'_>,
    ) -> Option<Located<&'n str>> {
        let node = fields.get(name)?;
        match &node.value {
            Value::Scalar { text, .. } => Some(Located { value: &**text, place: Some(node.place) }),
            _ => {
                let what = format!("{} found, a single value expected", node.describe());
                self.error(node.place, &path.name(name), what, "write one value");
                None
            }
        }
    }

    /// One scalar or a list of them, as written; none when missing or null.
    pub(super) fn texts<'n>(
        &mut self,
        fields: &Fields<'n, '_>,
        name: &'static str,
        path: &KeyPath<'_>,
    ) -> Vec<Located<&'n str>> {
        let Some(Node { value: Value::List(items), place }) = fields.get(name) else {
            return self.text(fields, name, path).into_iter().collect();
        };
        if items.is_empty() {
            self.error(*place, &path.name(name), "an empty list", "name at least one, or remove the key");
        }
        let mut texts: Vec<Located<&'n str>> = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Scalar { text, .. } => texts.push(Located { value: &**text, place: Some(item.place) }),
                _ => {
                    let what = format!("{} found, a single value expected", item.describe());
                    self.error(item.place, &path.name(name), what, "write a list of values");
                }
            }
        }
        texts
    }

    /// A number in the range of the table, else its default.
    pub(super) fn number(&mut self, fields: &Fields<'_, '_>, name: &'static str, path: &KeyPath<'_>) -> Located<f64> {
        let text = self.text(fields, name, path);
        self.number_of(fields, name, text, path)
    }

    /// What a text says, in the range of the table, else the key's default.
    pub(super) fn number_of(
        &mut self,
        fields: &Fields<'_, '_>,
        name: &'static str,
        text: Option<Located<&str>>,
        path: &KeyPath<'_>,
    ) -> Located<f64> {
        let (min, max, whole, unit, default) = match keys::of(fields.section).find(|key| key.name == name) {
            Some(key) => match key.range {
                Range::Whole(min, max) => (min, max, true, key.unit, key.default),
                Range::Number(min, max) => (min, max, false, key.unit, key.default),
                Range::Words(_) | Range::Text(_) => (f64::MIN, f64::MAX, false, key.unit, key.default),
            },
            None => (f64::MIN, f64::MAX, false, "", "0"),
        };
        let default = scalar::number(default).unwrap_or(0.0);
        let Some(text) = text else { return Located::default(default) };
        let Some(place) = text.place else { return Located::default(default) };
        let path = path.name(name);
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let Some(value) = scalar::number(text.value) else {
            let what = format!("{} is no number, {min} to {max}{unit} possible", quote(text.value));
            self.error(place, &path, what, "write a number");
            return Located { value: default, place: Some(place) };
        };
        if scalar::is_octal(text.value) {
            let what = format!("{} is octal because of its leading zero: {value}", text.value);
            self.warning(place, &path, what, "remove the zero, or write 0o");
        }
        if value < min || value > max {
            let what = format!("{}{unit} asked, {min} to {max} possible", text.value);
            self.error(place, &path, what, if value < min { "raise it" } else { "lower it" });
            return Located { value: default, place: Some(place) };
        }
        if whole && value.fract() != 0.0 {
            self.error(
                place,
                &path,
                format!("{}{unit} asked, whole numbers from {min} to {max} possible", text.value),
                "round it",
            );
            return Located { value: default, place: Some(place) };
        }
        Located { value, place: Some(place) }
    }

    /// One of the words of the table, else `None`.
    pub(super) fn word(
        &mut self,
        fields: &Fields<'_, '_>,
        name: &'static str,
        path: &KeyPath<'_>,
    ) -> Option<&'static str> {
        let text = self.text(fields, name, path)?;
        let key = keys::of(fields.section).find(|key| key.name == name)?;
        let Range::Words(words) = key.range else { return None };
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(text.value)).copied();
        if let (None, Some(place)) = (found, text.place) {
            let near = did_you_mean(text.value, words.iter().copied());
            let what = format!("{} is unknown{near}", quote(text.value));
            self.error(place, &path.name(name), what, &format!("use {}", words.join(" or ")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_paths_are_dotted() {
        let targets = KeyPath::ROOT.name("targets");
        let group = targets.name("west");
        let item = group.item(3);
        assert_eq!(item.name("ip").to_string(), "targets.west[3].ip");
        assert_eq!(KeyPath::ROOT.to_string(), "");
    }
}
