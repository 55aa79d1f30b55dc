//! Texts of users in tags and questions: always text.

use super::fleet::Numbers;
use super::*;
use llama::matrix::Key;
use llama::summary::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What ends a text, a tag or a page elsewhere.
const NASTY: [&str; 14] = [
    "'; DROP SERIES FROM raw_stats; --",
    "\"; DROP DATABASE llama; --",
    "' OR '1' = '1",
    "\" OR \"\" = \"",
    "/.*/",
    "=~ /.*/",
    "<script>alert(1)</script>&amp;\"'><img src=x onerror=alert(1)>",
    "*/ -- /* comment",
    "$tag",
    "a, b = c d",
    "日本 🦙 ü \u{200b}\u{202e}",
    "{\"results\":[{\"error\":\"x\"}]}",
    "'",
    "%27%22%0a",
];

/// A path for each text, with the text as tag, as tag's name and as group.
fn summaries(texts: &[String]) -> Vec<Summary> {
    let of = |(n, text): (usize, &String)| {
        let tags = BTreeMap::from([("plain".to_string(), text.clone()), (text.clone(), "named".to_string())]);
        let path = Path { group: text.clone(), tags: Arc::new(tags), ..(*fleet::path(1)).clone() };
        let path = Path { dst: [10, 1, (n >> 8) as u8, n as u8].into(), ..path };
        Summary { path: Arc::new(path), ..fleet::summary(1, 0) }
    };
    texts.iter().enumerate().map(of).collect()
}

fn filter(key: Key, value: &str) -> Filter {
    let mut filter = Filter::all();
    filter.add(key, value.into());
    filter
}

/// Each path is found by its text, and no other is; texts come back as they were.
fn each_is_found(source: &InfluxSource, texts: &[String]) {
    let all = figures(source, &Filter::all());
    assert_eq!(all.len(), texts.len());
    let right = |text: &String| texts.iter().filter(|other| *other == text).count();
    for text in texts {
        let keys = [Key::Group, Key::Tag("plain".into())].map(|key| filter(key, text));
        for filter in keys.into_iter().chain([filter(Key::Tag(text.clone()), "named")]) {
            let found = figures(source, &filter);
            assert_eq!(found.len(), right(text), "{filter:?}");
            assert!(found.iter().all(|one| one.path.group == *text && one.path.tags["plain"] == *text), "{filter:?}");
            assert!(found.iter().all(|one| one.path.tags[text] == "named"), "{filter:?}");
        }
    }
}

#[test]
fn texts_stay_texts() {
    let server = Influxd::start();
    let texts = NASTY.map(str::to_string);
    write(&server, "llama", false, &summaries(&texts));
    for row_limit in [100_000, 0] {
        let source = source(&server, "llama", row_limit);
        each_is_found(&source, &texts);
        for text in &texts {
            let one = filter(Key::Tag("plain".into()), text);
            let series = source.series(ALL, &one, Duration::from_secs(60)).expect("series").value;
            assert_eq!(series.iter().map(|point| point.figures.summaries).sum::<u64>(), 1, "{text}");
            source.flows(ALL, &one).expect("flows");
        }
    }
    assert_eq!(server.rows("SHOW DATABASES"), [serde_json::json!({"name": "llama"})]);
}

#[test]
fn what_line_protocol_cannot_carry_is_asked_for_as_it_is_shown() {
    let server = Influxd::start();
    let texts = ["line\nbreak", "tab\there", "nul\0", "back\\slash", "cr\r\n"].map(str::to_string);
    let shown = ["line break", "tab here", "nul ", "back/slash", "cr  "].map(str::to_string);
    write(&server, "llama", false, &summaries(&texts));
    for row_limit in [100_000, 0] {
        let source = source(&server, "llama", row_limit);
        each_is_found(&source, &shown);
        for text in &texts {
            assert!(figures(&source, &filter(Key::Group, text)).is_empty(), "{text:?}");
            assert!(figures(&source, &filter(Key::Tag(text.clone()), "named")).is_empty(), "{text:?}");
        }
    }
}

#[test]
fn any_text_is_found_by_itself() {
    const LETTERS: [char; 20] =
        ['\'', '"', '\\', ';', '-', '/', '*', '$', '=', '~', '(', ')', ',', ' ', '<', '&', 'a', 'ü', '🦙', '#'];
    let mut numbers = Numbers(7);
    let mut texts = std::collections::BTreeSet::new();
    while texts.len() < 60 {
        let letters = 1 + numbers.below(8);
        let text: String = (0..letters).map(|_| LETTERS[numbers.below(20) as usize]).collect();
        texts.insert(text.replace('\\', "/").trim().to_string());
        texts.remove("");
    }
    let texts: Vec<String> = texts.into_iter().collect();
    let server = Influxd::start();
    write(&server, "llama", false, &summaries(&texts));
    each_is_found(&source(&server, "llama", 100_000), &texts);
    // and with backslashes, which no stored text has, the question is still one
    let source = source(&server, "llama", 100_000);
    for text in &texts {
        let text = format!("{text}\\'\\\"\\n\n\\");
        assert!(figures(&source, &filter(Key::Group, &text)).is_empty(), "{text:?}");
        assert!(figures(&source, &filter(Key::Tag(text.clone()), &text)).is_empty(), "{text:?}");
    }
}
