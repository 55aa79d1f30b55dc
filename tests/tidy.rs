//! Reads the sources and the documentation, and fails where they break a rule of the house.
//!
//! A rule is a function from text to complaints, so that each is also tested on a bad sample: a check that
//! cannot fail is none. The rules are listed in `docs/architecture.md`.

#![allow(clippy::unwrap_used)] // in a test an unwrap is an assertion

use clap::Parser as _;
use llama::cli::args::Cli;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Modules from the lowest layer to the highest; a module imports itself and what stands in an earlier row.
const LAYERS: [&[&str]; 11] = [
    &["time"],
    &["wire"],
    &["probe"],
    &["net", "summary"],
    &["config"],
    &["sink"],
    &["matrix"],
    &["history"],
    &["http"],
    &["collector", "reflector", "scraper"],
    &["cli"],
];
/// Layers that are pure: instants are arguments there.
const PURE: [&str; 3] = ["wire", "probe", "summary"];
/// What reads a clock.
const CLOCKS: [&str; 3] = ["SystemClock", "Instant::now", "SystemTime"];
/// The only folder with `unsafe`.
const UNSAFE_FOLDER: &str = "src/net/";
/// Lines of a source file at most.
const LONGEST: usize = 700;
/// What must not stay in a source. In two parts, so that this file does not hold them.
const LEFTOVERS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!(")];
/// What stops a program instead of reporting.
const STOPPERS: [&str; 5] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];
/// Folders in backticks whose files must exist when the documentation names them.
const NAMED: [&str; 6] = ["src/", "tests/", "docs/", "scripts/", "bench/", "examples/"];

/// Pages that are linked to and written when there is something to say.
const AWAITED: [&str; 0] = [];

/// A text and where it stands, relative to the repository.
struct File {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with this extension below a folder of the repository, or the file itself.
fn files(place: &str, extension: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut left = vec![root().join(place)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(File { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn sources() -> Vec<File> {
    ["src", "tests", "bench"].iter().flat_map(|folder| files(folder, "rs")).collect()
}

fn documentation() -> Vec<File> {
    ["README.md", "docs"].iter().flat_map(|place| files(place, "md")).collect()
}

/// Fails with all complaints, or when there was nothing to complain about.
fn expect_none(looked_at: usize, complaints: Vec<String>) {
    assert!(looked_at > 0, "nothing was looked at");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---------------------------------------------------------------- reading Rust

/// The source without comments and without the content of strings; lines stay where they are.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let blank = |out: &mut [u8], from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let until = |from: usize, end: &str| text[from..].find(end).map_or(bytes.len(), |at| from + at);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = if rest.starts_with("//") {
            until(at, "\n")
        } else if rest.starts_with("/*") {
            until(at + 2, "*/") + 2
        } else if !word_before && raw_string(rest).is_some() {
            let (open, close) = raw_string(rest).unwrap();
            until(at + open, &close) + close.len()
        } else if rest.starts_with('"') {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if let Some(length) = character(rest) {
            at + length
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let end = end.min(bytes.len());
        blank(&mut out, at, end);
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// The length of the opening of a raw string that starts here, and its closing.
fn raw_string(text: &str) -> Option<(usize, String)> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = text.len() - after.len() + hashes + 1;
    after[hashes..].starts_with('"').then(|| (open, format!("\"{}", "#".repeat(hashes))))
}

/// The length of a character literal that starts here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escaped) = inner.strip_prefix('\\') {
        return Some(2 + 1 + escaped[1..].find('\'')? + 1);
    }
    let first = inner.chars().next()?.len_utf8();
    inner[first..].starts_with('\'').then_some(first + 2)
}

/// The code that is shipped, and the files that `#[cfg(test)]` modules stand in, as named from this one.
fn shipped(text: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let (mut out, mut elsewhere) = (code(text), Vec::new());
    let mut from = 0;
    while let Some(at) = out[from..].find(MARK).map(|at| from + at) {
        from = at + MARK.len();
        let rest = &out[from..];
        let Some(stop) = rest.find(['{', ';']) else { break };
        let head: Vec<&str> = rest[..stop].split_whitespace().collect();
        if !head.contains(&"mod") {
            continue;
        }
        if rest[stop..].starts_with(';') {
            let named = text[from..from + stop].split_once("#[path = \"").and_then(|(_, path)| path.split('"').next());
            elsewhere.extend(named.or(head.last().copied()).map(str::to_owned));
            continue;
        }
        let mut depth = 0;
        let length = rest[stop..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(at + 1)
        });
        let end = length.map_or(out.len(), |length| from + stop + length);
        let blank: String = out[from..end].bytes().map(|c| if c == b'\n' { '\n' } else { ' ' }).collect();
        out.replace_range(from..end, &blank);
    }
    (out, elsewhere)
}

/// Files of `src` with the code that is shipped: no comments, no strings, no tests.
fn shipped_files(sources: &[File]) -> Vec<File> {
    let mut tests = BTreeSet::new();
    let mut found = Vec::new();
    for file in sources.iter().filter(|file| file.path.starts_with("src/")) {
        let (text, elsewhere) = shipped(&file.text);
        let path = Path::new(&file.path);
        let beside = path.parent().unwrap().to_path_buf();
        let below = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") | None => beside.clone(),
            Some(_) => path.with_extension(""),
        };
        for name in elsewhere {
            if name.ends_with(".rs") {
                tests.insert(beside.join(name));
                continue;
            }
            tests.insert(below.join(format!("{name}.rs")));
            tests.insert(below.join(name).join("mod.rs"));
        }
        found.push(File { path: file.path.clone(), text });
    }
    found.retain(|file| !tests.contains(Path::new(&file.path)));
    found
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Where `needle` stands as a word of its own, if its ends are words.
fn occurrences<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(needle).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + needle.len()..].chars().next().is_some_and(is_word);
        !(before && needle.starts_with(is_word) || after && needle.ends_with(is_word))
    })
}

