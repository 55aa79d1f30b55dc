//! The only way a text gets into a question: quoted as InfluxQL's scanner reads it.
//!
//! Both functions give `None` for a text that InfluxQL cannot write: it has no escape for control characters but the
//! newline. No point holds such a text either, since line protocol cannot carry it.

/// A name of a tag or field, in double quotes.
pub(super) fn identifier(name: &str) -> Option<String> {
    quoted(name, '"')
}

/// A value, in single quotes.
pub(super) fn literal(text: &str) -> Option<String> {
    quoted(text, '\'')
}

fn quoted(text: &str, quote: char) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => return None,
            c => out.push(c),
        }
    }
    out.push(quote);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As InfluxQL's scanner reads a quoted text (`ScanDelimited` of influxql): the text and what follows it.
    fn scanned(text: &str) -> Option<(String, &str)> {
        let quote = text.chars().next()?;
        let mut out = String::new();
        let mut rest = text[1..].char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                c if c == quote => return Some((out, &text[1 + at + c.len_utf8()..])),
                '\0' | '\n' | '\r' => return None,
                '\\' => match rest.next()?.1 {
                    'n' => out.push('\n'),
                    c @ ('\\' | '"' | '\'') => out.push(c),
                    _ => return None,
                },
                c => out.push(c),
            }
        }
        None
    }

    #[test]
    fn what_ends_a_text_elsewhere_does_not_end_it_here() {
        assert_eq!(
            literal("'; DROP SERIES FROM raw_stats; --").as_deref(),
            Some("'\\'; DROP SERIES FROM raw_stats; --'")
        );
        assert_eq!(identifier("a\"b\\").as_deref(), Some("\"a\\\"b\\\\\""));
        assert_eq!(literal("a\nb").as_deref(), Some("'a\\nb'"));
        assert_eq!((literal("a\0b"), identifier("a\rb"), literal("\u{9b}")), (None, None, None));
    }

    proptest! {
        #[test]
        fn the_scanner_reads_what_was_meant(text in "(\\PC|[\\\\'\"\n;\\-/*$]){0,20}", after in "[ '\";]{0,4}") {
            for quoted in [identifier(&text), literal(&text)].into_iter().flatten() {
                let all = format!("{quoted}{after}");
                prop_assert_eq!(scanned(&all), Some((text.clone(), after.as_str())));
            }
        }
    }
}
