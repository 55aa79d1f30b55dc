//! One point that no database was asked for: the path and figures that it would be shown with if it came out of one.
//!
//! Read [`read_point`].

use super::answer::Cell;
use super::columns::{Places, Row};
use super::series_path::{NO_ADDRESS, path_of};
use crate::matrix::Figures;
use crate::sink::influx::line::MEASUREMENT;
use crate::summary::Path;
use std::collections::BTreeMap;

/// The path and figures of a point, of the first LLAMA as a rule, from its tags and fields; `None` when it is no
/// summary: of another measurement, without the number of probes sent, or without the addresses of a path.
pub fn read_point(
    measurement: &str,
    tags: &BTreeMap<String, String>,
    fields: &BTreeMap<String, f64>,
) -> Option<(Path, Figures)> {
    if measurement != MEASUREMENT || !fields.contains_key("sent") {
        return None;
    }
    let path = path_of(tags).filter(|path| path.src != NO_ADDRESS && path.dst != NO_ADDRESS)?;
    let columns: Vec<String> = fields.keys().cloned().collect();
    let mut row = Row::default();
    row.take(&Places::of(&columns), fields.values().map(|value| Cell::Float(*value)).collect());
    Some((path, row.figures()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::shape::{Dscp, MethodKind};
    use crate::summary::Extremes;

    fn read(measurement: &str, tags: &[(&str, &str)], fields: &[(&str, f64)]) -> Option<(Path, Figures)> {
        let tags = tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        read_point(measurement, &tags, &fields.iter().map(|(name, value)| (name.to_string(), *value)).collect())
    }

    const TAGS: [(&str, &str); 3] = [("src_ip", "10.0.0.1"), ("dst_ip", "10.0.0.2"), ("dst_metro", "fra")];

    #[test]
    fn the_first_llamas_point_is_a_path_and_its_figures() {
        let fields = [("loss", 25.0), ("lost", 120.0), ("rtt", 1.25), ("sent", 480.0)];
        let (path, figures) = read("raw_stats", &TAGS, &fields).expect("a path");
        assert_eq!((path.src.to_string(), path.dst.to_string()), ("10.0.0.1".into(), "10.0.0.2".into()));
        assert_eq!((path.method, path.dscp, path.size, &*path.group), (MethodKind::Llama, Dscp(0), None, ""));
        assert_eq!(*path.tags, BTreeMap::from([("dst_metro".into(), "fra".into())]));
        let counts = figures.counts;
        assert_eq!((counts.sent, counts.lost, counts.replied, figures.summaries), (480, 120, 360, 1));
        let mean = Extremes { samples: 360, mean: 1.25e6, min: 1_250_000, max: 1_250_000 };
        assert_eq!((figures.rtt, figures.percentiles(), figures.flows), (Some(mean), None, 0));
    }

    #[test]
    fn what_names_no_path_is_none() {
        let fields = [("sent", 480.0), ("lost", 0.0)];
        assert!(read("raw_stats", &TAGS, &fields).is_some_and(|(_, figures)| figures.rtt.is_none()));
        for (measurement, tags, fields) in [
            ("rtt", &TAGS[..], &fields[..]),
            ("raw_stats", &TAGS[..1], &fields),
            ("raw_stats", &TAGS[1..], &fields),
            ("raw_stats", &[("src_ip", "host"), ("dst_ip", "10.0.0.2")], &fields),
            ("raw_stats", &TAGS, &fields[1..]),
        ] {
            assert_eq!(read(measurement, tags, fields), None, "{measurement} {tags:?} {fields:?}");
        }
    }
}
