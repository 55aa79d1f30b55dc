//! YAML text → a tree of [`Node`]s, each with its place and its scalars as they were written.
//!
//! Types are not guessed here: upstream's tags are texts, so `1.10`, `007`, `yes` must stay what the
//! user wrote, and `off` is a word for one key and a truth value for no one. Anchors, aliases and merge
//! keys (`<<`) are resolved. Not responsible for what keys mean. Every table has a limit, so a small
//! file cannot grow into a large tree ("billion laughs").

use super::problem::Place;
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Nodes of a tree at most, aliases expanded: 250 000 targets with twenty tags each.
pub(super) const MAX_NODES: usize = 12_000_000;
/// Nesting at most; a configuration has five levels.
pub(super) const MAX_DEPTH: usize = 32;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) place: Place,
    pub(super) value: Value<'a>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Nothing, `~` or `null`, not quoted.
    Null,
    /// A scalar as written, escapes resolved; `plain` when it was not quoted.
    Scalar { text: Cow<'a, str>, plain: bool },
    /// A list.
    List(Vec<Node<'a>>),
    /// A map in file order, with merge keys resolved and duplicates still in it.
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// The key of a map entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key<'a> {
    pub(super) place: Place,
    pub(super) text: Cow<'a, str>,
}

/// Why a text is no YAML tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unreadable {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

impl Node<'_> {
    /// What it is, for errors: `a list`, `` `abc` ``.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_string(),
            Value::Scalar { text, .. } => quote(text),
            Value::List(_) => "a list".to_string(),
            Value::Map(_) => "a map".to_string(),
        }
    }
}

/// A text in backticks, shortened, on one line.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A tree and whether further documents follow (which nobody reads).
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) root: Node<'a>,
    pub(super) more_documents: Option<Place>,
}

/// Reads the first document of `text`.
pub(super) fn parse(text: &str) -> Result<Document<'_>, Unreadable> {
    let mut tree = Builder::default();
    let mut more_documents = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Unreadable {
            place: place(e.marker()),
            what: format!("not YAML: {}", e.info()),
            remedy: "correct the syntax",
        })?;
        let at = place(&span.start);
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents == 2 {
                    more_documents = Some(at);
                    break;
                }
            }
            Event::Scalar(text, style, anchor, _tag) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar { text, plain } };
                tree.add(Node { place: at, value }, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, _) => tree.open(at, anchor, Value::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => tree.open(at, anchor, Value::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => tree.close()?,
            Event::Alias(id) => tree.alias(at, id)?,
            _ => {}
        }
    }
    let start = Place { line: 1, column: 1 };
    let root = tree.root.unwrap_or(Node { place: start, value: Value::Null });
    Ok(Document { root, more_documents })
}

fn place(marker: &Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(marker.line().max(1)), column: number(marker.col().saturating_add(1)) }
}

/// A list or map that is not closed yet.
#[derive(Debug)]
struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    /// Nodes in it, itself included.
    nodes: usize,
    /// The key whose value comes next.
    key: Option<Key<'a>>,
    /// Values of `<<`, waiting for the end: explicit keys win over them.
    merged: Vec<Node<'a>>,
}

