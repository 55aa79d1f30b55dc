//! Scalars as upstream's reader takes them: numbers with `_`, `0x`, `0o`, `0b` and leading-zero octal.

/// The number a text means; `010` is eight. `None` for anything else, infinities and NaN included.
///
/// All numbers of a configuration are far below 2^53, so `f64` holds whole ones exactly.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(&text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None; // a second sign, `inf`, `nan`
    }
    let radix = |prefix: &str, radix| {
        let digits = digits.strip_prefix(prefix)?;
        // from_str_radix takes a sign, a number does not have two
        digits.starts_with(|c: char| c.is_ascii_alphanumeric()).then(|| u64::from_str_radix(digits, radix).ok())?
    };
    let whole = radix("0x", 16)
        .or_else(|| radix("0X", 16))
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0O", 8))
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0B", 2))
        .or_else(|| if is_octal(digits) { radix("0", 8) } else { None });
    let value = match whole {
        Some(whole) => whole as f64,
        None => digits.parse::<f64>().ok()?,
    };
    value.is_finite().then_some(sign * value)
}

/// Whether a number is read as octal because of a leading zero, which few people mean.
pub(super) fn is_octal(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_upstream_reads_them() {
        let cases = [
            ("8100", 8100.0),
            ("010", 8.0),
            ("0x1F90", 8080.0),
            ("0o17", 15.0),
            ("0b101", 5.0),
            ("1_000", 1000.0),
            ("-5", -5.0),
            ("+5", 5.0),
            ("4.0", 4.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("089", 89.0),
            ("0", 0.0),
            ("00", 0.0),
            ("0.5", 0.5),
        ];
        for (text, value) in cases {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "abc", "0x", "0x-1", "--5", "+-5", "inf", ".inf", "nan", "1e999", "12a", "-", "1:30"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert!(is_octal("010") && !is_octal("0") && !is_octal("089") && !is_octal("0.1"));
    }
}
