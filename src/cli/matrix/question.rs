//! What is asked, and how it is written into a URL.
//!
//! Read [`Question`].

use std::fmt::Write;
use std::time::Duration;

/// What the user wants to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Key of the rows; the server suggests one where none is named.
    pub rows: Option<String>,
    /// Key of the columns.
    pub columns: Option<String>,
    /// Which paths: keys and values.
    pub filter: Vec<(String, String)>,
    /// The instant; the newest interval where none is named.
    pub at: Option<String>,
    /// Length of the window; one interval where none is named.
    pub span: Option<Duration>,
    /// How much earlier the matrix is that this one is compared with.
    pub before: Option<Duration>,
}

/// Path and query of the time: what is asked, or once an answer said which it is, that one. Without a span it is an
/// instant: the window of such an answer holds older intervals, too, of those paths that have newer ones.
fn time(question: &Question, window: Option<(&str, &str)>) -> Vec<(&'static str, String)> {
    match (window, question.span, &question.at) {
        (Some((from, to)), Some(_), _) => return vec![("from", from.into()), ("to", to.into())],
        (Some((_, to)), None, None) => return vec![("at", to.into())],
        _ => {}
    }
    let at = question.at.iter().map(|at| ("at", at.clone()));
    at.chain(question.span.iter().map(|span| ("span", seconds(*span)))).collect()
}

fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}

fn written(path: &str, parameters: &[(&str, String)]) -> String {
    let mut url = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        encode(value, &mut url);
    }
    url
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // into a String: always fits
        }
    }
}

impl Question {
    fn paths(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.filter.iter().map(|(key, value)| ("where", format!("{key}={value}")))
    }

    /// Where the matrix is.
    pub fn matrix(&self) -> String {
        let key = |name, key: &Option<String>| key.clone().map(|key| (name, key));
        let mut parameters: Vec<_> = key("rows", &self.rows).into_iter().chain(key("columns", &self.columns)).collect();
        parameters.extend(self.before.map(|before| ("before", seconds(before))));
        parameters.extend(time(self, None));
        parameters.extend(self.paths());
        written("/api/v1/matrix", &parameters)
    }

    /// Where the worst are: `what` is `paths` or `flows`.
    pub fn worst(&self, what: &str, order: &str, limit: usize, window: Option<(&str, &str)>) -> String {
        let mut parameters = vec![("order", order.to_owned()), ("limit", limit.to_string())];
        parameters.extend(time(self, window));
        parameters.extend(self.paths());
        written(&format!("/api/v1/matrix/{what}"), &parameters)
    }

    /// Where the probers are.
    pub fn probers(&self, window: Option<(&str, &str)>) -> String {
        written("/api/v1/matrix/probers", &time(self, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_encoded() {
        assert_eq!(Question::default().matrix(), "/api/v1/matrix");
        let question = Question {
            rows: Some("src_rack".into()),
            columns: Some("a&b".into()),
            filter: vec![("dscp".into(), "46".into()), ("rack".into(), "ä =\n".into())],
            at: Some("2024-02-29T12:30:00Z".into()),
            span: Some(Duration::from_secs(90)),
            before: Some(Duration::from_secs(86_400)),
        };
        assert_eq!(
            question.matrix(),
            "/api/v1/matrix?rows=src_rack&columns=a%26b&before=86400&at=2024-02-29T12%3A30%3A00Z&span=90\
             &where=dscp%3D46&where=rack%3D%C3%A4%20%3D%0A"
        );
        let window = Some(("A", "B"));
        assert_eq!(question.probers(window), "/api/v1/matrix/probers?from=A&to=B");
        let question = Question { filter: vec![], ..question };
        let flows = |question: &Question| question.worst("flows", "loss", 5, window);
        assert_eq!(flows(&question), "/api/v1/matrix/flows?order=loss&limit=5&from=A&to=B");
        let instant = Question { span: None, ..question };
        assert_eq!(flows(&instant), "/api/v1/matrix/flows?order=loss&limit=5&at=2024-02-29T12%3A30%3A00Z");
        assert_eq!(flows(&Question::default()), "/api/v1/matrix/flows?order=loss&limit=5&at=B");
    }
}