// ---------------------------------------------------------------- layers

/// Modules of the crate that code names: in `use crate::a`, `crate::a::b`, `crate::{a, b::c}`, and by
/// as many `super` as lead to the crate's root.
fn imports(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let text = &file.text;
    let mut collect = |at: usize, rest: &str| {
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line_of(text, at), word(rest).to_owned()));
            return;
        };
        let (mut depth, mut first) = (1, true);
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => first = true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && first && c.is_alphabetic() {
                found.push((line_of(text, at), word(&group[offset..]).to_owned()));
                first = false;
            }
        }
    };
    for at in occurrences(text, "crate") {
        if let Some(rest) = text[at + "crate".len()..].strip_prefix("::") {
            collect(at, rest.trim_start());
        }
    }
    let path = Path::new(&file.path).with_extension("");
    let depth = path.components().count() - 1 - usize::from(path.ends_with("mod"));
    for at in occurrences(text, "super") {
        if text[..at].ends_with("super::") {
            continue;
        }
        let rest = text[at..].trim_start_matches("super::");
        let supers = (text.len() - at - rest.len()) / "super::".len();
        if supers > 0 && supers >= depth {
            collect(at, rest);
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn crossings(file: &File) -> Vec<String> {
    let path = Path::new(&file.path);
    let Some(Component::Normal(name)) = path.components().nth(1) else { return Vec::new() };
    let name = name.to_str().unwrap().trim_end_matches(".rs");
    if name == "main" || name == "lib" {
        return Vec::new(); // above all layers
    }
    let Some(own) = layer(name) else {
        return vec![format!("{}: module {name} has no layer; add it to LAYERS and docs/architecture.md", file.path)];
    };
    let wrong = |(line, module): &(usize, String)| {
        let other = layer(module)?;
        (module != name && other >= own).then(|| format!("{}:{line}: {name} must not import {module}", file.path))
    };
    imports(file).iter().filter_map(wrong).collect()
}

#[test]
fn layers_are_not_crossed() {
    let files = shipped_files(&sources());
    assert!(files.iter().map(|file| imports(file).len()).sum::<usize>() > 100, "imports are not found any more");
    expect_none(files.len(), files.iter().flat_map(crossings).collect());
}

#[test]
fn the_layer_check_can_fail() {
    let crossed = |path: &str, text: &str| {
        let file = File { path: path.into(), text: shipped(text).0 };
        crossings(&file).len()
    };
    assert_eq!(crossed("src/probe/schedule.rs", "use crate::net::Wait;"), 1);
    assert_eq!(crossed("src/probe/schedule.rs", "fn f(_: crate::net::Wait) {}"), 1);
    assert_eq!(crossed("src/net/mod.rs", "use crate::{time::Wall, summary::{Path, tally}, cli};"), 2);
    assert_eq!(crossed("src/net/mod.rs", "use super::summary::Path;"), 1);
    assert_eq!(crossed("src/net/mmsg.rs", "use super::super::summary::Path;"), 1);
    assert_eq!(crossed("src/net/uring/mod.rs", "use super::summary::Path; use super::super::summary;"), 1);
    assert_eq!(crossed("src/unknown/mod.rs", ""), 1);
    assert_eq!(crossed("src/net/mod.rs", "use crate::time::Wall; // crate::cli\nuse super::time;"), 0);
    assert_eq!(crossed("src/net/mod.rs", "#[cfg(test)]\nmod tests { use crate::cli; fn f() {} }"), 0);
    assert_eq!(crossed("src/net/mod.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::cli;"), 1);
    assert_eq!(
        crossed("src/net/mod.rs", r##"const A: &str = r#"crate::cli"#; const B: char = '"'; use crate::time;"##),
        0
    );
}

fn clocks_read(file: &File) -> Vec<String> {
    if !PURE.iter().any(|layer| file.path.starts_with(&format!("src/{layer}/"))) {
        return Vec::new();
    }
    let read = |clock: &&str| -> Vec<String> {
        let at = occurrences(&file.text, clock).map(|at| line_of(&file.text, at));
        at.map(|line| format!("{}:{line}: {clock} in a pure layer; take the instant as an argument", file.path))
            .collect()
    };
    CLOCKS.iter().flat_map(read).collect()
}

#[test]
fn pure_layers_read_no_clock() {
    let files = shipped_files(&sources());
    expect_none(files.len(), files.iter().flat_map(clocks_read).collect());
    let bad = File { path: "src/probe/schedule.rs".into(), text: "let now = SystemClock.wall();".into() };
    assert_eq!(clocks_read(&bad).len(), 1);
}

// ---------------------------------------------------------------- single files

fn unsafe_outside(file: &File) -> Vec<String> {
    if file.path.starts_with(UNSAFE_FOLDER) || !file.path.starts_with("src/") {
        return Vec::new();
    }
    let code = code(&file.text);
    let found = occurrences(&code, "unsafe").chain(occurrences(&code, "unsafe_code"));
    found.map(|at| format!("{}:{}: unsafe belongs to {UNSAFE_FOLDER}", file.path, line_of(&code, at))).collect()
}

#[test]
fn unsafe_stays_in_net() {
    let sources = sources();
    expect_none(sources.len(), sources.iter().flat_map(unsafe_outside).collect());
    let file = |path: &str, text: &str| unsafe_outside(&File { path: path.into(), text: text.into() }).len();
    assert_eq!(file("src/probe/mod.rs", "fn f() { unsafe { g() } } // unsafe"), 1);
    assert_eq!(file("src/probe/mod.rs", "#[expect(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";"), 1);
    assert_eq!(file("src/net/mod.rs", "fn f() { unsafe { g() } }"), 0);
}

fn without_header(file: &File) -> Option<String> {
    let has = file.text.starts_with("//! ");
    (!has).then(|| format!("{}:1: no `//!` header: say what the module is responsible for", file.path))
}

#[test]
fn every_module_has_a_header() {
    let sources = sources();
    expect_none(sources.len(), sources.iter().filter_map(without_header).collect());
    let bad = File { path: "src/a.rs".into(), text: "// A module.\nuse std::io;".into() };
    assert!(without_header(&bad).is_some());
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > LONGEST).then(|| format!("{}: {lines} lines, {LONGEST} at most; split it", file.path))
}

#[test]
fn no_file_is_too_long() {
    let sources = sources();
    expect_none(sources.len(), sources.iter().filter_map(too_long).collect());
    let lines = |n: usize| File { path: "src/a.rs".into(), text: "\n".repeat(n) };
    assert!(too_long(&lines(LONGEST)).is_none() && too_long(&lines(LONGEST + 1)).is_some());
}

fn leftovers(file: &File) -> Vec<String> {
    let of = |what: &&str| -> Vec<String> {
        let at = occurrences(&file.text, what).map(|at| line_of(&file.text, at));
        at.map(|line| format!("{}:{line}: {what} was left behind", file.path)).collect()
    };
    LEFTOVERS.iter().flat_map(of).collect()
}

#[test]
fn nothing_is_left_behind() {
    let mut all = sources();
    all.extend(documentation());
    expect_none(all.len(), all.iter().flat_map(leftovers).collect());
    for what in LEFTOVERS {
        let bad = File { path: "src/a.rs".into(), text: format!("// {what} later\n") };
        assert_eq!(leftovers(&bad).len(), 1, "{what}");
    }
}

fn stoppers(file: &File) -> Vec<String> {
    let of = |what: &&str| -> Vec<String> {
        let at = occurrences(&file.text, what).map(|at| line_of(&file.text, at));
        at.map(|line| format!("{}:{line}: {what} outside tests: report it instead", file.path)).collect()
    };
    STOPPERS.iter().flat_map(of).collect()
}

#[test]
fn shipped_code_does_not_stop_the_program() {
    let files = shipped_files(&sources());
    expect_none(files.len(), files.iter().flat_map(stoppers).collect());
    for what in STOPPERS {
        let call = if what.starts_with('.') { format!("a{what}") } else { what.to_owned() };
        let text = format!("fn f() {{ {call} }} // {call}\n#[cfg(test)]\nmod tests {{ fn g() {{ {call} }} }}\n");
        let bad = [File { path: "src/a.rs".into(), text }];
        assert_eq!(shipped_files(&bad).iter().flat_map(stoppers).count(), 1, "{what}");
    }
}

// ---------------------------------------------------------------- documentation

/// Targets of the links of a text, in Markdown and in the HTML that it may hold.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (open, close) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        for (at, _) in text.match_indices(open) {
            let rest = &text[at + open.len()..];
            found.extend(rest.find(close).map(|end| (line_of(text, at), &rest[..end])));
        }
    }
    found
}

/// A heading's anchor, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// `path` without `.` and `..`.
fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(tidy.pop()),
            Component::CurDir => {}
            part => tidy.push(part),
        }
    }
    tidy
}

