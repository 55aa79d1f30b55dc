//! Numbers for people: times with a fitting unit, counts with their thousands apart, percentages.

use crate::time::Wall;
use std::time::Duration;

/// Nanoseconds with three significant digits and a fitting unit: `950 ns`, `21.3 µs`, `1.20 ms`, `2.00 s`.
pub fn time(ns: f64) -> String {
    let size = ns.abs();
    // the limits are where rounding to three digits would show a fourth
    if size < 999.5 {
        return if ns.fract() == 0.0 || size >= 99.5 { format!("{ns:.0} ns") } else { format!("{ns:.1} ns") };
    }
    let (value, unit) = match size {
        s if s < 999.5e3 => (ns / 1e3, "µs"),
        s if s < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A span between two round numbers of nanoseconds: `20 – 50 µs`, `800 µs – 1 ms`.
pub fn span(from_ns: u64, to_ns: u64) -> String {
    let ((from, unit), (to, to_unit)) = (round(from_ns), round(to_ns));
    if unit == to_unit { format!("{from} – {to} {unit}") } else { format!("{from} {unit} – {to} {to_unit}") }
}

/// A round number of nanoseconds without trailing zeros: `1.5 ms`.
pub fn edge(ns: u64) -> String {
    let (number, unit) = round(ns);
    format!("{number} {unit}")
}

fn round(ns: u64) -> (String, &'static str) {
    let (scale, unit) = match ns {
        n if n < 1_000 => (1.0, "ns"),
        n if n < 1_000_000 => (1e3, "µs"),
        n if n < 1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let digits = format!("{:.3}", ns as f64 / scale);
    (digits.trim_end_matches('0').trim_end_matches('.').to_owned(), unit)
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A count with a blank between thousands from 10 000 on: `1234`, `12 345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// A count of things: `1 path`, `12 345 paths`.
pub fn several(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A percentage that does not round loss away: `0 %`, `0.002 %`, `3.0 %`, `100 %`; `<0.001 %` below that.
pub fn percent(p: f64) -> String {
    match p {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.001 => "<0.001 %".to_owned(),
        p if p < 0.0995 => format!("{p:.3} %"),
        p if p < 0.995 => format!("{p:.2} %"),
        p if p < 99.95 => format!("{p:.1} %"),
        // all is lost only when all is lost
        p if p < 100.0 => ">99.9 %".to_owned(),
        _ => "100 %".to_owned(),
    }
}

/// A length of time for people: `0.5 s`, `5.0 s`, `2 min 30 s`, `1 h 5 min`.
pub fn elapsed(time: Duration) -> String {
    let s = time.as_secs_f64();
    let whole = s.round() as u64;
    match whole {
        _ if s < 59.95 => format!("{s:.1} s"),
        n if n < 3600 => format!("{} min {} s", n / 60, n % 60),
        n => format!("{} h {} min", n / 3600, n % 3600 / 60),
    }
}

/// Packets or probes per second: `1000/s`, `12 500/s`, `0.50/s`.
pub fn rate(per_second: f64) -> String {
    if per_second < 9.95 && per_second.fract() != 0.0 {
        format!("{per_second:.2}/s")
    } else {
        format!("{}/s", count(per_second.round() as u64))
    }
}

/// Bytes with a binary unit: `512 B`, `12.5 MiB`.
pub fn bytes(n: u64) -> String {
    match n {
        n if n < 1 << 10 => format!("{n} B"),
        n if n < 1 << 20 => format!("{} KiB", three_digits(n as f64 / 1024.0)),
        n if n < 1 << 30 => format!("{} MiB", three_digits(n as f64 / f64::from(1 << 20))),
        n => format!("{} GiB", three_digits(n as f64 / f64::from(1 << 30))),
    }
}

/// The time of day in UTC.
pub fn clock(wall: Wall) -> String {
    let s = wall.0 / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_keep_three_digits() {
        let shown: Vec<String> =
            [0.0, 7.25, 950.0, 999.9, 21_300.0, 999_900.0, 1_200_000.0, 2e9, -21_300.0].map(time).into();
        assert_eq!(
            shown,
            ["0 ns", "7.2 ns", "950 ns", "1.00 µs", "21.3 µs", "1.00 ms", "1.20 ms", "2.00 s", "-21.3 µs"]
        );
        assert_eq!(span(20_000, 50_000), "20 – 50 µs");
        assert_eq!(span(800_000, 1_000_000), "800 µs – 1 ms");
        assert_eq!(edge(1_500_000), "1.5 ms");
    }

    #[test]
    fn counts_and_shares() {
        assert_eq!([0, 1234, 12_345, 1_234_567].map(count), ["0", "1234", "12 345", "1 234 567"]);
        assert_eq!(
            [0.0, 0.0004, 0.0021, 0.5, 3.0, 48.44, 99.97, 100.0].map(percent),
            ["0 %", "<0.001 %", "0.002 %", "0.50 %", "3.0 %", "48.4 %", ">99.9 %", "100 %"]
        );
        assert_eq!([0.5, 200.0, 12_500.4].map(rate), ["0.50/s", "200/s", "12 500/s"]);
        assert_eq!([0, 1, 12_345].map(|n| several(n, "path")), ["0 paths", "1 path", "12 345 paths"]);
        assert_eq!([512, 13_107_200].map(bytes), ["512 B", "12.5 MiB"]);
        assert_eq!(
            [0.5, 59.97, 150.0, 3900.0].map(|s| elapsed(Duration::from_secs_f64(s))),
            ["0.5 s", "1 min 0 s", "2 min 30 s", "1 h 5 min"]
        );
    }

    proptest! {
        #[test]
        fn only_nothing_is_shown_as_zero_and_only_all_as_hundred(lost in 0u64..=100_000, more in 0u64..100_000) {
            let sent = lost + more;
            prop_assume!(sent > 0);
            let shown = percent(100.0 * lost as f64 / sent as f64);
            prop_assert_eq!(shown == "0 %", lost == 0);
            prop_assert_eq!(shown == "100 %", lost == sent);
        }
    }
}
