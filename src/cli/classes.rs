//! Classes and sizes side by side, and what became of each class on its way: lines of `llama ping`'s report.
//!
//! Not responsible for the loss of a single one: see [`super::verdict`]. Read [`table`] and [`class_lines`].

use super::layout::{self, BAD, DOUBT, GOOD, Side, paint};
use super::units::{count, percent, several, time};
use crate::config::dscp;
use crate::probe::shape::{Dscp, MethodKind};
use crate::summary::{Counts, Seen, Summary};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A class in a sentence: `EF (46)`, `0`, `3`.
pub fn class_name(class: Dscp) -> String {
    match dscp::name(class).filter(|_| class != Dscp::default()) {
        Some(name) => format!("{name} ({})", class.0),
        None => class.0.to_string(),
    }
}

/// What tells one of several from the others: `EF (46), 1400 bytes`.
pub fn variant_name(summary: &Summary, all: &[Summary]) -> String {
    let mut parts = Vec::new();
    if all.iter().any(|other| other.path.dscp != summary.path.dscp) {
        parts.push(class_name(summary.path.dscp));
    }
    parts.extend(summary.path.size.map(|size| format!("{size} bytes")));
    parts.join(", ")
}

/// A row per class and size; nothing when there is but one.
pub fn table(all: &[Summary]) -> Vec<String> {
    if all.len() < 2 {
        return Vec::new();
    }
    let differ = |of: fn(&Summary) -> u16| all.iter().any(|summary| of(summary) != of(&all[0]));
    let head = match (differ(|summary| summary.path.dscp.0.into()), differ(|summary| summary.path.size.unwrap_or(0))) {
        (true, false) => "class",
        (false, true) => "size",
        _ => "class, size",
    };
    let heads: [(&str, Side); 8] = [
        (head, Side::Left),
        ("sent", Side::Right),
        ("lost", Side::Right),
        ("loss", Side::Right),
        ("too big", Side::Right),
        ("rtt p50", Side::Right),
        ("p99", Side::Right),
        ("max", Side::Right),
    ];
    let row = |summary: &Summary| {
        let c = &summary.counts;
        let mut row = vec![variant_name(summary, all), count(c.left()), count(c.unanswered())];
        row.push(percent(c.loss_percent()));
        row.push(if c.too_big > 0 { count(c.too_big) } else { String::new() });
        row.extend(match &summary.rtt {
            Some(rtt) => [rtt.p50, rtt.p99, rtt.max].map(|ns| time(ns as f64)),
            None => ["–"; 3].map(str::to_owned),
        });
        row
    };
    let mut lines = layout::columns(0, &heads, &all.iter().map(row).collect::<Vec<_>>());
    for (line, summary) in lines.iter_mut().skip(1).zip(all) {
        if summary.counts.unanswered() > 0 {
            *line = paint(BAD, line);
        }
    }
    lines.push(String::new());
    lines
}

/// What became of every class, and what of it is known; a line or more each.
pub fn class_lines(all: &[Summary]) -> Vec<String> {
    let mut classes: BTreeMap<Dscp, (Counts, Seen, Option<IpAddr>)> = BTreeMap::new();
    for summary in all {
        let (counts, seen, reporter) = classes.entry(summary.path.dscp).or_default();
        *counts += &summary.counts;
        *seen = seen.followed_by(summary.seen);
        *reporter = summary.reporter.or(*reporter);
    }
    let path = all.first().map(|summary| (summary.path.method, summary.path.dst));
    let (method, target) = path.map_or((MethodKind::Udp, None), |(method, target)| (method, Some(target)));
    let of_class = |(class, (counts, seen, reporter)): (&Dscp, &(Counts, Seen, Option<IpAddr>))| {
        let far_end = FarEnd { method, target, reporter: *reporter };
        of_class(*class, &far_end, counts, seen)
    };
    classes.iter().flat_map(of_class).collect()
}