fn broken_links(file: &File) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let broken = |(line, link): (usize, &str)| {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let (to, part) = link.split_once('#').unwrap_or((link, ""));
        let target = if to.is_empty() { PathBuf::from(&file.path) } else { tidied(&folder.join(to)) };
        if AWAITED.iter().any(|awaited| target == Path::new(awaited)) {
            return None;
        }
        let say = |what: &str| Some(format!("{}:{line}: link to {link}: {what}", file.path));
        if !to.is_empty() && !root().join(&target).exists() {
            return say("no such file");
        }
        let text = if to.is_empty() {
            file.text.clone()
        } else {
            fs::read_to_string(root().join(&target)).unwrap_or_default()
        };
        if !part.is_empty() && !anchors(&text).contains(part) {
            return say("no such heading");
        }
        None
    };
    links(&file.text).into_iter().filter_map(broken).collect()
}

#[test]
fn links_lead_somewhere() {
    let files = documentation();
    assert!(files.iter().map(|file| links(&file.text).len()).sum::<usize>() > 20, "links are not found any more");
    expect_none(files.len(), files.iter().flat_map(broken_links).collect());
    let broken = |text: &str| broken_links(&File { path: "docs/a.md".into(), text: text.into() }).len();
    assert_eq!(broken("[a](nowhere.md)"), 1);
    assert_eq!(broken("<img src=\"images/nowhere.svg\">"), 1);
    assert_eq!(broken("# One two\n[a](#three)"), 1);
    assert_eq!(broken("[a](configuration.md#nowhere)"), 1);
    assert_eq!(broken("# One `two`\n[a](#one-two) [b](../Cargo.toml) [c](https://example.org/nowhere)"), 0);
}

