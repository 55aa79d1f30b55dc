//! Values as typed on the command line: durations, core lists, classes, rates, addresses.
//!
//! Each parser states in its error what was given, what is allowed and what to write instead; clap
//! puts the flag's name before it. Not responsible for which flag takes which value: see
//! [`super::args`].

use crate::config::dscp as class;
use crate::config::endpoint;
use crate::config::keys;
use crate::config::plan;
use crate::config::{Surroundings, System};
use crate::net::FlowLabels;
use crate::net::features::IoChoice;
use crate::probe::shape::{Dscp, MethodKind, StampPolicy, Verify};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::Duration;

/// The port a reflector listens on when none is named, as upstream's.
pub const DEFAULT_PORT: u16 = 8100;
/// Source ports of one ping: a socket each.
pub const SOURCE_PORTS_MAX: u32 = plan::MAX_SOURCES as u32;
/// Highest CPU number taken; a mask of `CPU_SETSIZE` bits holds no more.
const CPU_MAX: usize = 1023;

/// CPU numbers, ascending, each once. Written `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<CoreList, String> {
        let number = |s: &str| match s.trim().parse::<usize>() {
            Ok(n) if n <= CPU_MAX => Ok(n),
            Ok(n) => Err(format!("CPU {n} is above {CPU_MAX}; name CPUs as /proc/cpuinfo numbers them")),
            Err(_) => Err(format!("`{}` is not a CPU number; write a list such as 0,2-3", s.trim())),
        };
        let mut cores = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                None => cores.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("the range {first}-{last} is empty; write {last}-{first}"));
                    }
                    cores.extend(first..=last);
                }
            }
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(CoreList(cores))
    }
}

/// A host and a UDP port: `HOST`, `HOST:PORT`, `192.0.2.1:PORT`, `2001:db8::1`, `[2001:db8::1]:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address or name, without brackets.
    pub host: String,
    /// Port, when written.
    pub port: Option<u16>,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        endpoint::write(f, &self.host, self.port)
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Destination, String> {
        let (host, port) = endpoint::host_and_port(text, 0, DEFAULT_PORT, "port")?;
        Ok(Destination { host, port })
    }
}

/// An address to listen on: `ADDR:PORT`, `[ADDR]:PORT`, or `:PORT` for all addresses.
///
/// # Errors
/// Says what is missing.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':').and_then(|p| p.parse::<u16>().ok()) {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Some((ip, rest)) = text.strip_prefix('[').and_then(|text| text.split_once('%'))
        && let (Ok(ip), Some((zone, port))) = (ip.parse::<Ipv6Addr>(), rest.split_once("]:"))
    {
        let port = port.parse().map_err(|_| format!("`{port}` is not a port; write 0 to 65535"))?;
        let zone =
            System.zone(zone).map_err(|error| format!("`{zone}` is no interface of this host: {error}; correct it"))?;
        return Ok(SocketAddrV6::new(ip, port, 0, zone).into());
    }
    Err(match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("the port is missing; write {ip}:{DEFAULT_PORT}"),
        Ok(IpAddr::V6(ip)) => format!("the port is missing; write [{ip}]:{DEFAULT_PORT}"),
        Err(_) => format!("not an address and a port; write 0.0.0.0:{DEFAULT_PORT} or [::]:{DEFAULT_PORT}"),
    })
}

/// Bytes as in `500M` or `2G`, powers of 1024; a number alone is bytes.
///
/// # Errors
/// Not such a number, or one that does not fit.
pub fn bytes(text: &str) -> Result<u64, String> {
    const EXAMPLE: &str = "write for example 500M or 2G";
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("not a number of bytes; {EXAMPLE}"))?;
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("`{unit}` is not a unit of bytes; {EXAMPLE}")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("more bytes than there are; {EXAMPLE}"))
}

