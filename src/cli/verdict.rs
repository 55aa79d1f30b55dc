//! What the numbers mean, in words: where the loss is, how sure that is, and whether the prober was sound.
//!
//! Responsible for the sentences and the small statistics behind them. Not responsible for the
//! numbers themselves. Read [`network`] first.

use super::steady::{self, Second};
use super::units::{count, percent, several, time};
use crate::probe::shape::MethodKind;
use crate::summary::{Counts, FlowSummary, Summary, Suspicion};
use crate::time::StampSource;
use std::net::IpAddr;

/// How good the news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Sound.
    Good,
    /// Not certain.
    Doubt,
    /// Broken.
    Bad,
}

/// A judgement: the first sentence says it, the others what it rests on and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How good the news is.
    pub grade: Grade,
    /// Sentences, in order.
    pub says: Vec<String>,
}

/// Two-sided 95 %.
const Z_95: f64 = 1.959_964;
/// Two-sided 99.9 %: for picking some of many flows.
const Z_999: f64 = 3.290_527;

/// Wilson's score interval for the share `hits / n`, as shares; (0, 1) without trials.
fn wilson(hits: u64, n: u64, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n_f, z2) = (n as f64, z * z);
    let p = hits as f64 / n_f;
    let middle = p + z2 / (2.0 * n_f);
    let half = z * (p * (1.0 - p) / n_f + z2 / (4.0 * n_f * n_f)).sqrt();
    let scale = 1.0 + z2 / n_f;
    // at the ends rounding leaves a residue where the interval touches 0 and 1 exactly
    let low = if hits == 0 { 0.0 } else { ((middle - half) / scale).max(0.0) };
    let high = if hits >= n { 1.0 } else { ((middle + half) / scale).min(1.0) };
    (low, high)
}

/// 95 % confidence interval of a loss, in percent; taken as if probes were lost independently.
pub fn loss_interval(lost: u64, of: u64) -> (f64, f64) {
    let (low, high) = wilson(lost, of, Z_95);
    (100.0 * low, 100.0 * high)
}

/// Smallest loss in percent of which `n` probes would have shown at least one with 99 % certainty.
pub fn detectable(n: u64) -> f64 {
    if n == 0 { 100.0 } else { 100.0 * (1.0 - 0.01_f64.powf(1.0 / n as f64)) }
}

/// How the losses lie on the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// On this many flows, the first in order of loss; the others are clean or much better.
    Few(usize),
    /// Alike on all.
    Even,
    /// Too few losses to tell.
    Unclear,
}

/// `flows` in descending order of their share lost.
fn spread(flows: &[&FlowSummary]) -> Spread {
    let all = flows.len();
    let lossy = flows.iter().filter(|f| f.lost > 0).count();
    let lost: u64 = flows.iter().map(|f| f.lost).sum();
    if lossy < all {
        // were all flows alike, the chance that every loss falls on some `lossy` of them is at most
        // C(all, lossy) · (lossy / all)^lost
        let ways: f64 = (0..lossy).map(|i| ((all - i) as f64 / (i + 1) as f64).ln()).sum();
        let chance = ways + lost as f64 * (lossy as f64 / all as f64).ln();
        if chance < 0.01_f64.ln() {
            return Spread::Few(lossy);
        }
    }
    // the better half is what a flow is compared with
    let pooled = |part: &[&FlowSummary]| part.iter().fold((0, 0), |(l, s), f| (l + f.lost, s + f.sent));
    let (base_lost, base_sent) = pooled(&flows[all / 2..]);
    let limit = wilson(base_lost, base_sent, Z_999).1;
    let bad = flows[..all / 2].iter().take_while(|f| wilson(f.lost, f.sent, Z_999).0 > limit).count();
    match bad {
        // five a flow on average: with fewer, flows that share one path still differ widely
        0 if lost >= 5 * all as u64 => Spread::Even,
        0 => Spread::Unclear,
        n => Spread::Few(n),
    }
}

