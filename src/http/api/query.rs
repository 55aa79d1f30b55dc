//! The parameters of a request: each named, each checked, every mistake answered with its remedy.

use crate::http::answer::Refusal;
use crate::http::recent::PathId;
use crate::sink::parse_rfc3339;
use crate::time::Wall;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use std::ops::RangeInclusive;

/// Nanoseconds of a second.
const NS_PER_S: f64 = 1e9;

/// The parameters of one request.
#[derive(Debug)]
pub(in crate::http) struct Parameters(Vec<(String, String)>);

/// The refusal of a parameter's value.
pub(in crate::http) fn mistake(name: &str, value: &str, remedy: impl Into<String>) -> Refusal {
    // what a client sent is shown, but not at any length
    let value: String = value.chars().take(80).collect();
    Refusal::new(StatusCode::BAD_REQUEST, format!("{name}: `{value}` cannot be"), remedy)
}

impl Parameters {
    /// The parameters, when each is one of `known` and stands once.
    pub(in crate::http) fn of(uri: &Uri, known: &[&str]) -> Result<Parameters, Refusal> {
        Parameters::repeating(uri, known, None)
    }

    /// The same, where `repeated` may stand more than once.
    pub(in crate::http) fn repeating(uri: &Uri, known: &[&str], repeated: Option<&str>) -> Result<Parameters, Refusal> {
        let pairs = match Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(Query(pairs)) => pairs,
            Err(_) => {
                let query = uri.query().unwrap_or_default();
                return Err(mistake("query", query, "write it as name=value&name=value, percent-encoded UTF-8"));
            }
        };
        for (position, (name, value)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let remedy = match known {
                    [] => "this endpoint has no parameters; leave it out".to_string(),
                    known => format!("use {}", known.join(", ")),
                };
                return Err(mistake(name, value, remedy));
            }
            let once = repeated != Some(name.as_str());
            if once && pairs[..position].iter().any(|(other, _)| other == name) {
                return Err(mistake(name, value, "give it once"));
            }
        }
        Ok(Parameters(pairs))
    }

    /// The text of a parameter.
    pub(in crate::http) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All texts of a parameter that may stand more than once.
    pub(in crate::http) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A whole number in a range.
    pub(in crate::http) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(Some(number)),
            _ => Err(mistake(name, text, format!("give a whole number, {} to {}", range.start(), range.end()))),
        }
    }

    /// An instant: RFC 3339, or seconds since 1970.
    pub(in crate::http) fn instant(&self, name: &str) -> Result<Option<Wall>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = || {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let seconds: f64 = text.parse().ok()?;
            (plain && seconds < u64::MAX as f64 / NS_PER_S).then_some(Wall((seconds * NS_PER_S) as u64))
        };
        parse_rfc3339(text)
            .or_else(seconds)
            .map(Some)
            .ok_or_else(|| mistake(name, text, "give RFC 3339 (2024-02-29T12:30:00Z, + as %2B) or seconds since 1970"))
    }

    /// A path's id.
    pub(in crate::http) fn path(&self, name: &str) -> Result<Option<PathId>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let remedy = "give 16 hexadecimal digits from the id of /api/v1/paths";
        PathId::parse(text).map(Some).ok_or_else(|| mistake(name, text, remedy))
    }

    /// Yes or no; no when it is left out.
    pub(in crate::http) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true" | "") => Ok(true),
            Some(text) => Err(mistake(name, text, "give 1 or 0")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(query: &str) -> Result<Parameters, Refusal> {
        Parameters::of(&format!("/x?{query}").parse().expect("a URI"), &["n", "at", "path", "flag"])
    }

    #[test]
    fn values() {
        let good = of("n=12&at=2024-02-29T12:30:00%2B01:00&path=0123456789abcdef&flag=1").expect("good");
        assert_eq!(good.number("n", 1..=12), Ok(Some(12)));
        assert_eq!(good.instant("at"), Ok(Some(Wall(1_709_206_200_000_000_000))));
        assert_eq!(
            good.path("path").map(|path| path.map(|path| path.to_string())),
            Ok(Some("0123456789abcdef".into()))
        );
        assert_eq!(good.flag("flag"), Ok(true));
        assert_eq!(of("at=1.5").and_then(|p| p.instant("at")), Ok(Some(Wall(1_500_000_000))));
        let empty = of("").expect("good");
        assert_eq!(
            (empty.number("n", 0..=1), empty.instant("at"), empty.flag("flag")),
            (Ok(None), Ok(None), Ok(false))
        );
    }

    #[test]
    fn mistakes_name_value_and_remedy() {
        for (query, said) in [("m=1", "m: `1` cannot be"), ("n=1&n=2", "n: `2` cannot be"), ("x", "x: `` cannot be")] {
            let refusal = of(query).expect_err(query);
            assert_eq!((refusal.status, refusal.error.as_str()), (400, said));
        }
        for number in ["", "-1", "+1", "13", "1e1", "18446744073709551616"] {
            let refusal = of(&format!("n={}", number.replace('+', "%2B"))).and_then(|p| p.number("n", 0..=12));
            let refusal = refusal.expect_err(number);
            assert_eq!(refusal.error, format!("n: `{number}` cannot be"));
            assert_eq!(refusal.remedy, "give a whole number, 0 to 12");
        }
        for instant in ["", "now", "-1", "1e3", "inf", "99999999999", "2024-02-29"] {
            assert!(of(&format!("at={instant}")).and_then(|p| p.instant("at")).is_err(), "{instant}");
        }
        assert!(of("path=x").and_then(|p| p.path("path")).is_err());
        assert!(of("flag=maybe").and_then(|p| p.flag("flag")).is_err());
        assert!(
            of(&format!("n={}", "9".repeat(5000))).and_then(|p| p.number("n", 0..=1)).expect_err("long").error.len()
                < 200
        );
    }

    proptest! {
        #[test]
        fn any_query_is_taken_or_refused(query in "[a-z&=%0-9.:+-]{0,40}") {
            if let Ok(parameters) = of(&query) {
                let _ = parameters.number("n", 0..=100);
                let _ = parameters.instant("at");
                let _ = parameters.path("path");
                let _ = parameters.flag("flag");
            }
        }
    }
}
