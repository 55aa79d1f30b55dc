//! Points of the first LLAMA: four numbers and the target's tags.

use super::*;
use llama::matrix::Key;
use llama::probe::shape::{Dscp, MethodKind};

/// Two paths, three intervals of 30 s; nothing came back in the last one of the second.
fn lines() -> String {
    let mut lines = String::new();
    for n in 0..3u64 {
        let at = T0 + n * 30_000_000_000;
        let lost = n * 2;
        lines += &format!(
            "raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.2,dst_metro=fra rtt={},loss={},lost={lost},sent=20 {at}\n",
            1 + n,
            5 * lost
        );
        let (rtt, lost) = if n == 2 { (0, 10) } else { (4, 5) };
        lines += &format!(
            "raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.3 rtt={rtt},loss={},lost={lost},sent=10 {at}\n",
            lost * 10
        );
    }
    lines
}

#[test]
fn they_show_with_what_they_have() {
    let server = Influxd::start();
    write_lines(&server, &lines());
    for row_limit in [1000, 0] {
        let source = source(&server, "llama", row_limit);
        let found = figures(&source, &Filter::all());
        assert_eq!(found.len(), 2);
        let path = &found[0].path;
        assert_eq!((path.method, path.dscp, path.group.as_str()), (MethodKind::Llama, Dscp(0), ""));
        assert_eq!(path.tags["dst_metro"], "fra");
        let first = &found[0].figures;
        assert_eq!((first.summaries, first.counts.sent, first.counts.lost, first.counts.replied), (3, 60, 6, 54));
        assert_eq!((first.counts.loss_percent(), first.suspects, first.flows), (10.0, 0, 0));
        let rtt = first.rtt.expect("round trips");
        assert_eq!(rtt.samples, 54);
        assert!((rtt.mean - (20.0 + 18.0 * 2.0 + 16.0 * 3.0) / 54.0 * 1e6).abs() < 1e-3, "{rtt:?}");
        assert_eq!(first.percentiles(), None, "nothing is known of them");
        let second = &found[1].figures;
        let rtt = second.rtt.expect("round trips");
        assert_eq!((rtt.samples, rtt.mean, second.counts.lost), (10, 4e6, 20));

        let series = source.series(ALL, &Filter::all(), Duration::from_secs(30)).expect("series").value;
        let lost: Vec<u64> = series.iter().map(|point| point.figures.counts.lost).collect();
        assert_eq!(lost, [5, 7, 14]);
        let mean = |at: usize| series[at].figures.rtt.map(|rtt| (rtt.samples, (rtt.mean / 1e3).round()));
        assert_eq!([mean(0), mean(2)], [Some((25, (20.0 + 20.0) / 25.0 * 1e3)), Some((16, 3000.0))]);
        assert!(source.flows(ALL, &Filter::all()).expect("flows").value.is_empty());

        let mut filter = Filter::all();
        filter.add(Key::Method, "llama".into());
        filter.add(Key::Dscp, "0".into());
        filter.add(Key::Group, String::new());
        assert_eq!(figures(&source, &filter).len(), 2);
        filter.add(Key::Tag("dst_metro".into()), String::new());
        assert_eq!(figures(&source, &filter).len(), 1);
    }
    let extent = source(&server, "llama", 1000).extent().expect("extent");
    assert_eq!((extent.newest, extent.interval), (Some(Wall(T0 + 60_000_000_000)), Duration::from_secs(30)));
}

#[test]
fn they_stand_beside_new_ones() {
    let server = Influxd::start();
    write_lines(&server, &lines());
    write(&server, "llama", false, fleet::summaries());
    let all = fleet::summaries();
    let lost: u64 = all.iter().map(|summary| summary.counts.lost).sum();
    let right = by_hand(all);
    for row_limit in [100_000, 0] {
        let source = source(&server, "llama", row_limit);
        let found = figures(&source, &Filter::all());
        assert_eq!(found.len() as u64, fleet::PATHS + 2);
        assert_eq!(joined(&found).counts.lost, lost + 26);
        let series = source.series(ALL, &Filter::all(), Duration::from_secs(36_000)).expect("series").value;
        let rtt = series[0].figures.rtt.expect("round trips");
        assert_eq!((series.len(), rtt.samples), (1, right.0 + 64));
        let mean = (right.1 + 104.0e6 + 40.0e6) / (right.0 + 64) as f64;
        assert!((rtt.mean - mean).abs() < mean * 1e-9, "{} is not {mean}", rtt.mean);
    }
}

/// Round trips and their sum in ns.
fn by_hand(summaries: &[Summary]) -> (u64, f64) {
    let all = summaries.iter().filter_map(|summary| summary.rtt);
    all.fold((0, 0.0), |(samples, sum), rtt| (samples + rtt.samples, sum + rtt.mean * rtt.samples as f64))
}

#[test]
fn tags_that_cannot_be_read_do_no_harm() {
    let server = Influxd::start();
    write_lines(
        &server,
        &format!(
            "raw_stats,src_ip=a.example,dst_ip=b.example rtt=1,loss=0,lost=0,sent=1 {T0}\n\
             raw_stats,host=x rtt=1,loss=0,lost=0,sent=2 {T0}\n\
             raw_stats,host=y rtt=1,loss=0,lost=0,sent=4 {T0}\n\
             raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.2,method=pigeon rtt=1,loss=0,lost=0,sent=8 {T0}\n\
             raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.2,dscp=gold rtt=1,loss=0,lost=0,sent=16 {T0}\n\
             raw_stats,src_ip=10.0.0.1,dst_ip=10.0.0.2,method=udp rtt=1,loss=0,lost=-5,sent=-32 {T0}\n"
        ),
    );
    for row_limit in [1000, 0] {
        let found = figures(&source(&server, "llama", row_limit), &Filter::all());
        let mut sent: Vec<u64> = found.iter().map(|one| one.figures.counts.sent).collect();
        sent.sort();
        assert_eq!(sent, [0, 1, 2, 4], "a method and a class of another version are left out");
    }
}