/// Flows in the order of a worst list: share lost, then mean round-trip time, then source port.
pub fn worst_first(flows: &[FlowSummary]) -> Vec<&FlowSummary> {
    let share = |f: &FlowSummary| if f.sent == 0 { 0.0 } else { f.lost as f64 / f.sent as f64 };
    let mean = |f: &FlowSummary| f.rtt.map_or(0.0, |rtt| rtt.mean);
    let mut order: Vec<&FlowSummary> = flows.iter().collect();
    order.sort_by(|a, b| {
        share(b).total_cmp(&share(a)).then(mean(b).total_cmp(&mean(a))).then(a.source.port().cmp(&b.source.port()))
    });
    order
}

/// Payload that fits a frame of 1500 bytes over IPv6, bytes.
const FRAME: u16 = 1452;

/// What was asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How.
    pub method: MethodKind,
    /// The target's port.
    pub port: u16,
    /// Payload, bytes.
    pub size: u16,
    /// The longest payload of shorter probes of the class that fare much better, where there are such.
    pub passes: Option<u16>,
    /// Who sent the last ICMP error.
    pub reporter: Option<IpAddr>,
    /// The MTU told with what was too big.
    pub mtu: Option<u32>,
    /// Probes and replies, second by second.
    pub seconds: &'a [Second],
}

/// What happened on the way to the target and back, from all flows.
pub fn network(asked: &Asked<'_>, counts: &Counts, flows: &[FlowSummary]) -> Verdict {
    let bad = |says: Vec<String>| Verdict { grade: Grade::Bad, says };
    if counts.left() == 0 {
        let all = count(counts.send_failed + counts.not_sent);
        return bad(vec![format!(
            "nothing was measured: none of {all} probes left this host; look at its routes and firewall"
        )]);
    }
    if counts.replied == 0 {
        return bad(silence(asked, counts, flows.len()));
    }
    let lost = counts.unanswered();
    if lost == 0 {
        let mut says = vec![match flows.len() {
            1 => "no loss on the one flow measured".to_owned(),
            n => format!("no loss on any of {n} flows"),
        }];
        let thinnest = flows.iter().map(|f| f.sent).min().unwrap_or(counts.left());
        says.push(if flows.len() > 1 {
            format!(
                "a loss of {} on the path of one flow, or of {} on all of them, would have shown (99 % sure)",
                percent(detectable(thinnest)),
                percent(detectable(counts.left()))
            )
        } else {
            format!("a loss of {} would have shown (99 % sure)", percent(detectable(counts.left())))
        });
        return Verdict { grade: Grade::Good, says };
    }
    let (low, high) = loss_interval(lost, counts.left());
    let mut says =
        vec![format!("{} lost (95 % sure: {} to {})", percent(counts.loss_percent()), percent(low), percent(high))];
    let order = worst_first(flows);
    let certain = say_where(&order, &mut says);
    say_direction(counts, &mut says);
    says.extend(too_big(asked, counts).or_else(|| swallowed(asked)));
    if counts.corrupted > 0 {
        says.push(corrupted(counts));
    }
    if counts.reported() > 0 {
        says.push(format!(
            "{} of {} were answered by an ICMP error{}: something on the way or at the end refuses them",
            count(counts.reported()),
            count(lost),
            from(asked.reporter)
        ));
    }
    if let Some(limit) = steady::limit(asked.seconds).filter(|_| !asked.method.is_udp()) {
        says.push(format!("answers {}; repeat with a --rate below", steady::advice(asked.method, limit)));
    }
    if 2 * counts.late >= lost {
        says.push(format!(
            "{} of {} came after the loss threshold: delay rather than loss; raise --timeout",
            count(counts.late),
            count(lost)
        ));
    }
    Verdict { grade: if certain { Grade::Bad } else { Grade::Doubt }, says }
}

/// That large probes vanish where shorter ones do not.
fn swallowed(asked: &Asked<'_>) -> Option<String> {
    let passes = asked.passes?;
    Some(format!(
        "probes of {passes} bytes fare better: a link that is too narrow for {} drops them, and no ICMP error says so, or a filter keeps it away (a path-MTU black hole)",
        asked.size
    ))
}