/// Who can say what class reached it.
struct FarEnd {
    method: MethodKind,
    target: Option<IpAddr>,
    /// Who sent the last ICMP error.
    reporter: Option<IpAddr>,
}

impl FarEnd {
    /// Where a change on the way there was seen: at `changed` of the probes that were answered so.
    fn witness(&self, changed: u64, errors: u64) -> String {
        match self.reporter {
            _ if self.method.is_udp() => "the reflector".to_owned(),
            // of several nodes only the last one is known
            Some(by) if changed == errors && Some(by) == self.target => "the target".to_owned(),
            Some(by) if changed == errors => format!("router {by}"),
            _ => "a router or the target".to_owned(),
        }
    }
}

fn of_class(class: Dscp, far_end: &FarEnd, c: &Counts, seen: &Seen) -> Vec<String> {
    let name = class_name(class);
    let method = far_end.method;
    let share = |n: u64| format!("{} of {}", count(n), several(c.replied, "probe"));
    // TCP stacks and echoes say nothing of the way there, but ICMP errors do
    let errors = c.refused + c.prohibited + c.time_exceeded + c.too_big + c.unreachable;
    let told = |n: u64| match method.is_udp() {
        true => share(n),
        false => format!("{} of {}", count(n), several(errors, "ICMP error")),
    };
    let as_seen = |seen: Option<Dscp>| seen.map_or("another class".to_owned(), class_name);
    let mut lines = Vec::new();
    if c.dscp_changed_forward > 0 {
        let seen = as_seen(seen.dscp_forward);
        lines.push(paint(
            BAD,
            &format!(
                "{name} arrived as {seen} at {} ({})",
                far_end.witness(c.dscp_changed_forward, errors),
                told(c.dscp_changed_forward)
            ),
        ));
    }
    if c.dscp_changed_reverse > 0 {
        let seen = as_seen(seen.dscp_reverse);
        lines.push(paint(
            BAD,
            &format!("{name} of the replies arrived here as {seen} ({})", share(c.dscp_changed_reverse)),
        ));
    }
    if c.dscp_changed_either > 0 {
        let seen = as_seen(seen.dscp_either);
        let where_ = "on the way there, on the way back, or by the far end: it does not say what reached it";
        lines.push(paint(
            DOUBT,
            &format!("{name} came back as {seen} ({}), changed {where_}", share(c.dscp_changed_either)),
        ));
    }
    let changed = !lines.is_empty();
    let (there, back) = (told(c.ecn_marked_forward), share(c.ecn_marked_reverse));
    for (marked, way, of) in [(c.ecn_marked_forward, "there", there), (c.ecn_marked_reverse, "back", back)] {
        if marked > 0 {
            let about = if way == "there" && !method.is_udp() { "tell of" } else { "met" };
            lines.push(paint(DOUBT, &format!("{name}: {of} {about} congestion on the way {way} (ECN)")));
        }
    }
    if changed || c.replied == 0 {
        return lines;
    }
    if c.class_reports == c.replied {
        lines.push(paint(GOOD, &format!("{name} arrived as sent, there and back")));
    } else if class != Dscp::default() && method == MethodKind::TcpSyn {
        lines.push(format!("{name}: not known, TCP answers in a class of its own choice; --icmp or a reflector tells"));
    } else if class != Dscp::default() {
        lines.push(format!("{name} came back as sent; the far end does not say what reached it"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ping::tests::summary;
    use crate::summary::Path;
    use std::sync::Arc;

    fn of(class: u8, size: Option<u16>, counts: Counts, seen: Seen) -> Summary {
        let mut summary = summary();
        let path = Path { dscp: Dscp(class), size, ..(*summary.path).clone() };
        (summary.path, summary.counts, summary.seen) = (Arc::new(path), counts, seen);
        summary
    }

    fn said(all: &[Summary]) -> Vec<String> {
        class_lines(all).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn all() -> Counts {
        Counts { sent: 100, replied: 100, class_reports: 100, ..Counts::default() }
    }

    #[test]
    fn a_change_names_class_way_and_what_arrived() {
        let forward = Counts { dscp_changed_forward: 100, ..all() };
        let seen = Seen { dscp_forward: Some(Dscp(0)), ..Seen::default() };
        assert_eq!(said(&[of(46, None, forward, seen)]), ["EF (46) arrived as 0 at the reflector (100 of 100 probes)"]);
        let reverse = Counts { dscp_changed_reverse: 40, ..all() };
        let seen = Seen { dscp_reverse: Some(Dscp(8)), ..Seen::default() };
        let sound = of(0, None, all(), Seen::default());
        assert_eq!(
            said(&[sound, of(18, None, reverse, seen)]),
            [
                "0 arrived as sent, there and back",
                "AF21 (18) of the replies arrived here as CS1 (8) (40 of 100 probes)"
            ]
        );
    }

    #[test]
    fn a_change_that_an_icmp_error_tells_names_who_said_so() {
        let counts = Counts { sent: 100, lost: 40, prohibited: 50, too_big: 10, ..Counts::default() };
        let of = |changed, reporter: Option<IpAddr>| {
            let seen = Seen { dscp_forward: Some(Dscp(0)), ..Seen::default() };
            let mut summary = of(46, None, Counts { dscp_changed_forward: changed, ..counts }, seen);
            let path = Path { method: MethodKind::TcpSyn, ..(*summary.path).clone() };
            (summary.path, summary.reporter) = (Arc::new(path), reporter);
            said(&[summary])
        };
        let router = Some([10, 0, 0, 1].into());
        assert_eq!(of(60, router), ["EF (46) arrived as 0 at router 10.0.0.1 (60 of 60 ICMP errors)"]);
        assert_eq!(of(59, router), ["EF (46) arrived as 0 at a router or the target (59 of 60 ICMP errors)"]);
        let target = summary().path.dst;
        assert_eq!(of(60, Some(target)), ["EF (46) arrived as 0 at the target (60 of 60 ICMP errors)"]);
        assert!(of(0, router).is_empty());
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let unreported = Counts { class_reports: 0, ..all() };
        assert_eq!(said(&[of(0, None, unreported, Seen::default())]), [""; 0]);
        assert_eq!(
            said(&[of(46, None, unreported, Seen::default())]),
            ["EF (46) came back as sent; the far end does not say what reached it"]
        );
        let either = Counts { dscp_changed_either: 100, ..unreported };
        let seen = Seen { dscp_either: Some(Dscp(0)), ..Seen::default() };
        let line = said(&[of(46, None, either, seen)]).remove(0);
        assert!(line.contains("came back as 0") && line.contains("or by the far end"), "{line}");
        assert!(said(&[of(46, None, Counts { sent: 5, lost: 5, ..Counts::default() }, Seen::default())]).is_empty());
    }

    #[test]
    fn sizes_of_a_class_are_one_line_and_a_row_each() {
        let both = [64, 9000].map(|size| of(46, Some(size), all(), Seen::default()));
        assert_eq!(said(&both), ["EF (46) arrived as sent, there and back"]);
        let table = table(&both);
        assert!(table[1].starts_with("64 bytes") && table[2].starts_with("9000 bytes"), "{table:?}");
        assert!(super::table(&both[..1]).is_empty());
        let both = [of(46, Some(64), all(), Seen::default()), of(0, Some(64), all(), Seen::default())];
        assert_eq!(variant_name(&both[0], &both), "EF (46), 64 bytes");
    }

    #[test]
    fn congestion_is_said_beside_the_class() {
        let marked = Counts { ecn_marked_forward: 3, ..all() };
        let said = said(&[of(46, None, marked, Seen::default())]);
        assert_eq!(said[0], "EF (46): 3 of 100 probes met congestion on the way there (ECN)");
        assert_eq!(said[1], "EF (46) arrived as sent, there and back");
    }
}