/// Files named in backticks that are not there. A name may stand for several: `src/net/{mod,sim}.rs`, `src/net/*`.
fn missing_files(file: &File) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2) {
            let plain = !name.contains(['*', '{', ' ', '<', '…', 'N']);
            if plain && NAMED.iter().any(|folder| name.starts_with(folder)) && !root().join(name).exists() {
                missing.push(format!("{}:{}: `{name}` is not there", file.path, number + 1));
            }
        }
    }
    missing
}

#[test]
fn named_files_exist() {
    let mut all = documentation();
    all.extend(sources().into_iter().filter(|file| file.path != "tests/tidy.rs"));
    expect_none(all.len(), all.iter().flat_map(missing_files).collect());
    let bad = File { path: "docs/a.md".into(), text: "`src/lib.rs`, `src/nowhere.rs`, `src/net/*`".into() };
    assert_eq!(missing_files(&bad).len(), 1);
}

/// Modules of the crate, and which of them the architecture's code map leaves out.
fn unmapped(sources: &[File], map: &str) -> Vec<String> {
    let modules = sources.iter().filter(|file| file.path.starts_with("src/") && file.path.matches('/').count() >= 2);
    let folder = |file: &File| file.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
    let folders: BTreeSet<String> = modules.filter_map(folder).collect();
    folders.into_iter().filter(|folder| !map.contains(&format!("`{folder}`"))).collect()
}

