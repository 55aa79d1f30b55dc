//! Questions for a list, worst first. Read [`Worst`].

use super::question::{Asked, word};
use crate::http::answer::Refusal;
use axum::http::Uri;
use std::cmp::Ordering;

/// Items of an answer unless another limit is asked for, and at most.
const LIMITS: (u64, u64) = (100, 10_000);

/// How bad something is: larger is worse, by the first number, then by the second; NaN stands for not measured.
pub(super) type Badness<T> = fn(&T) -> (f64, f64);

/// A question for the worst of many.
pub(super) struct Worst<T> {
    pub(super) asked: Asked,
    order: Badness<T>,
    limit: usize,
}

impl<T> Worst<T> {
    /// What a request asks for, in one of these orders; the first when it names none.
    pub(super) fn of<const N: usize>(uri: &Uri, orders: &[(&str, Badness<T>); N]) -> Result<Worst<T>, Refusal> {
        let (asked, parameters) = Asked::of(uri, &["order", "limit"])?;
        let order = word(&parameters, "order", orders)?;
        let limit = parameters.number("limit", 1..=LIMITS.1)?.unwrap_or(LIMITS.0) as usize;
        Ok(Worst { asked, order, limit })
    }

    /// The worst of `items`, worst first. How bad one is, is found once: percentiles take time.
    pub(super) fn pick<I>(&self, items: Vec<I>, what: impl Fn(&I) -> &T) -> Vec<I> {
        let mut ordered: Vec<_> = items.into_iter().map(|item| ((self.order)(what(&item)), item)).collect();
        ordered.sort_by(|(a, _), (b, _)| worse_first(*a, *b));
        ordered.truncate(self.limit);
        ordered.into_iter().map(|(_, item)| item).collect()
    }
}

/// The worse one first; what was not measured last.
fn worse_first(a: (f64, f64), b: (f64, f64)) -> Ordering {
    let one = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(&a),
        (a, b) => a.cmp(&b),
    };
    one(a.0, b.0).then_with(|| one(a.1, b.1))
}
