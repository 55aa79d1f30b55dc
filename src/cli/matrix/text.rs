//! Text of others made fit for a terminal: nothing that steers it, and widths as it counts them.
//!
//! Read [`clean`] and [`fit`].

use crate::cli::classes::class_name;
use crate::cli::layout;
use crate::probe::shape::Dscp;
use comfy_table::Table;

/// Characters of a name at most; longer ones say nothing more to anyone.
pub const NAME: usize = 200;
/// What stands for a character that is not shown.
const INSTEAD: char = '\u{fffd}';

/// Whether a character could steer a terminal or hide what others say: control characters (C0, C1, DEL), line and
/// paragraph separators, changes of direction, and what has no width of its own.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with `�` for what could steer a terminal, and at most [`NAME`] characters of it.
pub fn clean(text: &str) -> String {
    let mut shown: String = text.chars().take(NAME).map(|c| if steers(c) { INSTEAD } else { c }).collect();
    if text.chars().nth(NAME).is_some() {
        shown.push('…');
    }
    shown
}

/// A class as `llama ping` says it; a number that is none as it is.
pub fn class(dscp: u64) -> String {
    match u8::try_from(dscp) {
        Ok(dscp @ 0..=63) => class_name(Dscp(dscp)),
        _ => dscp.to_string(),
    }
}

/// The value of a key as it is shown; `without` where there is none.
pub fn named(key: &str, value: &str, without: &str) -> String {
    match (key, value.parse()) {
        _ if value.is_empty() => without.to_owned(),
        ("dscp", Ok(dscp)) => class(dscp),
        ("size", Ok(size)) => format!("{size} B"),
        _ => clean(value),
    }
}

/// A clean text in lines of at most `width` columns.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    layout::wrap(text, width).iter().map(|line| cut(line, width)).collect()
}

/// Columns of a terminal that clean `text` takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let mut table = Table::new();
    table.add_row([text]);
    table.column_max_content_widths().first().map_or(0, |width| usize::from(*width))
}

/// The first characters of `text` that take at most `most` columns.
fn head(text: &str, most: usize) -> &str {
    // the width of a text is not the sum of its characters': whole texts are measured
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let fitting = std::iter::once(0).chain(ends).take_while(|end| width(&text[..*end]) <= most);
    &text[..fitting.last().unwrap_or(0)]
}

/// The last characters of `text` that take at most `most` columns.
fn tail(text: &str, most: usize) -> &str {
    text.char_indices().map(|(at, _)| &text[at..]).find(|rest| width(rest) <= most).unwrap_or("")
}

/// `text` in at most `most` columns: when it is wider, its middle is left out. Names of hosts and racks differ at their
/// ends.
pub fn fit(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(1);
    let begin = head(text, room.div_ceil(2));
    let end = tail(text, room - width(begin));
    if most == 0 { String::new() } else { format!("{begin}…{end}") }
}

/// `line` in at most `most` columns: when it is wider, its end is left out.
pub fn cut(line: &str, most: usize) -> String {
    match most {
        _ if width(line) <= most => line.to_owned(),
        0 => String::new(),
        _ => format!("{}…", head(line, most - 1)),
    }
}

/// `text` with blanks before it up to `columns`.
pub fn right(text: &str, columns: usize) -> String {
    " ".repeat(columns.saturating_sub(width(text))) + text
}

/// `text` with blanks after it up to `columns`.
pub fn left(text: &str, columns: usize) -> String {
    text.to_owned() + &" ".repeat(columns.saturating_sub(width(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let nasty = "a\x1b[2Jb\u{9b}31mc\r\n\t\x07\u{202e}d\u{200b}\x7f";
        assert_eq!(clean(nasty), "a�[2Jb�31mc�����d��");
        assert_eq!(clean("plain <b>'\" é 東京"), "plain <b>'\" é 東京");
        assert_eq!(clean(&"x".repeat(NAME + 1)).chars().count(), NAME + 1);
    }

    #[test]
    fn widths_are_the_terminals() {
        assert_eq!(
            [("", 0), ("abc", 3), ("東京", 4), ("e\u{301}", 1), ("×", 1)].map(|(text, _)| width(text)),
            [0, 3, 4, 1, 1]
        );
        assert_eq!(fit("frankfurt-rack-17", 9), "fran…k-17");
        assert_eq!(fit("東京東京", 5), "東…京");
        assert_eq!(fit("abc", 1), "…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(cut("one two", 5), "one …");
        assert_eq!((right("東", 4), left("東", 4)), ("  東".into(), "東  ".into()));
    }

    proptest! {
        #[test]
        fn any_text_fits(text in "\\PC{0,40}", most in 0usize..30) {
            let shown = clean(&text);
            prop_assert!(!shown.chars().any(steers));
            prop_assert!(width(&fit(&shown, most)) <= most, "{:?}", fit(&shown, most));
            prop_assert!(width(&cut(&shown, most)) <= most);
        }
    }
}