#[test]
fn the_code_map_is_complete() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let missing = unmapped(&sources(), &map);
    assert!(missing.is_empty(), "docs/architecture.md does not mention {missing:?}");
    assert!(!unmapped(&sources(), &map.replace("`src/net/uring/`", "")).is_empty());
}

/// Decisions that the list of them leaves out.
fn unlisted(decisions: &[File], list: &str) -> Vec<String> {
    let names = decisions.iter().filter_map(|file| file.path.rsplit('/').next()).filter(|name| *name != "README.md");
    names.filter(|name| !list.contains(&format!("({name})"))).map(str::to_owned).collect()
}

#[test]
fn every_decision_is_listed() {
    let decisions = files("docs/decisions", "md");
    let list = fs::read_to_string(root().join("docs/decisions/README.md")).unwrap();
    let missing = unlisted(&decisions, &list);
    assert!(missing.is_empty(), "docs/decisions/README.md does not list {missing:?}");
    assert!(!unlisted(&decisions, "").is_empty());
}

/// Command lines in fenced blocks of `sh`: one per line, `\` joins, comments cut.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut inside, mut joined) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && language.trim() == "sh";
            continue;
        }
        let line = line.split(" # ").next().unwrap_or(line).trim();
        if !inside || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let part = line.trim_end_matches('\\').trim();
        match found.last_mut() {
            Some((_, command)) if joined => *command += &format!(" {part}"),
            _ => found.push((number + 1, part.to_owned())),
        }
        joined = line.ends_with('\\');
    }
    found
}

/// The commands of a line, apart where `;`, `|` or `&` stand outside quotes.
fn parts(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let apart = |c: char| {
        quoted ^= matches!(c, '\'' | '"');
        !quoted && matches!(c, ';' | '|' | '&')
    };
    line.split(apart).collect()
}

