//! A collector's own state as a point, so that a fleet's collectors are watched where their summaries are.
//!
//! Not responsible for counting: the collector takes the differences. Read [`CollectorStats`].

use super::influx::Point;
use crate::time::Wall;

/// What one collector did and failed to do in one interval. Counts are of the interval unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectorStats {
    /// The collector: its host name.
    pub collector: String,
    /// When the interval began.
    pub start: Wall,
    /// When it ended: the time of the point.
    pub end: Wall,
    /// Probes handed to the network.
    pub sent: u64,
    /// Probes replied to in time.
    pub replied: u64,
    /// Probes that brought no reply in time.
    pub lost: u64,
    /// Replies after the loss threshold.
    pub late: u64,
    /// Probes due and not sent in time.
    pub not_sent: u64,
    /// Probes the kernel did not take.
    pub send_failed: u64,
    /// Datagrams dropped by the collector's own sockets.
    pub local_drops: u64,
    /// Datagrams that were no reply.
    pub unreadable: u64,
    /// Replies nobody asked for.
    pub unasked: u64,
    /// Overflows of completion queues.
    pub ring_overflows: u64,
    /// Tallies given up because the summary thread fell behind.
    pub given_up: u64,
    /// Steps of the wall clock.
    pub clock_steps: u64,
    /// How late probes left, of the worst worker; `None` when none was sent.
    pub lateness: Option<Lateness>,
    /// Paths summarised.
    pub paths: u64,
    /// Their flows.
    pub flows: u64,
    /// Of the paths: those whose numbers may be the collector's own doing.
    pub suspect: u64,
    /// Summaries delivered, all destinations together.
    pub delivered: u64,
    /// Summaries refused by a server.
    pub refused: u64,
    /// Summaries dropped by queues and spools.
    pub dropped: u64,
    /// Summaries waiting in memory at the interval's end.
    pub queued: u64,
    /// Summaries waiting in the spool at the interval's end.
    pub spooled: u64,
}

/// How late probes left, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lateness {
    /// Mean.
    pub mean: f64,
    /// 99th percentile.
    pub p99: i64,
    /// Largest.
    pub max: i64,
}

impl CollectorStats {
    /// The point of measurement `collector_stats`.
    pub fn point(&self) -> Point {
        let mut point = Point::new("collector_stats", self.end)
            .tag("collector", &self.collector)
            .field("interval_s", self.end.0.saturating_sub(self.start.0) as f64 / 1e9);
        for (name, count) in [
            ("sent", self.sent),
            ("replied", self.replied),
            ("lost", self.lost),
            ("late", self.late),
            ("not_sent", self.not_sent),
            ("send_failed", self.send_failed),
            ("local_drops", self.local_drops),
            ("unreadable", self.unreadable),
            ("unasked", self.unasked),
            ("ring_overflows", self.ring_overflows),
            ("given_up", self.given_up),
            ("clock_steps", self.clock_steps),
            ("paths", self.paths),
            ("flows", self.flows),
            ("suspect", self.suspect),
            ("delivered", self.delivered),
            ("refused", self.refused),
            ("dropped", self.dropped),
            ("queued", self.queued),
            ("spooled", self.spooled),
        ] {
            point = point.count(name, count);
        }
        match self.lateness {
            Some(lateness) => point
                .field("lateness_mean", lateness.mean / 1e6)
                .field("lateness_p99", lateness.p99 as f64 / 1e6)
                .field("lateness_max", lateness.max as f64 / 1e6),
            None => point,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_an_interval() {
        let stats = CollectorStats {
            collector: "host a".into(),
            start: Wall(1_000_000_000),
            end: Wall(2_500_000_000),
            sent: 10,
            replied: 9,
            lost: 1,
            spooled: 7,
            lateness: Some(Lateness { mean: 1.5e6, p99: 2_000_000, max: 3_000_000 }),
            ..CollectorStats::default()
        };
        assert_eq!(
            String::from_utf8(stats.point().line().expect("line")).expect("text"),
            "collector_stats,collector=host\\ a interval_s=1.5,sent=10i,replied=9i,lost=1i,late=0i,not_sent=0i,\
             send_failed=0i,local_drops=0i,unreadable=0i,unasked=0i,ring_overflows=0i,given_up=0i,clock_steps=0i,\
             paths=0i,flows=0i,suspect=0i,delivered=0i,refused=0i,dropped=0i,queued=0i,spooled=7i,\
             lateness_mean=1.5,lateness_p99=2,lateness_max=3 2500000000\n"
        );
        let point = String::from_utf8(stats.point().line().expect("line")).expect("text");
        let fields =
            point.split(' ').rev().nth(1).expect("fields").split(',').filter_map(|field| field.split('=').next());
        let mut fields: Vec<String> = fields.map(str::to_string).collect();
        let mut documented = crate::sink::record::samples::documented("The collector's own state");
        fields.sort();
        documented.sort();
        assert_eq!(fields, documented);
        let silent = CollectorStats { lateness: None, ..stats };
        assert!(!String::from_utf8(silent.point().line().expect("line")).expect("text").contains("lateness"));
    }
}