/// A length of time: numbers with a unit (`ms`, `s`, `m`, `h`, `d`), added up: `250ms`, `10s`, `1h30m`.
///
/// # Errors
/// Unit missing or unknown, zero, or more than a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXAMPLE: &str = "write for example 250ms, 10s, 5m or 1h30m";
    const YEAR_S: f64 = 366.0 * 86_400.0;
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("not a duration; {EXAMPLE}"))?;
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        seconds += number
            * match unit {
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                "" => return Err(format!("the unit is missing; {EXAMPLE}")),
                other => return Err(format!("`{other}` is not a unit of time; use ms, s, m, h or d")),
            };
        rest = tail;
    }
    if !(seconds > 0.0 && seconds <= YEAR_S) {
        return Err(format!("a duration is more than zero and at most a year; {EXAMPLE}"));
    }
    Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// A length of time in whole seconds.
///
/// # Errors
/// As [`duration`], and a part of a second.
pub fn whole_seconds(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        d if d.subsec_nanos() == 0 => Ok(d),
        _ => Err("whole seconds are asked for; write for example 10s, 5m or 1d".into()),
    }
}

/// A loss threshold: 1 ms to 60 s.
///
/// # Errors
/// As [`duration`], and outside the range.
pub fn loss_threshold(text: &str) -> Result<Duration, String> {
    let d = duration(text)?;
    if d < Duration::from_millis(1) || d > Duration::from_secs(60) {
        return Err("a loss threshold is 1ms to 60s; every probe in flight is remembered for that long".into());
    }
    Ok(d)
}

/// A reporting period: 100 ms to an hour.
///
/// # Errors
/// As [`duration`], and outside the range.
pub fn interval(text: &str) -> Result<Duration, String> {
    let d = duration(text)?;
    if d < Duration::from_millis(100) || d > Duration::from_secs(3600) {
        return Err("an interval is 100ms to 1h".into());
    }
    Ok(d)
}

/// Probes per second, 0.01 to 10 000 000.
///
/// # Errors
/// Not a number or outside the range.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(r) if (0.01..=1e7).contains(&r) => Ok(r),
        Ok(_) => Err("a rate is 0.01 to 10000000 probes per second".into()),
        Err(_) => Err("not a number; a rate is probes per second, such as 200 or 0.5".into()),
    }
}

/// A whole number within limits, for flags whose remedy is a sentence.
fn ranged(text: &str, what: &str, min: u64, max: u64, remedy: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        Ok(n) => Err(format!("{n} {what} asked, {min} to {max} allowed; {remedy}")),
        Err(_) => Err(format!("not a whole number; {min} to {max} {what} allowed")),
    }
}

/// Probes to send, 1 to 4 000 000 000.
///
/// # Errors
/// Outside the range.
pub fn count(text: &str) -> Result<u64, String> {
    ranged(text, "probes", 1, 4_000_000_000, "for a measurement without end run a collector")
}

/// Source ports, 1 to [`SOURCE_PORTS_MAX`].
///
/// # Errors
/// Outside the range.
pub fn source_ports(text: &str) -> Result<u32, String> {
    let max = u64::from(SOURCE_PORTS_MAX);
    ranged(text, "source ports", 1, max, "a process opens no more sockets").map(|n| n as u32)
}

/// Bytes of UDP payload; each method has its own limits within these.
///
/// # Errors
/// Outside the range.
pub fn size(text: &str) -> Result<u16, String> {
    let remedy = "44 is a STAMP test packet without padding, 1472 fills an Ethernet frame over IPv4";
    ranged(text, "bytes of UDP payload", keys::MIN_SIZE.into(), keys::MAX_SIZE.into(), remedy).map(|n| n as u16)
}

/// Packets per second a reflector answers, 1 to 100 000 000.
///
/// # Errors
/// Outside the range.
pub fn packets_per_second(text: &str) -> Result<u32, String> {
    ranged(text, "packets per second", 1, 100_000_000, "leave the flag out for no limit").map(|n| n as u32)
}

