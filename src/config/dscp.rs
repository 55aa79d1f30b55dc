//! Names of differentiated services code points, as people write them.
//!
//! Read [`parse`] first. Values: RFC 2474 (CS), RFC 2597 (AF), RFC 3246 (EF), RFC 5865
//! (VOICE-ADMIT), RFC 8622 (LE).

use crate::probe::shape::Dscp;

const NAMES: &[(&str, u8)] = &[
    ("DF", 0),
    ("LE", 1),
    ("CS1", 8),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("CS2", 16),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("CS3", 24),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("CS4", 32),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS5", 40),
    ("VOICE-ADMIT", 44),
    ("EF", 46),
    ("CS6", 48),
    ("CS7", 56),
    // further names of values above
    ("BE", 0),
    ("CS0", 0),
    ("VA", 44),
];

/// The code point of a name in any case (`EF`, `af21`, `CS5`) or of a number from 0 to 63.
///
/// # Errors
/// The text says what was asked and what is possible.
pub fn parse(text: &str) -> Result<Dscp, String> {
    if let Some(&(_, value)) = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(Dscp(value));
    }
    match super::scalar::number(text) {
        Some(n) if n.fract() == 0.0 && (0.0..=63.0).contains(&n) => Ok(Dscp(n as u8)),
        Some(_) => Err(format!("{text} asked, 0 to 63 possible")),
        None => {
            let near = super::problem::did_you_mean(text, NAMES.iter().map(|&(name, _)| name));
            Err(format!(
                "{} is no code point{near}, 0 to 63 or a name like EF, AF21, CS5 possible",
                super::yaml::quote(text)
            ))
        }
    }
}

/// The name of a code point, `None` when it has none.
pub fn name(dscp: Dscp) -> Option<&'static str> {
    NAMES.iter().find(|&&(_, value)| value == dscp.0).map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, value) in [("EF", 46), ("af21", 18), ("CS5", 40), ("be", 0), ("46", 46), ("0x2e", 46), ("63", 63)] {
            assert_eq!(parse(text), Ok(Dscp(value)), "{text}");
        }
        for text in ["64", "-1", "1.5", "AF44", "", "EF "] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("AF14").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn every_name_is_its_class() {
        // AFxy is 8x + 2y (RFC 2597 §6), CSx is 8x (RFC 2474 §4.2.2.2)
        for &(name, value) in NAMES {
            let digits: Vec<u8> = name.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
            match digits[..] {
                [x, y] => assert_eq!(value, 8 * x + 2 * y, "{name}"),
                [x] => assert_eq!(value, 8 * x, "{name}"),
                _ => {}
            }
        }
        assert_eq!(name(Dscp(46)), Some("EF"));
        assert_eq!(name(Dscp(0)), Some("DF"));
        assert_eq!(name(Dscp(47)), None);
    }
}
