//! What is wrong or doubtful in a configuration, where it stands, and what to do about it.
//!
//! Responsible for the texts' shape and for keeping their number bounded. Says nothing about when a
//! value is wrong. Read [`Problem`] first, then [`ConfigError`].

use std::fmt;
use std::path::{Path, PathBuf};

/// Problems of one kind kept per run; more are only counted.
pub const MAX_PROBLEMS: usize = 50;

/// A position in the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One mistake or doubt, shown as `path:line:col: key: what; remedy`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file; `None` for a plan that does not come from one.
    pub file: Option<PathBuf>,
    /// Where it stands; `None` when the whole file is meant.
    pub place: Option<Place>,
    /// The key it is about, dotted (`ports.wide.dscp`); may be empty.
    pub key: String,
    /// What is wrong: value and limit.
    pub what: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if self.file.is_some() || self.place.is_some() {
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Doubts about a configuration that can be run all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Warnings {
    /// The first [`MAX_PROBLEMS`] found, by position.
    pub list: Vec<Problem>,
    /// Further ones that were not kept.
    pub more: usize,
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            // "warning" stands behind the position, where editors that read compiler output look for it
            let separator = if problem.key.is_empty() { "" } else { ": " };
            let shown = Problem { key: format!("warning{separator}{}", problem.key), ..problem.clone() };
            write!(f, "{}{shown}", if i > 0 { "\n" } else { "" })?;
        }
        if self.more > 0 {
            write!(f, "\n{} more warnings", self.more)?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be run: every mistake found in one pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The first [`MAX_PROBLEMS`] mistakes found, by position; at least one.
    pub problems: Vec<Problem>,
    /// Further mistakes that were not kept.
    pub more: usize,
    /// Doubts found on the way; often the cause (a mistyped key).
    pub warnings: Warnings,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i > 0 { "\n" } else { "" })?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors", self.more)?;
        }
        if !self.warnings.list.is_empty() {
            write!(f, "\n{}", self.warnings)?;
        }
        Ok(())
    }
}

/// Collects problems while a configuration is read.
#[derive(Debug)]
pub(super) struct Problems {
    file: Option<PathBuf>,
    errors: Vec<Problem>,
    more_errors: usize,
    warnings: Warnings,
}

impl Problems {
    pub(super) fn new(file: Option<&Path>) -> Problems {
        let file = file.map(Path::to_path_buf);
        Problems { file, errors: Vec::new(), more_errors: 0, warnings: Warnings::default() }
    }

    fn problem(&self, place: Option<Place>, key: &str, what: String, remedy: String) -> Problem {
        Problem { file: self.file.clone(), place, key: key.to_string(), what, remedy }
    }

    /// Notes a mistake.
    pub(super) fn error(
        &mut self,
        place: impl Into<Option<Place>>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.errors.len() >= MAX_PROBLEMS {
            self.more_errors += 1;
            return;
        }
        let problem = self.problem(place.into(), key, what.into(), remedy.into());
        self.errors.push(problem);
    }

    /// Notes a doubt.
    pub(super) fn warning(
        &mut self,
        place: impl Into<Option<Place>>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.warnings.list.len() >= MAX_PROBLEMS {
            self.warnings.more += 1;
            return;
        }
        let problem = self.problem(place.into(), key, what.into(), remedy.into());
        self.warnings.list.push(problem);
    }

    /// Whether a mistake was noted.
    pub(super) fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// `value` and the warnings, or every mistake.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Warnings), ConfigError> {
        self.warnings.list.sort_by_key(|problem| problem.place);
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            _ => {
                if self.errors.is_empty() {
                    // no value without a mistake: keep the promise of at least one problem
                    self.error(None, "", "nothing to do", "");
                }
                self.errors.sort_by_key(|problem| problem.place);
                Err(ConfigError { problems: self.errors, more: self.more_errors, warnings: self.warnings })
            }
        }
    }
}

/// ` (did you mean `x`?)` when a name in `names` is close to `name`, else an empty text.
pub(super) fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let nearest = names.into_iter().map(|n| (distance(name, n, limit), n)).min_by_key(|&(d, _)| d);
    match nearest {
        Some((d, n)) if d <= limit => format!(" (did you mean `{n}`?)"),
        _ => String::new(),
    }
}

/// Edits (insert, delete, replace, swap neighbours) between two names without regard to case, or
/// anything above `limit` when there are more.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replace = above[j] + usize::from(a[i] != b[j]);
            row[j + 1] = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_a_compiler_error() {
        let mut problems = Problems::new(Some(Path::new("a.yaml")));
        let place = Place { line: 3, column: 7 };
        problems.warning(None, "api", "odd", "");
        problems.error(place, "ports.x.dscp", "64 asked, 0 to 63 possible", "lower it");
        let error = problems.finish(Some(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.yaml:3:7: ports.x.dscp: 64 asked, 0 to 63 possible; lower it\na.yaml: warning: api: odd"
        );
    }

    #[test]
    fn problems_are_bounded_and_counted() {
        let mut problems = Problems::new(None);
        for _ in 0..MAX_PROBLEMS + 7 {
            problems.error(None, "k", "w", "r");
            problems.warning(None, "k", "w", "r");
        }
        let error = problems.finish(Some(())).unwrap_err();
        assert_eq!((error.problems.len(), error.more, error.warnings.more), (MAX_PROBLEMS, 7, 7));
        assert!(error.to_string().contains("7 more errors"));
    }

    #[test]
    fn near_names_are_suggested() {
        let names = ["port_group", "targets", "rate_limit"];
        assert_eq!(did_you_mean("rate_limits", names), " (did you mean `rate_limit`?)");
        assert_eq!(did_you_mean("prot_group", names), " (did you mean `port_group`?)");
        assert_eq!(did_you_mean("Targets", names), " (did you mean `targets`?)");
        assert_eq!(did_you_mean("pacing", names), "");
        assert_eq!(did_you_mean("", names), "");
    }
}