/// Who says that the probes are too big, and what would fit.
fn too_big(asked: &Asked<'_>, counts: &Counts) -> Option<String> {
    if counts.too_big == 0 {
        return None;
    }
    let mtu = asked.mtu.map_or(String::new(), |mtu| format!(": its MTU is {mtu}"));
    Some(match asked.reporter {
        Some(by) => format!("probes of {} bytes are too big for a link behind {by}{mtu}", asked.size),
        None => format!("probes of {} bytes are too big for this host's own interface{mtu}", asked.size),
    })
}

fn corrupted(counts: &Counts) -> String {
    format!(
        "{} came back with a changed payload and right checksums: something on the way damages packets, a middlebox, a tunnel, or memory",
        several(counts.corrupted, "probe")
    )
}

fn from(reporter: Option<IpAddr>) -> String {
    reporter.map_or(String::new(), |by| format!(" from {by}"))
}

/// Nothing came back: why, most telling sign first.
fn silence(asked: &Asked<'_>, counts: &Counts, flows: usize) -> Vec<String> {
    let Asked { method, port, size, reporter, .. } = *asked;
    let mut says = vec![match flows {
        1 => "nothing came back on the one flow measured".to_owned(),
        n => format!("nothing came back on any of {n} flows"),
    }];
    says.push(if let Some(reason) = too_big(asked, counts) {
        reason
    } else if counts.corrupted > 0 {
        corrupted(counts)
    } else if counts.prohibited > 0 {
        format!("an ICMP error{} says that a rule forbids it: a packet filter, or a policy on the way", from(reporter))
    } else if counts.time_exceeded > 0 {
        format!("an ICMP time exceeded{} came back: the probes go round in a loop there", from(reporter))
    } else if counts.refused > 0 && !method.is_udp() {
        format!("an ICMP port unreachable{} came back: a packet filter rejects it, for the host itself would have answered", from(reporter))
    } else if counts.refused > 0 {
        format!("the host answers that nothing listens on UDP port {port}: start `llama reflector` there, or name its port")
    } else if counts.unreachable > 0 {
        format!("an ICMP error{} says unreachable: a missing route, or a firewall that says so", from(reporter))
    } else if counts.late > 0 {
        "replies came, all of them after the loss threshold; raise --timeout".to_owned()
    } else if let Some(reason) = swallowed(asked) {
        reason
    } else if method == MethodKind::TcpSyn {
        format!("the host is down, or a firewall drops SYNs to port {port} or their answers; one broken path of several would spare some flows")
    } else if method == MethodKind::Icmp {
        "the host is down, or it or a firewall drops echo requests; try --tcp; one broken path of several would spare some flows".to_owned()
    } else {
        format!("the host is down, no reflector answers on UDP port {port}, it wants another key (--key-file) or method (--method), or a firewall drops it; one broken path of several would spare some flows")
    });
    if counts.reported() > 0 && counts.lost > 0 {
        says.push(format!("the other {} were most likely refused as well: hosts limit how many ICMP errors they send (Linux: one a second to one host, net.ipv4.icmp_ratelimit)", count(counts.lost)));
    }
    if size > FRAME && asked.passes.is_none() && counts.refused + counts.too_big == 0 {
        says.push(format!("probes of {size} bytes need jumbo frames all the way, for they are never sent in fragments: try without --size"));
    }
    says
}

