//! What a question is about, as its parameters say: a time, and which paths.
//!
//! Read [`Asked`] first.

use crate::http::answer::Refusal;
use crate::http::api::query::{Parameters, mistake};
use crate::matrix::{Answer, Extent, Filter, FlowAt, Key, Moment, PathFigures, Source, SourceError, Window};
use crate::time::{Clock, SystemClock, Wall};
use axum::http::{StatusCode, Uri};
use std::time::Duration;

/// Parameters that say a time.
pub(super) const TIME: [&str; 4] = ["at", "from", "to", "span"];
/// Parameters that say which paths.
const PATHS: [&str; 2] = ["where", "path"];
/// Conditions of one question at most.
const CONDITIONS: usize = 200;
/// The longest time asked for: some ten years, in seconds.
const LONGEST_S: u64 = 316_000_000;

/// A time as it was asked for; what is left out is known once the source has said what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Each path's newest interval at an instant; at present when there is none.
    One(Option<Wall>),
    /// From an instant to another, or to the newest interval.
    Span(Wall, Option<Wall>),
    /// So long, up to an instant or to the newest interval.
    Length(Duration, Option<Wall>),
}

impl Time {
    /// What the parameters say.
    pub(super) fn of(parameters: &Parameters) -> Result<Time, Refusal> {
        let (at, from, to) = (parameters.instant("at")?, parameters.instant("from")?, parameters.instant("to")?);
        let span = parameters.number("span", 1..=LONGEST_S)?.map(Duration::from_secs);
        let wrong = |error: &str, remedy: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, error, remedy));
        match (at, from, to, span) {
            (at, None, None, None) => Ok(Time::One(at)),
            (at, None, None, Some(span)) => Ok(Time::Length(span, at)),
            (None, Some(from), Some(to), None) if to <= from => {
                wrong("to is not after from", "give the earlier instant as from")
            }
            (None, Some(from), to, None) => Ok(Time::Span(from, to)),
            (None, None, Some(_), None) => wrong("to stands without from", "add from=, or ask with at="),
            _ => wrong("from and to do not go together with at and span", "ask from= to=, or at= span="),
        }
    }

    /// What is asked of a source that has `extent`. Of one that has nothing yet it is about now.
    pub(super) fn when(self, extent: &Extent) -> When {
        match self {
            Time::One(at) => When::Instant(extent.moment(at.or(extent.newest).unwrap_or_else(|| SystemClock.wall()))),
            _ => When::Span(self.window(extent)),
        }
    }

    /// The window in which all that was measured is asked for; at an instant one interval.
    pub(super) fn window(self, extent: &Extent) -> Window {
        let newest = extent.newest.unwrap_or_else(|| SystemClock.wall());
        let ending = |length: Duration, to: Option<Wall>| {
            let to = to.unwrap_or(newest);
            Window { from: to.before(length), to }
        };
        match self {
            Time::One(at) => extent.at(at.unwrap_or(newest)),
            Time::Length(span, to) => ending(span, to),
            // a span that begins after the newest interval holds nothing, and is no mistake
            Time::Span(from, to) => Window { from, to: to.unwrap_or(newest).max(from) },
        }
    }
}

/// A time as a source is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Each path's newest interval.
    Instant(Moment),
    /// All intervals.
    Span(Window),
}

impl When {
    /// The window in which whatever is asked for ended.
    pub(super) fn window(&self) -> Window {
        match self {
            When::Instant(moment) => moment.reach(moment.interval),
            When::Span(window) => *window,
        }
    }

    /// The same question so much earlier.
    pub(super) fn earlier(&self, by: Duration) -> When {
        match self {
            When::Instant(moment) => When::Instant(moment.earlier(by)),
            When::Span(window) => When::Span(window.earlier(by)),
        }
    }

    /// The figures of each path.
    pub(super) fn figures(
        &self,
        source: &dyn Source,
        filter: &Filter,
    ) -> Result<Answer<Vec<PathFigures>>, SourceError> {
        match self {
            When::Instant(moment) => source.instant(*moment, filter),
            When::Span(window) => source.figures(*window, filter),
        }
    }

    /// The flows kept.
    pub(super) fn flows(&self, source: &dyn Source, filter: &Filter) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        match self {
            When::Instant(moment) => source.instant_flows(*moment, filter),
            When::Span(window) => source.flows(*window, filter),
        }
    }
}

/// A time and which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) time: Time,
    pub(super) filter: Filter,
}

