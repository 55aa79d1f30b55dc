//! `/api/v1/matrix/extent`: what a source has, and what its paths can be grouped by.
//!
//! Read [`suggested`] for how the first matrix is chosen.

use super::Shown;
use super::question::{TIME, Time};
use crate::http::answer::{Refusal, json};
use crate::http::api::query::Parameters;
use crate::matrix::{Extent, Key, Window, grid};
use crate::sink::rfc3339;
use crate::summary::Path;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Paths of this time are looked at unless another is asked for.
const LOOK_BACK: Duration = Duration::from_secs(3600);
/// Values of a key that are listed at most.
const VALUES: usize = 1000;
/// With more values than this a key makes no picture.
const TOO_MANY: usize = 200;

/// A key and the values it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct KeyValues {
    #[serde(rename = "name")]
    key: String,
    /// An empty text stands for paths without one.
    values: Vec<String>,
    /// Of all, listed or not.
    count: usize,
    /// Values that tell groups apart; 0 where most paths have none.
    #[serde(skip)]
    telling: usize,
}

#[derive(Serialize)]
struct LevelRecord {
    resolution_s: f64,
    oldest: String,
}

#[derive(Serialize)]
struct SuggestedRecord {
    rows: String,
    columns: String,
}

#[derive(Serialize)]
struct ExtentRecord {
    source: String,
    role: &'static str,
    oldest: Option<String>,
    newest: Option<String>,
    interval_s: f64,
    paths: usize,
    levels: Vec<LevelRecord>,
    keys: Vec<KeyValues>,
    suggested: SuggestedRecord,
}

/// The hour up to `window`'s end, or all of a longer one.
pub(super) fn looked_at(window: Window) -> Window {
    Window { from: window.from.min(window.to.before(LOOK_BACK)), to: window.to }
}

pub(super) fn parse(uri: &Uri) -> Result<Option<Time>, Refusal> {
    let parameters = Parameters::of(uri, &TIME)?;
    let time = Time::of(&parameters)?;
    Ok((time != Time::One(None)).then_some(time))
}

/// `GET /api/v1/matrix/extent`.
pub(super) fn answer(time: Option<Time>, shown: &Shown) -> Result<Response, Refusal> {
    let extent = shown.source().extent()?;
    let window = match time {
        Some(time) => time.when(&extent).window(),
        None => looked_at(Time::One(None).when(&extent).window()),
    };
    let paths = shown.source().paths(window)?;
    let Extent { oldest, newest, interval, levels } = extent;
    let keys = keys(&paths);
    let (rows, columns) = suggested(&keys);
    Ok(json(&ExtentRecord {
        source: shown.source().name(),
        role: shown.0.role,
        oldest: oldest.map(rfc3339),
        newest: newest.map(rfc3339),
        interval_s: interval.as_secs_f64(),
        paths: paths.len(),
        levels: (levels.iter())
            .map(|level| LevelRecord { resolution_s: level.resolution.as_secs_f64(), oldest: rfc3339(level.oldest) })
            .collect(),
        keys,
        suggested: SuggestedRecord { rows: rows.name().into_owned(), columns: columns.name().into_owned() },
    }))
}

/// What paths can be grouped by: our own keys, then tags by name.
pub(super) fn keys(paths: &[Arc<Path>]) -> Vec<KeyValues> {
    let tags: BTreeSet<&String> = paths.iter().flat_map(|path| path.tags.keys()).collect();
    let of = |key: Key| {
        let mut values = grid::ordered(paths.iter().map(|path| key.of(path)));
        if values == [""] {
            values.clear(); // no path has one
        }
        let count = values.len();
        let having = paths.iter().filter(|path| !key.of(path).is_empty()).count();
        let telling =
            if 2 * having >= paths.len() { values.iter().filter(|value| !value.is_empty()).count() } else { 0 };
        values.truncate(VALUES);
        KeyValues { key: key.name().into_owned(), values, count, telling }
    };
    Key::OWN.into_iter().chain(tags.into_iter().map(|tag| Key::Tag(tag.clone()))).map(of).collect()
}