/// Whether the place of the loss is certain.
fn say_where(order: &[&FlowSummary], says: &mut Vec<String>) -> bool {
    let all = order.len();
    let lossy = order.iter().filter(|f| f.lost > 0).count();
    let share = |part: &[&FlowSummary]| {
        let (lost, sent) = part.iter().fold((0, 0), |(l, s), f| (l + f.lost, s + f.sent));
        percent(if sent == 0 { 0.0 } else { 100.0 * lost as f64 / sent as f64 })
    };
    if all <= 1 {
        says.push("one flow cannot tell one path from the whole link: use --source-ports 16 or more".to_owned());
        return true;
    }
    match spread(order) {
        Spread::Few(n) => {
            let rest = match order[n..].iter().any(|f| f.lost > 0) {
                true => format!("the other {} lose {}", all - n, share(&order[n..])),
                false => format!("the other {} are clean", all - n),
            };
            let lose = if n == 1 { "flows loses" } else { "flows lose" };
            says.push(format!(
                "{n} of {all} {lose} {}, {rest}: one path of several is bad, not the whole link",
                share(&order[..n])
            ));
            says.push(format!("to repeat the worst flow: --source-port {} --source-ports 1", order[0].source.port()));
            true
        }
        Spread::Even => {
            says.push(format!(
                "all {all} flows lose alike: what they share is bad, a link without alternatives or one of the hosts"
            ));
            true
        }
        Spread::Unclear => {
            says.push(format!("{lossy} of {all} flows lost something: too few losses to tell one path from the whole link; repeat with a larger --count"));
            false
        }
    }
}

fn say_direction(counts: &Counts, says: &mut Vec<String>) {
    let (forward, reverse) = (counts.lost_forward, counts.lost_reverse);
    let known = forward + reverse;
    if known == 0 {
        return;
    }
    says.push(if reverse == 0 {
        format!("lost on the way there: {}, none on the way back", count(forward))
    } else if forward == 0 {
        format!("lost on the way back: {}, none on the way there", count(reverse))
    } else {
        format!("lost on the way there: {}, on the way back: {}", count(forward), count(reverse))
    });
}

/// A reason for suspicion, and what to do about it.
fn suspicion(reason: Suspicion, summary: &Summary) -> String {
    let c = &summary.counts;
    match reason {
        Suspicion::LocalDrops => format!(
            "this host's sockets dropped {} datagrams for want of buffer, so some of the loss is our own; lower --rate or raise net.core.rmem_max",
            count(summary.local_drops)
        ),
        Suspicion::NotSent => {
            format!("{} probes were due and not sent in time: this host is too busy; lower --rate or give it a core of its own (--cores)", count(c.not_sent))
        }
        Suspicion::StampsLost => format!(
            "{} transmit timestamps never came, so their round trips are missing; use --tx-timestamps auto, off, or one in N",
            count(c.stamps_missing)
        ),
        Suspicion::ClockStep => {
            format!("the wall clock stepped and {} round trips were discarded; see that only one daemon sets it, and slews", count(c.clock_stepped))
        }
        Suspicion::TallyDropped => "counts of a worker were dropped because the summary fell behind: the numbers are short; this host is too busy".to_owned(),
    }
}

/// Whether the prober itself was sound.
pub fn prober(summary: &Summary) -> Verdict {
    let late = summary.lateness.map(|l| {
        let [p50, p99, max] = [l.p50, l.p99, l.max].map(|ns| time(ns as f64));
        format!("probes left {p50} after they were due (median), p99 {p99}, max {max}")
    });
    if summary.suspect.is_empty() {
        let mut says = vec!["sound: no local drops, every probe due was sent".to_owned()];
        says.extend(late);
        return Verdict { grade: Grade::Good, says };
    }
    let mut says = vec!["SUSPECT: these numbers may be this host's own doing".to_owned()];
    says.extend(summary.suspect.iter().map(|reason| suspicion(*reason, summary)));
    says.extend(late);
    Verdict { grade: Grade::Bad, says }
}

