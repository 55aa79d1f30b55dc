//! Dates as text: RFC 3339 for what we write, HTTP dates for what servers answer.
//!
//! Proleptic Gregorian calendar, UTC only, no leap seconds (as `CLOCK_REALTIME`).

use crate::time::Wall;

const NS_PER_S: u64 = 1_000_000_000;
const S_PER_DAY: u64 = 86_400;

/// `wall` as RFC 3339 in UTC with nine decimals: `2024-02-29T12:30:00.000000001Z`.
pub fn rfc3339(wall: Wall) -> String {
    let (seconds, ns) = (wall.0 / NS_PER_S, wall.0 % NS_PER_S);
    let (year, month, day) = civil_from_days(seconds / S_PER_DAY);
    let of_day = seconds % S_PER_DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// An instant as RFC 3339 writes it: `2024-02-29T12:30:00Z`, with up to nine decimals, in any time zone
/// (`+01:00`); `None` when it is anything else, before 1970, or after the year 2554.
pub fn parse_rfc3339(text: &str) -> Option<Wall> {
    let text = text.trim().as_bytes();
    let (day, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.split_at_checked(9)?;
    let field =
        |bytes: &[u8], at: usize, digits: usize| number(std::str::from_utf8(bytes.get(at..at + digits)?).ok()?, digits);
    let (year, month, date) = (field(day, 0, 4)?, field(day, 5, 2)?, field(day, 8, 2)?);
    let (hour, minute, second) = (field(time, 1, 2)?, field(time, 4, 2)?, field(time, 7, 2)?);
    let separators = [day[4], day[7], time[3], time[6]] == *b"--::" && matches!(time[0], b'T' | b't' | b' ');
    let in_range = year >= 1970 && (1..=12).contains(&month) && hour <= 23 && minute <= 59 && second <= 60;
    if !separators || !in_range || date == 0 || date > days_of(year, month) {
        return None;
    }
    let (ns, zone) = match rest.strip_prefix(b".") {
        None => (0, rest),
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            (field(fraction, 0, digits)? * 10u64.pow(9 - digits as u32), &fraction[digits..])
        }
    };
    let ahead = match zone {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), hours @ ..] if hours.len() == 5 && hours[2] == b':' => {
            let (hours, minutes) = (field(hours, 0, 2)?, field(hours, 3, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = (hours * 3600 + minutes * 60) as i64;
            if *sign == b'-' { -ahead } else { ahead }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, date) * S_PER_DAY + hour * 3600 + minute * 60 + second;
    let ns = seconds.checked_add_signed(-ahead)?.checked_mul(NS_PER_S)?.checked_add(ns)?;
    Some(Wall(ns))
}

/// An HTTP date in its preferred form (RFC 9110 §5.6.7, `Sun, 06 Nov 1994 08:49:37 GMT`) as seconds
/// since 1970; `None` when it is anything else, the two obsolete forms included.
pub fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_weekday, rest) = text.trim().split_once(", ")?;
    let mut parts = rest.split(' ');
    let day = number(parts.next()?, 2)?;
    let name = parts.next()?;
    let month = 1 + MONTHS.iter().position(|m| *m == name)? as u64;
    let year = number(parts.next()?, 4)?;
    let mut clock = parts.next()?.split(':');
    let (hour, minute, second) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    if clock.next().is_some() || parts.next()? != "GMT" || parts.next().is_some() {
        return None;
    }
    // second 60 is a leap second: accepted, counted into the next minute
    if year < 1970 || hour > 23 || minute > 59 || second > 60 || day == 0 || day > days_of(year, month) {
        return None;
    }
    Some(days_from_civil(year, month, day) * S_PER_DAY + hour * 3600 + minute * 60 + second)
}

/// Decimal digits only, exactly `digits` of them.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both functions below count years from March, so that the leap day is the last of its year, and
// work in eras of 400 years = 146 097 days, in which the calendar repeats.
const DAYS_0000_03_01_TO_1970: u64 = 719_468;

/// Year, month 1–12 and day 1–31 of the day `days` after 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_0000_03_01_TO_1970;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a valid date not before it.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - DAYS_0000_03_01_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        // seconds from date(1): date -u -d 2024-02-29T12:30:00 +%s
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_209_800, "2024-02-29T12:30:00"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(rfc3339(Wall(seconds * NS_PER_S + 1)), format!("{text}.000000001Z"));
        }
        assert_eq!(rfc3339(Wall(u64::MAX)), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn http_dates() {
        // the example of RFC 9110
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("Wed, 31 Dec 1969 23:59:59 GMT"), None);
        for wrong in [
            "",
            "120",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 30 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(parse_http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_of_others() {
        let noon = Some(Wall(1_709_209_800 * NS_PER_S));
        for same in
            ["2024-02-29T12:30:00Z", "2024-02-29t12:30:00.0z", "2024-02-29 14:00:00+01:30", "2024-02-28T20:30:00-16:00"]
        {
            assert_eq!(parse_rfc3339(same), noon, "{same}");
        }
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00.5Z"), Some(Wall(NS_PER_S / 2)));
        assert_eq!(parse_rfc3339("2016-12-31T23:59:60Z"), parse_rfc3339("2017-01-01T00:00:00Z"));
        for wrong in [
            "",
            "2024-02-29",
            "2024-02-29T12:30:00",
            "2023-02-29T12:30:00Z",
            "2024-02-29T24:30:00Z",
            "2024-02-29T12:30:00.Z",
            "2024-02-29T12:30:00.1234567890Z",
            "2024-02-29T12:30:00+0100",
            "2024-02-29T12:30:00+24:00",
            "2024-13-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "2555-01-01T00:00:00Z",
            "2024-0ä-29T12:30:00Z",
            "+024-02-29T12:30:00Z",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn instants_come_back(ns in any::<u64>()) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(Wall(ns))), Some(Wall(ns)));
        }

        #[test]
        fn dates_and_days_are_inverse(days in 0u64..3_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert!((1..=12).contains(&month) && day >= 1 && day <= days_of(year, month));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,40}") {
            let _ = parse_http_date(&text);
            let _ = parse_rfc3339(&text);
        }
    }
}