/// The URL of an InfluxDB that says where to write.
///
/// # Errors
/// No scheme, or neither a database nor a bucket.
pub fn influx_url(text: &str) -> Result<String, String> {
    const FORMS: &str = "http://HOST:8086?db=NAME, or http://HOST:8086?org=ORG&bucket=NAME with --influx-token";
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err(format!("not an http or https URL; write {FORMS}"));
    }
    let query = text.split_once('?').map_or("", |(_, query)| query);
    if !query.split('&').any(|pair| pair.starts_with("db=") || pair.starts_with("bucket=")) {
        return Err(format!("names neither a database nor a bucket; write {FORMS}"));
    }
    Ok(text.to_owned())
}

/// The URL of an API, without a query.
///
/// # Errors
/// No scheme, no host, or more than a URL.
pub fn api_url(text: &str) -> Result<String, String> {
    const FORM: &str = "write http://HOST:5000, the --api address of a collector, scraper or demo";
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/')) else {
        return Err(format!("not an http or https URL; {FORM}"));
    };
    if rest.contains(['?', '#']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("more than scheme, host and port; {FORM}"));
    }
    Ok(text.to_owned())
}

/// A key and the value it shall have: `KEY=VALUE`.
///
/// # Errors
/// No `=`, or nothing before it.
pub fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE; write for example group=east, or dscp=46".into()),
    }
}

/// An instant: RFC 3339, or seconds since 1970.
///
/// # Errors
/// Anything else.
pub fn instant(text: &str) -> Result<String, String> {
    let seconds = text.parse::<f64>().is_ok_and(|seconds| (0.0..1e10).contains(&seconds));
    if seconds || crate::sink::parse_rfc3339(text).is_some() {
        return Ok(text.to_owned());
    }
    Err("not an instant; write for example 2024-02-29T12:30:00Z, 2024-02-29T12:30:00+01:00, or seconds since 1970"
        .into())
}

/// A percentage, 0 to 100.
///
/// # Errors
/// Not a number or outside the range.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("not a percentage; write 0 to 100".into()),
    }
}

/// Which probes get a kernel transmit timestamp: `all`, `auto`, `off` or N for one in N.
///
/// # Errors
/// Anything else.
pub fn stamp_policy(text: &str) -> Result<StampPolicy, String> {
    match text.to_ascii_lowercase().as_str() {
        "all" => Ok(StampPolicy::All),
        "auto" => Ok(StampPolicy::Auto),
        "off" | "none" => Ok(StampPolicy::Off),
        other => match other.parse::<u32>() {
            Ok(1) => Ok(StampPolicy::All),
            Ok(n) if n >= 2 => Ok(StampPolicy::OneIn(n)),
            _ => Err("write all, auto, off, or N for one probe in N".into()),
        },
    }
}

/// SYNs per second to one target, as in a configuration file.
///
/// # Errors
/// Outside the range.
pub fn syn_limit(text: &str) -> Result<u32, String> {
    ranged(text, "SYNs/s", 1, keys::MAX_SYN_LIMIT, "a target is to answer them").map(|n| n as u32)
}

/// How a probe asks: a parser of its own, since the method is the probe's and knows nothing of flags.
pub fn method() -> impl TypedValueParser<Value = MethodKind> {
    let names = MethodKind::ALL.map(|method| {
        PossibleValue::new(method.name()).help(match method {
            MethodKind::Udp => "STAMP test packets, RFC 8762",
            MethodKind::Llama => "probes of the older LLAMA written in Go",
            MethodKind::LlamaPython => "probes of the older LLAMA written in Python",
            MethodKind::TcpSyn => "TCP SYNs, to any host",
            MethodKind::Icmp => "ICMP echo requests, to any host",
        })
    });
    PossibleValuesParser::new(names).map(|word| {
        MethodKind::ALL.into_iter().find(|method| method.name() == word).unwrap_or(MethodKind::Udp) // one of them
    })
}