impl Asked {
    /// Takes the parameters apart; `own` are those the endpoint has besides.
    pub(super) fn of(uri: &Uri, own: &[&'static str]) -> Result<(Asked, Parameters), Refusal> {
        let known: Vec<&str> = own.iter().chain(&TIME).chain(&PATHS).copied().collect();
        let parameters = Parameters::repeating(uri, &known, Some("where"))?;
        let mut filter = Filter { path: parameters.path("path")?, terms: Vec::new() };
        for (position, condition) in parameters.all("where").enumerate() {
            if position >= CONDITIONS {
                return Err(mistake("where", condition, format!("give {CONDITIONS} conditions at most")));
            }
            let Some((key, value)) = condition.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(mistake("where", condition, "give KEY=VALUE, percent-encoded: where=rack%3Da1"));
            };
            filter.add(Key::parse(key), value.to_string());
        }
        Ok((Asked { time: Time::of(&parameters)?, filter }, parameters))
    }
}

/// One of the words a parameter may say; the first when it is left out.
pub(super) fn word<T: Copy, const N: usize>(
    parameters: &Parameters,
    name: &str,
    words: &[(&str, T); N],
) -> Result<T, Refusal> {
    const { assert!(N > 0) };
    let Some(text) = parameters.get(name) else { return Ok(words[0].1) };
    let known = || words.each_ref().map(|(word, _)| *word).join(", ");
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(mistake(name, text, format!("give one of {}", known()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn asked(query: &str) -> Result<Asked, Refusal> {
        Asked::of(&format!("/x?{query}").parse().expect("a URI"), &["limit"]).map(|(asked, _)| asked)
    }

    fn window(query: &str) -> Window {
        let extent = Extent {
            oldest: Some(Wall(10 * S)),
            newest: Some(Wall(1000 * S)),
            interval: Duration::from_secs(10),
            levels: Vec::new(),
        };
        asked(query).expect(query).time.window(&extent)
    }

    #[test]
    fn times_become_windows() {
        for (query, from, to) in [
            ("", 990, 1000),
            ("at=500", 490, 500),
            ("from=100", 100, 1000),
            ("from=100&to=200", 100, 200),
            ("from=1970-01-01T00:01:40Z&to=1970-01-01T00:03:20Z", 100, 200),
            ("from=2000", 2000, 2000),
            ("span=60", 940, 1000),
            ("span=60&at=500", 440, 500),
            ("span=9999", 0, 1000),
        ] {
            assert_eq!(window(query), Window { from: Wall(from * S), to: Wall(to * S) }, "{query}");
        }
    }

    #[test]
    fn an_instant_is_no_span() {
        let extent = Extent { newest: Some(Wall(1000 * S)), interval: Duration::from_secs(10), ..Extent::default() };
        let when = |query: &str| asked(query).expect(query).time.when(&extent);
        for (query, at) in [("", 1000), ("at=500", 500)] {
            assert_eq!(when(query), When::Instant(extent.moment(Wall(at * S))), "{query}");
        }
        assert_eq!(when("at=500").window(), Window { from: Wall(470 * S), to: Wall(500 * S) });
        assert_eq!(when("at=500").earlier(Duration::from_secs(400)), when("at=100"));
        for query in ["span=10", "span=10&at=500", "from=5", "from=5&to=9"] {
            assert_eq!(when(query), When::Span(window(query)), "{query}");
        }
    }

    #[test]
    fn times_that_contradict_are_refused() {
        for query in
            ["to=5", "from=5&to=5", "from=6&to=5", "at=1&from=1", "at=1&to=1", "from=1&span=5", "span=0", "at=x"]
        {
            let refusal = asked(query).expect_err(query);
            assert!(refusal.status == 400 && !refusal.remedy.is_empty(), "{query}: {refusal:?}");
        }
    }

    #[test]
    fn conditions_choose_paths() {
        let filter =
            asked("where=rack=a%3D1&where=rack=&where=group=%3Cb%3E%0A&path=0123456789abcdef").expect("good").filter;
        let mut expected = Filter { path: crate::http::recent::PathId::parse("0123456789abcdef"), terms: Vec::new() };
        expected.add(Key::Tag("rack".into()), "a=1".into());
        expected.add(Key::Tag("rack".into()), String::new());
        expected.add(Key::Group, "<b>\n".into());
        assert_eq!(filter, expected);
        for query in
            ["where=", "where=rack", "where==x", "path=1", "path=0123456789abcdef&path=0123456789abcdef", "who=1"]
        {
            assert_eq!(asked(query).expect_err(query).status, 400, "{query}");
        }
        let many = |n: usize| (0..n).map(|n| format!("where=a={n}")).collect::<Vec<_>>().join("&");
        assert!(asked(&many(CONDITIONS)).is_ok() && asked(&many(CONDITIONS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_question_is_taken_or_refused(query in "(from|to|at|span|where|path|[&=%0-9a-z.:+-]){0,12}") {
            if let Ok(asked) = asked(&query) {
                let _ = asked.time.window(&Extent::default());
            }
        }
    }
}
