//! Texts in which a point carries what has no single number: the histogram of round trips, the listed flows.
//!
//! Compact, and read back exactly. Not responsible for when they are written: [`Options::detail`](super::Options).

use crate::probe::shape::Dscp;
use crate::summary::{Extremes, FlowSummary};
use std::fmt::Write;
use std::str::FromStr;

/// A round trip in nanoseconds and how many there were, separated by colons; these separated by spaces.
pub(super) fn histogram(values: &[(u64, u64)]) -> String {
    let mut text = String::with_capacity(values.len() * 10);
    for (at, (ns, count)) in values.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        let _ = write!(text, "{space}{ns}:{count}"); // to memory: cannot fail
    }
    text
}

/// (Value in ns, count) of a field `rtt_histogram`; `None` when it is none.
pub fn parse_histogram(text: &str) -> Option<Vec<(u64, u64)>> {
    let pair = |pair: &str| {
        let (ns, count) = pair.split_once(':')?;
        Some((ns.parse().ok()?, count.parse().ok()?))
    };
    text.split(' ').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Each flow as `SOURCE>TARGET,dscp,sent,lost,lost_forward,lost_reverse`, and with round trips
/// `,samples,mean,min,max` of them in nanoseconds; flows are separated by spaces.
pub(super) fn flows(flows: &[FlowSummary]) -> String {
    let mut text = String::with_capacity(flows.len() * 80);
    for (at, flow) in flows.iter().enumerate() {
        let FlowSummary { source, target, dscp, sent, lost, lost_forward, lost_reverse, rtt } = flow;
        let space = if at == 0 { "" } else { " " };
        let _ = write!(text, "{space}{source}>{target},{},{sent},{lost},{lost_forward},{lost_reverse}", dscp.0);
        if let Some(Extremes { samples, mean, min, max }) = rtt {
            let _ = write!(text, ",{samples},{mean},{min},{max}");
        }
    }
    text
}

/// The flows of a field `worst_flows`; `None` when it is none.
pub fn parse_flows(text: &str) -> Option<Vec<FlowSummary>> {
    text.split(' ').filter(|part| !part.is_empty()).map(flow).collect()
}

fn flow(text: &str) -> Option<FlowSummary> {
    let mut parts = text.split(',');
    let (source, target) = parts.next()?.split_once('>')?;
    let (source, target) = (source.parse().ok()?, target.parse().ok()?);
    fn next<T: FromStr>(parts: &mut std::str::Split<'_, char>) -> Option<T> {
        parts.next()?.parse().ok()
    }
    let dscp = next::<u8>(&mut parts).filter(|dscp| *dscp < 64).map(Dscp)?;
    let [sent, lost, lost_forward, lost_reverse] = [(); 4].map(|()| next::<u64>(&mut parts));
    let rtt = match next::<u64>(&mut parts) {
        Some(samples) => Some(Extremes {
            samples,
            mean: next::<f64>(&mut parts).filter(|mean| mean.is_finite())?,
            min: next(&mut parts)?,
            max: next(&mut parts)?,
        }),
        None => None,
    };
    let (lost_forward, lost_reverse) = (lost_forward?, lost_reverse?);
    Some(FlowSummary { source, target, dscp, sent: sent?, lost: lost?, lost_forward, lost_reverse, rtt })
}

/// Ends and class of a field `worst_flow`: `SOURCE > TARGET dscp N`; `None` when it is none.
pub fn parse_worst_flow(text: &str) -> Option<(std::net::SocketAddr, std::net::SocketAddr, Dscp)> {
    let (source, rest) = text.split_once(" > ")?;
    let (target, dscp) = rest.split_once(" dscp ")?;
    let dscp = dscp.parse::<u8>().ok().filter(|dscp| *dscp < 64)?;
    Some((source.parse().ok()?, target.parse().ok()?, Dscp(dscp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    prop_compose! {
        fn a_flow()(
            source in any::<SocketAddr>(), target in any::<SocketAddr>(), dscp in 0u8..64,
            counts in prop::array::uniform4(any::<u64>()),
            rtt in prop::option::of((any::<u64>(), -1e15f64..1e15, any::<i64>(), any::<i64>())),
        ) -> FlowSummary {
            let rtt = rtt.map(|(samples, mean, min, max)| Extremes { samples, mean, min, max });
            let [sent, lost, lost_forward, lost_reverse] = counts;
            FlowSummary { source: plain(source), target: plain(target), dscp: Dscp(dscp), sent, lost, lost_forward, lost_reverse, rtt }
        }
    }

    /// Without flow label and scope, which no flow has.
    fn plain(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip(), address.port())
    }

    #[test]
    fn compact() {
        assert_eq!(histogram(&[(1004, 3), (2008, 1)]), "1004:3 2008:1");
        let flow = FlowSummary {
            source: ([10, 0, 0, 1], 40_000).into(),
            target: "[2001:db8::2]:8100".parse().expect("address"),
            dscp: Dscp(46),
            sent: 8,
            lost: 4,
            lost_forward: 2,
            lost_reverse: 1,
            rtt: Some(Extremes { samples: 4, mean: 1_500_000.25, min: 1_000_000, max: 2_000_000 }),
        };
        let silent = FlowSummary { rtt: None, ..flow.clone() };
        assert_eq!(
            flows(&[flow, silent]),
            "10.0.0.1:40000>[2001:db8::2]:8100,46,8,4,2,1,4,1500000.25,1000000,2000000 \
             10.0.0.1:40000>[2001:db8::2]:8100,46,8,4,2,1"
        );
    }

    #[test]
    fn what_is_no_detail_is_told() {
        assert_eq!(parse_histogram("1:2 3"), None);
        assert_eq!(parse_histogram("-1:2"), None);
        assert_eq!(parse_flows("10.0.0.1:1>10.0.0.2:2,64,1,1,0,0"), None);
        assert_eq!(parse_flows("10.0.0.1:1>10.0.0.2:2,46,1"), None);
        assert_eq!(parse_flows("10.0.0.1:1>10.0.0.2:2,46,1,0,0,0,1,NaN,1,1"), None);
        let ends = (([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 2).into(), Dscp(46));
        assert_eq!(parse_worst_flow("10.0.0.1:1 > 10.0.0.2:2 dscp 46"), Some(ends));
        assert_eq!(parse_worst_flow("10.0.0.1:1 > 10.0.0.2:2 dscp 99"), None);
    }

    proptest! {
        #[test]
        fn there_and_back(list in prop::collection::vec(a_flow(), 0..9), values in prop::collection::vec(any::<(u64, u64)>(), 0..50)) {
            prop_assert_eq!(parse_flows(&flows(&list)), Some(list));
            prop_assert_eq!(parse_histogram(&histogram(&values)), Some(values));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "[0-9a-f:>, .\\[\\]-]{0,60}") {
            let _ = (parse_flows(&text), parse_histogram(&text), parse_worst_flow(&text));
        }
    }
}