/// Whether reflectors are asked for the class that reached them: a parser of its own, as [`method`]'s.
pub fn verify() -> impl TypedValueParser<Value = Verify> {
    PossibleValuesParser::new(Verify::NAMES.map(|(_, name)| name)).map(|word| {
        Verify::NAMES.into_iter().find(|(_, name)| *name == word).map_or(Verify::Auto, |(verify, _)| verify)
    })
}

/// IPv6 flow labels: a parser of its own, as [`method`]'s.
pub fn flow_labels() -> impl TypedValueParser<Value = FlowLabels> {
    PossibleValuesParser::new(["per-flow", "zero"]).map(|word| match word.as_str() {
        "zero" => FlowLabels::Zero,
        _ => FlowLabels::Own,
    })
}

/// How datagrams go in and out: a parser of its own, since the choice is the network's and knows nothing of flags.
pub fn io() -> impl TypedValueParser<Value = IoChoice> {
    let choices = [
        PossibleValue::new("auto")
            .help("io_uring where the kernel offers all that is needed, else mmsg; the log says which and why"),
        PossibleValue::new("uring").help("io_uring, or fail saying what is missing"),
        PossibleValue::new("mmsg").help("sendmmsg and recvmmsg: same results, more CPU"),
    ];
    PossibleValuesParser::new(choices).map(|word| match word.as_str() {
        "uring" => IoChoice::Uring,
        "mmsg" => IoChoice::Mmsg,
        _ => IoChoice::Auto,
    })
}

/// A class by name (`EF`, `AF41`, `CS6`) or number, 0 to 63.
///
/// # Errors
/// Unknown name, or a number above 63 (which is likely a traffic-class byte, four times the code point).
pub fn dscp(text: &str) -> Result<Dscp, String> {
    class::parse(text).map_err(|error| match text.parse::<u16>() {
        Ok(n) if n < 256 && n % 4 == 0 => format!("{error}; {n} as a traffic-class (ToS) byte is DSCP {}", n / 4),
        _ => error,
    })
}

