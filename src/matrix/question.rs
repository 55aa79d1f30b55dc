//! Which time and which paths a question is about.
//!
//! Read [`Window`], [`Key`] and [`Filter`].

use crate::summary::Path;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// A span of time: the intervals that ended after `from` and not after `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Where it begins, exclusive.
    pub from: Wall,
    /// Where it ends, inclusive.
    pub to: Wall,
}

impl Window {
    /// Whether an interval that ended at `end` is inside.
    pub fn holds(&self, end: Wall) -> bool {
        self.from < end && end <= self.to
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.to.0.saturating_sub(self.from.0))
    }

    /// The window as long as this one that is earlier by `by`.
    pub fn earlier(&self, by: Duration) -> Window {
        Window { from: self.from.before(by), to: self.to.before(by) }
    }
}

/// What paths can be grouped and chosen by: what names them, and any tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Source address.
    SrcIp,
    /// Destination address.
    DstIp,
    /// How it is probed.
    Method,
    /// Its class, a number.
    Dscp,
    /// Payload of its probes, where several sizes are compared.
    Size,
    /// The target's group.
    Group,
    /// A tag of the target.
    Tag(String),
}

impl Key {
    /// Those that are no tags.
    pub const OWN: [Key; 6] = [Key::SrcIp, Key::DstIp, Key::Method, Key::Dscp, Key::Size, Key::Group];

    /// The key of a name: `src_ip`, `dst_ip`, `method`, `dscp`, `size`, `group`, or a tag. A tag that is named like one
    /// of these is written `tag_NAME`.
    pub fn parse(name: &str) -> Key {
        if let Some(own) = Key::OWN.into_iter().find(|own| own.name() == name) {
            return own;
        }
        match name.strip_prefix("tag_") {
            Some(tag) if Key::OWN.iter().any(|own| own.name() == tag) => Key::Tag(tag.into()),
            _ => Key::Tag(name.into()),
        }
    }

    /// Its name, as [`Key::parse`] reads it.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Key::SrcIp => "src_ip".into(),
            Key::DstIp => "dst_ip".into(),
            Key::Method => "method".into(),
            Key::Dscp => "dscp".into(),
            Key::Size => "size".into(),
            Key::Group => "group".into(),
            Key::Tag(tag) if Key::OWN.iter().any(|own| own.name() == tag.as_str()) => format!("tag_{tag}").into(),
            Key::Tag(tag) => tag.into(),
        }
    }

    /// Its value of a path; empty where the path has none.
    pub fn of<'a>(&self, path: &'a Path) -> Cow<'a, str> {
        match self {
            Key::SrcIp => path.src.to_string().into(),
            Key::DstIp => path.dst.to_string().into(),
            Key::Method => path.method.name().into(),
            Key::Dscp => path.dscp.0.to_string().into(),
            Key::Size => path.size.map_or("".into(), |size| size.to_string().into()),
            Key::Group => path.group.as_str().into(),
            Key::Tag(tag) => path.tags.get(tag).map_or("".into(), |value| value.as_str().into()),
        }
    }
}

/// Paths whose `key` has one of `values`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// What is looked at.
    pub key: Key,
    /// What it may be; an empty text means that the path has none.
    pub values: BTreeSet<String>,
}

/// Which paths: those that every term holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// This path alone.
    pub path: Option<PathId>,
    /// What must hold besides; terms of the same key are one term with the values of both.
    pub terms: Vec<Term>,
}

impl Filter {
    /// Every path.
    pub fn all() -> Filter {
        Filter::default()
    }

    /// Adds `key` = `value`; a value more where the key is there already.
    pub fn add(&mut self, key: Key, value: String) {
        match self.terms.iter_mut().find(|term| term.key == key) {
            Some(term) => {
                term.values.insert(value);
            }
            None => self.terms.push(Term { key, values: BTreeSet::from([value]) }),
        }
    }

    /// Whether it takes every path.
    pub fn is_all(&self) -> bool {
        self.path.is_none() && self.terms.is_empty()
    }

    /// Whether it takes this path.
    pub fn takes(&self, path: &Path) -> bool {
        self.terms.iter().all(|term| term.values.contains(&*term.key.of(path)))
            && self.path.is_none_or(|id| id == PathId::of(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;

    #[test]
    fn keys_have_names_that_are_read_back() {
        for name in ["src_ip", "dst_ip", "method", "dscp", "size", "group", "rack", "tag_group", "tag_x", ""] {
            assert_eq!(Key::parse(name).name(), name);
        }
        assert_eq!(Key::parse("tag_group"), Key::Tag("group".into()));
        assert_eq!(Key::parse("tag_x"), Key::Tag("tag_x".into()));
    }

    #[test]
    fn a_filter_takes_what_every_term_takes() {
        let path = samples::full().path;
        let mut filter = Filter::all();
        assert!(filter.is_all() && filter.takes(&path));
        filter.add(Key::Method, "icmp".into());
        assert!(!filter.takes(&path));
        filter.add(Key::Method, path.method.name().into());
        assert!(filter.takes(&path));
        filter.add(Key::Tag("no such".into()), String::new());
        assert!(filter.takes(&path), "an empty value stands for none");
        filter.path = Some(PathId(7));
        assert!(!filter.takes(&path));
        filter.path = Some(PathId::of(&path));
        assert!(filter.takes(&path));
    }

    #[test]
    fn windows_are_half_open() {
        let window = Window { from: Wall(10), to: Wall(20) };
        assert_eq!([10, 11, 20, 21].map(|end| window.holds(Wall(end))), [false, true, true, false]);
        assert_eq!(window.earlier(Duration::from_nanos(10)), Window { from: Wall(0), to: Wall(10) });
        assert_eq!(window.length(), Duration::from_nanos(10));
    }
}