/// Where timestamps were taken, and what that does to the round-trip times.
pub fn stamps(sent_by: Option<StampSource>, received_by: Option<StampSource>) -> Option<Verdict> {
    let (Some(sent), Some(received)) = (sent_by, received_by) else { return None };
    let place = |source| match source {
        StampSource::Hardware => "network card",
        StampSource::Kernel => "kernel",
        StampSource::User => "user space",
    };
    let mut says = vec![format!("T1 {}, T4 {}", place(sent), place(received))];
    let caveat = match (sent, received) {
        (_, StampSource::User) => Some("round trips contain this host's own receive delay"),
        (StampSource::User, _) => Some("round trips contain this host's own send delay, some µs"),
        _ => None,
    };
    says.extend(caveat.map(str::to_owned));
    let grade = if received == StampSource::User { Grade::Doubt } else { Grade::Good };
    Some(Verdict { grade, says })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::probe::shape::Dscp;
    use proptest::prelude::*;

    /// Flows with these (sent, lost), from source port 40001 on.
    pub fn flows(of: &[(u64, u64)]) -> Vec<FlowSummary> {
        let flow = |(at, &(sent, lost)): (usize, &(u64, u64))| FlowSummary {
            source: ([10, 0, 0, 1], 40_001 + at as u16).into(),
            target: ([10, 0, 0, 2], 8100).into(),
            dscp: Dscp(0),
            sent,
            lost,
            lost_forward: 0,
            lost_reverse: 0,
            dscp_changed_forward: 0,
            dscp_changed_reverse: 0,
            rtt: None,
        };
        of.iter().enumerate().map(flow).collect()
    }

    fn asked(port: u16) -> Asked<'static> {
        Asked { method: MethodKind::Udp, port, size: 44, passes: None, reporter: None, mtu: None, seconds: &[] }
    }

    fn judged(of: &[(u64, u64)]) -> Verdict {
        let flows = flows(of);
        let (sent, lost) = of.iter().fold((0, 0), |(s, l), f| (s + f.0, l + f.1));
        network(&asked(8100), &Counts { sent, lost, replied: sent - lost, ..Counts::default() }, &flows)
    }

    #[test]
    fn one_bad_path_is_told_from_a_bad_link() {
        let mut one = vec![(62, 0); 16];
        one[3] = (62, 30);
        let verdict = judged(&one);
        assert_eq!(verdict.grade, Grade::Bad);
        assert_eq!(
            verdict.says,
            [
                "3.0 % lost (95 % sure: 2.1 % to 4.3 %)",
                "1 of 16 flows loses 48.4 %, the other 15 are clean: one path of several is bad, not the whole link",
                "to repeat the worst flow: --source-port 40004 --source-ports 1",
            ]
        );
        let mut noisy = vec![(1000, 10); 16];
        noisy[5] = (1000, 300);
        noisy[6] = (1000, 310);
        assert!(judged(&noisy).says[1].starts_with("2 of 16 flows lose 30.5 %, the other 14 lose 1.0 %"));
        assert!(judged(&[(62, 6); 16]).says[1].starts_with("all 16 flows lose alike"));
        let mut few = vec![(62, 0); 16];
        few[0] = (62, 1);
        few[1] = (62, 1);
        let verdict = judged(&few);
        assert_eq!(verdict.grade, Grade::Doubt);
        assert!(verdict.says[1].starts_with("2 of 16 flows lost something: too few losses"), "{verdict:?}");
    }

    #[test]
    fn no_loss_says_what_it_would_have_seen() {
        assert_eq!(
            judged(&[(62, 0); 16]).says[1],
            "a loss of 7.2 % on the path of one flow, or of 0.46 % on all of them, would have shown (99 % sure)"
        );
        assert_eq!(
            judged(&[(459, 0)]).says,
            ["no loss on the one flow measured", "a loss of 1.0 % would have shown (99 % sure)"]
        );
    }

    #[test]
    fn silence_has_a_cause() {
        let of = |asked: Asked<'_>, counts: Counts| network(&asked, &counts, &flows(&[(10, 10); 4])).says;
        let says = |counts: Counts| of(asked(862), counts)[1].clone();
        let base = Counts { sent: 40, ..Counts::default() };
        assert!(says(Counts { refused: 40, ..base }).contains("nothing listens on UDP port 862"));
        assert!(says(Counts { unreachable: 40, ..base }).contains("route"));
        assert!(says(Counts { lost: 40, late: 40, ..base }).contains("--timeout"));
        assert!(says(Counts { lost: 40, ..base }).contains("host is down"));
        let large = of(Asked { size: 9000, ..asked(862) }, Counts { lost: 40, ..base });
        assert!(large[2].contains("without --size"), "{large:?}");
        let hole = of(Asked { size: 1400, passes: Some(64), ..asked(862) }, Counts { lost: 40, ..base });
        assert!(
            hole[1].contains("probes of 64 bytes fare better") && hole[1].contains("too narrow for 1400"),
            "{hole:?}"
        );
        let unsent = of(asked(862), Counts { sent: 40, send_failed: 40, ..Counts::default() });
        assert!(unsent[0].contains("none of 40 probes left"), "{unsent:?}");
        let tcp = Asked { method: MethodKind::TcpSyn, reporter: Some([192, 0, 2, 9].into()), ..asked(443) };
        assert!(of(tcp, Counts { lost: 40, ..base })[1].contains("SYNs to port 443"));
        let few = of(tcp, Counts { prohibited: 7, lost: 33, ..base });
        assert!(few[1].contains("from 192.0.2.9 says that a rule forbids it"), "{few:?}");
        assert!(few[2].contains("the other 33 were most likely refused as well"), "{few:?}");
        assert!(of(tcp, Counts { refused: 40, ..base })[1].contains("a packet filter rejects it"));
        assert!(of(tcp, Counts { time_exceeded: 40, ..base })[1].contains("loop"));
    }

    #[test]
    fn a_limit_on_answers_is_suspected_of_what_needs_no_agent() {
        let counts = Counts { sent: 3000, replied: 1200, resets: 1200, lost: 1800, ..Counts::default() };
        let flows = flows(&[(750, 450); 4]);
        for (method, hinted) in [(MethodKind::TcpSyn, true), (MethodKind::Icmp, true), (MethodKind::Udp, false)] {
            let asked = Asked { method, seconds: &[(500, 200); 7], ..asked(0) };
            let says = network(&asked, &counts, &flows).says;
            assert_eq!(says.iter().any(|say| say.contains("a steady 200 a second")), hinted, "{says:?}");
        }
    }

    #[test]
    fn direction_is_told_when_known() {
        let counts = Counts { sent: 100, lost: 10, replied: 90, lost_forward: 9, lost_reverse: 1, ..Counts::default() };
        let verdict = network(&asked(8100), &counts, &flows(&[(50, 5), (50, 5)]));
        assert!(verdict.says.contains(&"lost on the way there: 9, on the way back: 1".to_owned()), "{verdict:?}");
    }

    #[test]
    fn intervals_of_known_samples() {
        let near =
            |(low, high): (f64, f64), want: (f64, f64)| (low - want.0).abs() < 0.05 && (high - want.1).abs() < 0.05;
        // Wilson 95 %: 1 of 10 → 1.79 to 40.42 %; 0 of 10 → 0 to 27.75 %
        assert!(near(loss_interval(1, 10), (1.79, 40.42)), "{:?}", loss_interval(1, 10));
        assert!(near(loss_interval(0, 10), (0.0, 27.75)));
        assert_eq!(loss_interval(7, 7).1, 100.0);
        assert!((detectable(459) - 1.0).abs() < 0.01 && (detectable(44) - 9.94).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_share(lost in 0u64..5000, more in 0u64..5000) {
            let sent = lost + more;
            prop_assume!(sent > 0);
            let (low, high) = loss_interval(lost, sent);
            let share = 100.0 * lost as f64 / sent as f64;
            prop_assert!(0.0 <= low && low <= share + 1e-9 && share <= high + 1e-9 && high <= 100.0);
        }

        #[test]
        fn every_split_of_losses_has_a_verdict(of in prop::collection::vec((0u64..500, 0u64..500), 1..40)) {
            let of: Vec<(u64, u64)> = of.into_iter().map(|(sent, lost)| (sent.max(lost), lost)).collect();
            prop_assert!(!judged(&of).says.is_empty());
        }
    }
}