/// A class for people: `46 (EF)`, or `3` when it has no name.
pub fn dscp_name(dscp: Dscp) -> String {
    match class::name(dscp) {
        Some(_) if dscp.0 == 0 => "0 (best effort)".to_owned(),
        Some(name) => format!("{} ({name})", dscp.0),
        None => dscp.0.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn core_lists() {
        assert_eq!("0,2-3".parse(), Ok(CoreList(vec![0, 2, 3])));
        assert_eq!("3,1, 1-2".parse(), Ok(CoreList(vec![1, 2, 3])));
        for (text, says) in [("", "not a CPU number"), ("3-1", "write 1-3"), ("0-", "not a CPU"), ("4096", "1023")] {
            let error = text.parse::<CoreList>().unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn destinations() {
        let to = |host: &str, port| Ok(Destination { host: host.into(), port });
        assert_eq!("web1".parse(), to("web1", None));
        assert_eq!("web1:862".parse(), to("web1", Some(862)));
        assert_eq!("192.0.2.1:9".parse(), to("192.0.2.1", Some(9)));
        assert_eq!("2001:db8::1".parse(), to("2001:db8::1", None));
        assert_eq!("[2001:db8::1]".parse(), to("2001:db8::1", None));
        assert_eq!("fe80::1%eth0".parse(), to("fe80::1%eth0", None));
        assert_eq!("[fe80::1%eth0]:862".parse(), to("fe80::1%eth0", Some(862)));
        for bad in ["", ":8100", "web1:", "web1:65536", "web1:http", "[::1", "[::1]8100", "a:b:c", "a/b", "a b"] {
            assert!(bad.parse::<Destination>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for (text, says) in [
            ("10", "unit is missing"),
            ("", "more than zero"),
            ("0s", "more than zero"),
            ("-5s", "not a duration"),
            ("5 s", "unit is missing"),
            ("3y", "`y`"),
            ("400d", "a year"),
            ("1..5s", "not a duration"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn numbers_of_bytes() {
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(bytes("2k"), Ok(2048));
        assert_eq!(bytes("500M"), Ok(500 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for (text, says) in
            [("", "not a number"), ("-1", "not a number"), ("3X", "`X`"), ("99999999999T", "more bytes")]
        {
            let error = bytes(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn classes() {
        assert_eq!(dscp("ef"), Ok(Dscp(46)));
        assert_eq!(dscp("46"), Ok(Dscp(46)));
        assert_eq!(dscp("0"), Ok(Dscp(0)));
        assert!(dscp("184").unwrap_err().contains("DSCP 46"));
        assert!(dscp("64").unwrap_err().contains("DSCP 16"));
        assert!(dscp("gold").unwrap_err().contains("EF"));
        assert_eq!(dscp_name(Dscp(46)), "46 (EF)");
        assert_eq!(dscp_name(Dscp(0)), "0 (best effort)");
        assert_eq!(dscp_name(Dscp(3)), "3");
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(listen("[::]:8100"), Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8100))));
        assert_eq!(listen("[fe80::1%lo]:862").map(|address| address.to_string()), Ok("[fe80::1%1]:862".into()));
        assert!(listen("[fe80::1%nowhere]:862").unwrap_err().contains("no interface"));
        assert_eq!(listen(":862"), Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 862))));
        assert!(listen("10.0.0.1").unwrap_err().contains("write 10.0.0.1:8100"));
        assert!(listen("::1").unwrap_err().contains("write [::1]:8100"));
        assert!(listen("host").unwrap_err().contains("0.0.0.0:8100"));
    }

    #[test]
    fn stamp_policies_and_urls() {
        assert_eq!(stamp_policy("8"), Ok(StampPolicy::OneIn(8)));
        assert_eq!(stamp_policy("1"), Ok(StampPolicy::All));
        assert!(stamp_policy("0").is_err());
        assert!(influx_url("http://h:8086?db=x").is_ok());
        assert!(influx_url("https://h?org=a&bucket=b").is_ok());
        assert!(influx_url("h:8086?db=x").unwrap_err().contains("http"));
        assert!(influx_url("http://h:8086").unwrap_err().contains("?db=NAME"));
    }

    #[test]
    fn questions_about_the_matrix() {
        for good in ["http://h:5000", "https://[::1]:5000/", "http://h/llama"] {
            assert!(api_url(good).is_ok(), "{good}");
        }
        for bad in ["h:5000", "http://", "http:///x", "http://h?x=1", "http://h/\u{1b}", "http://h x", "ftp://h"] {
            assert!(api_url(bad).is_err(), "{bad}");
        }
        assert_eq!(key_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_and_value("a="), Ok(("a".into(), String::new())));
        assert!(key_and_value("=b").is_err() && key_and_value("a").is_err());
        assert!(instant("1709209830.5").is_ok() && instant("2024-02-29T12:30:00Z").is_ok());
        assert!(instant("noon").is_err() && instant("nan").is_err() && instant("-1").is_err());
        assert_eq!(whole_seconds("1d"), Ok(Duration::from_secs(86_400)));
        assert!(whole_seconds("1.5s").is_err() && whole_seconds("250ms").is_err());
        assert_eq!(percent("0.5"), Ok(0.5));
        assert!(percent("101").is_err() && percent("nan").is_err());
    }

    proptest! {
        #[test]
        fn destinations_print_as_they_are_read(port in proptest::option::of(1u16..), ip: IpAddr) {
            let there = Destination { host: ip.to_string(), port };
            prop_assert_eq!(there.to_string().parse(), Ok(there));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            let _ = (text.parse::<CoreList>(), text.parse::<Destination>(), duration(&text), dscp(&text), listen(&text));
        }
    }
}