#[derive(Debug, Default)]
struct Builder<'a> {
    root: Option<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, (Node<'a>, usize)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn open(&mut self, at: Place, anchor: usize, value: Value<'a>) -> Result<(), Unreadable> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_much(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let node = Node { place: at, value };
        self.open.push(Open { node, anchor, nodes: 1, key: None, merged: Vec::new() });
        self.count(at, 1)
    }

    fn close(&mut self) -> Result<(), Unreadable> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut open.node.value {
            for source in std::mem::take(&mut open.merged) {
                merge(entries, source)?;
            }
        }
        // its own nodes are counted already
        self.nodes -= open.nodes;
        self.add(open.node, open.anchor, open.nodes)
    }

    fn alias(&mut self, at: Place, id: usize) -> Result<(), Unreadable> {
        let Some((node, nodes)) = self.anchors.get(&id) else {
            return Err(Unreadable { place: at, what: "an anchor inside itself".into(), remedy: "write it out" });
        };
        let nodes = *nodes;
        if self.nodes + nodes > MAX_NODES {
            return Err(too_much(at, format!("more than {MAX_NODES} values")));
        }
        let node = node.clone();
        self.add(node, 0, nodes)
    }

    fn count(&mut self, at: Place, nodes: usize) -> Result<(), Unreadable> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(too_much(at, format!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// A finished node becomes a key, a value, an item, or the root.
    fn add(&mut self, node: Node<'a>, anchor: usize, nodes: usize) -> Result<(), Unreadable> {
        self.count(node.place, nodes)?;
        if anchor != 0 {
            // the copy stands for memory: it counts
            self.count(node.place, nodes)?;
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.nodes += nodes;
        match &mut parent.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match parent.key.take() {
                None => parent.key = Some(key(node)?),
                Some(key) if key.text == "<<" => parent.merged.push(node),
                Some(key) => entries.push((key, node)),
            },
            Value::Null | Value::Scalar { .. } => {}
        }
        Ok(())
    }
}

fn key(node: Node<'_>) -> Result<Key<'_>, Unreadable> {
    match node.value {
        Value::Scalar { text, .. } => Ok(Key { place: node.place, text }),
        Value::Null => Ok(Key { place: node.place, text: Cow::Borrowed("") }),
        Value::List(_) | Value::Map(_) => {
            Err(Unreadable { place: node.place, what: format!("{} as a key", node.describe()), remedy: "use a name" })
        }
    }
}

/// Adds the entries of `source` whose keys `entries` does not have.
fn merge<'a>(entries: &mut Vec<(Key<'a>, Node<'a>)>, source: Node<'a>) -> Result<(), Unreadable> {
    let sources = match source.value {
        Value::List(items) => items,
        _ => vec![source],
    };
    let mut known: HashSet<Cow<'a, str>> = entries.iter().map(|(k, _)| k.text.clone()).collect();
    for source in sources {
        match source.value {
            Value::Map(more) => entries.extend(more.into_iter().filter(|(k, _)| known.insert(k.text.clone()))),
            Value::Null => {}
            _ => {
                return Err(Unreadable {
                    place: source.place,
                    what: format!("`<<` merges {}", source.describe()),
                    remedy: "merge a map",
                });
            }
        }
    }
    Ok(())
}

fn too_much(place: Place, what: String) -> Unreadable {
    Unreadable { place, what, remedy: "make the file smaller" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &Node<'_>) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Scalar { text, .. } => text.to_string(),
            Value::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let shown = entries.iter().map(|(k, v)| format!("{}={}", k.text, text(v)));
                format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
            }
        }
    }

    fn read(yaml: &str) -> String {
        text(&parse(yaml).unwrap().root)
    }

    #[test]
    fn scalars_stay_as_written() {
        assert_eq!(read("a: 1.10\nb: 007\nc: yes\nd: \"~\"\ne: ~\nf:\n"), "{a=1.10,b=007,c=yes,d=~,e=~,f=~}");
        let tree = parse("d: \"~\"\ne: ~\n").unwrap().root;
        let Value::Map(entries) = tree.value else { panic!("no map") };
        assert_ne!(entries[0].1.value, Value::Null);
        assert_eq!(entries[1].1.value, Value::Null);
    }

    #[test]
    fn places_are_lines_and_columns_from_one() {
        let tree = parse("a:\n  - x\n  - é: y\n").unwrap().root;
        let Value::Map(entries) = tree.value else { panic!("no map") };
        assert_eq!(entries[0].0.place, Place { line: 1, column: 1 });
        let Value::List(items) = &entries[0].1.value else { panic!("no list") };
        assert_eq!(items[0].place, Place { line: 2, column: 5 });
        let Value::Map(inner) = &items[1].value else { panic!("no map") };
        assert_eq!(inner[0].1.place, Place { line: 3, column: 8 });
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        assert_eq!(read("a: &x {p: 1, q: 2}\nb: *x\nc: {q: 3, <<: *x}\n"), "{a={p=1,q=2},b={p=1,q=2},c={q=3,p=1}}");
        assert_eq!(read("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}\n"), "{a={p=1},b={p=2,q=2},c={p=1,q=2}}");
        assert!(parse("a: {<<: 5}").unwrap_err().what.contains("`<<` merges `5`"));
    }

    #[test]
    fn duplicates_stay_in_the_tree() {
        assert_eq!(read("a: 1\na: 2\n"), "{a=1,a=2}");
    }

    #[test]
    fn broken_syntax_has_a_place() {
        let e = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(e.place.line >= 2, "{e:?}");
        assert!(parse("[a]: 1").unwrap_err().what.contains("a list as a key"));
    }

    #[test]
    fn only_the_first_document_counts() {
        let document = parse("a: 1\n---\nb: 2\n").unwrap();
        assert_eq!(text(&document.root), "{a=1}");
        assert_eq!(document.more_documents.map(|p| p.line), Some(2));
        assert_eq!(parse("").unwrap().root.value, Value::Null);
        assert_eq!(parse("# only a comment\n").unwrap().root.value, Value::Null);
    }

    #[test]
    fn small_files_cannot_become_large_trees() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let item = format!("*a{},", i - 1).repeat(10);
            laughs.push_str(&format!("a{i}: &a{i} [{item}]\n"));
        }
        assert!(parse(&laughs).unwrap_err().what.contains("values"));
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&deep).unwrap_err().what.contains("levels"));
        let deep: String = (0..100).map(|i| " ".repeat(i) + "a:\n").collect();
        assert!(parse(&deep).is_err());
        assert!(parse("a: &a [*a]").is_err());
    }
}