/// Rows and columns for people who have not chosen yet: the coarsest picture that tells groups apart.
///
/// Tags `src_X` and `dst_X` of the same X come first; then sources (or groups, where there is one source) × the tag with
/// the fewest values. A tag that most paths have not is not suggested: it would hide them in one cell.
pub(super) fn suggested(keys: &[KeyValues]) -> (Key, Key) {
    let count = |name: &str| keys.iter().find(|one| one.key == name).map_or(0, |one| one.telling);
    let key = |name: &str| Key::parse(name);
    let own = Key::OWN.len().min(keys.len());
    let tags = || keys[own..].iter().filter(|one| (2..=TOO_MANY).contains(&one.telling));
    let pairs = tags().filter_map(|one| {
        let other = format!("dst_{}", one.key.strip_prefix("src_")?);
        let others = count(&other);
        (2..=TOO_MANY).contains(&others).then_some((one.telling + others, one.key.as_str(), other))
    });
    if let Some((_, rows, columns)) = pairs.min() {
        return (key(rows), key(&columns));
    }
    let rows = if count("src_ip") > 1 { Key::SrcIp } else { Key::Group };
    let columns = match tags().min_by_key(|one| one.telling) {
        Some(tag) => key(&tag.key),
        None if rows != Key::Group && count("group") > 1 => Key::Group,
        None => Key::DstIp,
    };
    (rows, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::samples;
    use std::collections::BTreeMap;

    fn path(src: u8, group: &str, tags: &[(&str, String)]) -> Arc<Path> {
        let tags: BTreeMap<String, String> = tags.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let path = Path {
            src: [10, 0, 0, src].into(),
            group: group.into(),
            tags: Arc::new(tags),
            ..(*samples::full().path).clone()
        };
        Arc::new(path)
    }

    fn suggestion(paths: &[Arc<Path>]) -> (String, String) {
        let (rows, columns) = suggested(&keys(paths));
        (rows.name().into_owned(), columns.name().into_owned())
    }

    #[test]
    fn the_first_picture_is_the_coarsest_that_tells_groups_apart() {
        assert_eq!(suggestion(&[]), ("group".into(), "dst_ip".into()));
        let of = |n: u64, src: u64, racks: u64, rows: &str| {
            let one = |n: u64| {
                path((n % src) as u8, "a", &[(rows, format!("m{}", n % 3)), ("dst_rack", format!("r{}", n % racks))])
            };
            suggestion(&(0..n).map(one).collect::<Vec<_>>())
        };
        assert_eq!(of(12, 1, 4, "dst_metro"), ("group".into(), "dst_metro".into()), "fewest values first");
        assert_eq!(of(12, 2, 4, "dst_metro"), ("src_ip".into(), "dst_metro".into()));
        assert_eq!(of(12, 2, 4, "src_rack"), ("src_rack".into(), "dst_rack".into()));
        assert_eq!(of(12, 2, 1, "src_rack"), ("src_ip".into(), "src_rack".into()), "dst_rack tells nothing apart");
        let groups = [path(1, "a", &[]), path(2, "b", &[])];
        let few = [("src_rack", "a".to_string()), ("dst_rack", "b".to_string())];
        let mixed = [path(1, "a", &few), path(2, "b", &[]), path(2, "a", &[])];
        assert_eq!(suggestion(&mixed), ("src_ip".into(), "group".into()), "most have no rack");
        assert_eq!(suggestion(&groups), ("src_ip".into(), "group".into()));
    }

    #[test]
    fn keys_list_values_in_order_and_count_all() {
        let many: Vec<_> = (0..VALUES + 5).map(|n| path(1, "a", &[("rack", format!("r{n}"))])).collect();
        let keys = keys(&many);
        let find = |name: &str| keys.iter().find(|one| one.key == name).expect(name);
        assert_eq!((find("rack").count, find("rack").values.len()), (VALUES + 5, VALUES));
        assert_eq!(find("rack").values[9..11], ["r9", "r10"]);
        assert_eq!((find("size").count, find("group").values.as_slice()), (0, &["a".to_string()][..]));
    }
}