/// A command's words; quotes hold words together.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in command.chars() {
        match c {
            '\'' | '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Why a command line of the documentation would not run; `None` for programs that are not ours.
fn wrong_command(command: &str) -> Option<String> {
    for part in parts(command) {
        let mut words = words(part.split(" > ").next().unwrap_or(part));
        let is_assignment = |word: &String| word.split_once('=').is_some_and(|(name, _)| !name.starts_with(['-', '/']));
        while words.first().is_some_and(|word| word == "sudo" || is_assignment(word)) {
            words.remove(0);
        }
        let Some(first) = words.first().cloned() else { continue };
        let with =
            |words: &[String], start: &[&str]| words.iter().zip(start).filter(|(a, b)| a == b).count() == start.len();
        if with(&words, &["cargo", "run", "--release", "--"]) {
            words.splice(..4, ["llama".to_owned()]);
        }
        if words[0] == "llama" || words[0].ends_with("/llama") {
            words[0] = "llama".into();
            use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
            match Cli::try_parse_from(&words) {
                Err(error) if !matches!(error.kind(), DisplayHelp | DisplayVersion) => return Some(error.to_string()),
                _ => {}
            }
        } else if first.starts_with("scripts/") {
            let script = fs::read_to_string(root().join(&first)).unwrap_or_default();
            let unknown = words[1..].iter().find(|word| word.starts_with('-') && !script.contains(word.as_str()));
            match unknown {
                _ if script.is_empty() => return Some(format!("{first}: no such script")),
                Some(flag) => return Some(format!("{first}: does not know {flag}")),
                None => {}
            }
        } else if with(&words, &["cargo", "bench", "--bench"]) {
            let name = words.get(3).map_or("", String::as_str);
            if !root().join(format!("bench/{name}.rs")).exists() {
                return Some(format!("no bench {name}"));
            }
        }
        // files of ours, as arguments
        let missing = words[1..].iter().find(|word| word.starts_with("examples/") && !root().join(word).exists());
        if let Some(file) = missing {
            return Some(format!("{file}: no such file"));
        }
    }
    None
}

fn wrong_commands(file: &File) -> Vec<String> {
    let wrong = |(line, command): (usize, String)| {
        wrong_command(&command).map(|why| format!("{}:{line}: {command}: {why}", file.path))
    };
    commands(&file.text).into_iter().filter_map(wrong).collect()
}

#[test]
fn commands_in_the_documentation_are_commands() {
    let files = documentation();
    assert!(files.iter().map(|file| commands(&file.text).len()).sum::<usize>() >= 8, "commands are not found any more");
    expect_none(files.len(), files.iter().flat_map(wrong_commands).collect());
}

#[test]
fn the_two_commands_stand_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<String> = commands(&readme).into_iter().map(|(_, command)| command).collect();
    for wanted in ["cargo run --release -- demo", "scripts/test"] {
        assert!(commands.iter().any(|command| command == wanted), "README.md does not say `{wanted}`");
    }
}

#[test]
fn the_command_check_can_fail() {
    let wrong = |command: &str| {
        let text = format!("```sh\n{command}\n```\n");
        wrong_commands(&File { path: "README.md".into(), text }).len()
    };
    for bad in [
        "llama ping",
        "llama ping 192.0.2.7 --nonsense",
        "llama nonsense",
        "A=1 cargo run --release -- demo --nonsense   # comment",
        "scripts/nonsense",
        "sudo scripts/test --nonsense",
        "cargo bench --bench nonsense",
        "llama ping 192.0.2.7 \\\n  --nonsense",
        "llama check examples/nonsense.yaml",
        "jq . | llama check",
        "llama collector --influx 'http://db?org=a&bucket=b' && llama nonsense",
    ] {
        assert_eq!(wrong(bad), 1, "{bad}");
    }
    for good in ["llama ping 192.0.2.7 --dscp EF > result.json", "scripts/test --unprivileged", "ls", "llama --help"] {
        assert_eq!(wrong(good), 0, "{good}");
    }
    assert!(commands("```text\nllama nonsense\n```\n").is_empty());
}
