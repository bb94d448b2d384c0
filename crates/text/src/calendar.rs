//! Dates, times and timestamps as text, over the whole range of the numbers that hold them: what is printed here is
//! read here as the same number. The calendar is the proleptic Gregorian one. A text is read whole: what is left over
//! would be dropped, and another value found than the one that was asked for.
//!
//! Years from 0001 to 9999 have four digits. All others are written as ISO 8601 extends them, with a sign and at least
//! four digits: `+10000-01-01`, and before the year 0001 `+0000` and `-0001`, which are 1 BC and 2 BC.

use std::fmt::Write as _;

const SECONDS_PER_DAY: i64 = 86_400;
/// Digits of a year that certainly do not overflow; those that 64 bits of seconds reach have twelve.
const YEAR_DIGITS: usize = 15;
/// Digits of a number of hours that certainly do not overflow; those that 64 bits of microseconds reach have ten, and of
/// seconds sixteen.
const HOUR_DIGITS: usize = 17;

/// Whether a timestamp is written with its offset from UTC: `Z`, `UTC`, `+01`, `+0130`, `+01:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// A clock's reading, which has none.
    Never,
    /// An instant; without an offset it is in UTC, and a date alone is its midnight.
    OrUtc,
    /// An instant, which nobody has to guess.
    Always,
}

/// Days since 1970-01-01, from `2026-01-31`.
#[must_use]
pub fn parse_date(text: &[u8]) -> Option<i64> {
    let mut rest = text;
    let days = date(&mut rest)?;
    rest.is_empty().then_some(days)
}

/// Units since midnight, from `23:59`, `23:59:59.5`, and beyond a day `24:00`, `-00:00:01`. A digit that the unit has no
/// place for must be a zero.
#[must_use]
pub fn parse_time(text: &[u8], per_second: i64) -> Option<i64> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let length = leading_digits(rest);
    if !(2..=HOUR_DIGITS).contains(&length) {
        return None;
    }
    let hours = digits(&mut rest, length)?;
    let (seconds, units) = after_hours(&mut rest, per_second)?;
    let count = (i128::from(hours) * 3600 + i128::from(seconds)) * i128::from(per_second) + i128::from(units);
    rest.is_empty().then(|| i64::try_from(if negative { -count } else { count }).ok())?
}

/// Units since 1970-01-01T00:00:00, from `2026-01-31T23:59:59.5`, `2026-01-31 23:59+01:00`, `2026-01-31`.
#[must_use]
pub fn parse_timestamp(text: &[u8], per_second: i64, offset: Offset) -> Option<i64> {
    let mut rest = text;
    let mut seconds = i128::from(date(&mut rest)?) * i128::from(SECONDS_PER_DAY);
    let mut units = 0;
    if let [b'T' | b't' | b' ', time @ ..] = rest {
        rest = time;
        let hours = digits(&mut rest, 2).filter(|hours| *hours < 24)?;
        let (more, fraction) = after_hours(&mut rest, per_second)?;
        seconds += i128::from(hours * 3600 + more);
        units = fraction;
    } else if offset == Offset::Always {
        return None;
    }
    match (offset, rest.is_empty()) {
        (Offset::Never | Offset::OrUtc, true) => {}
        (Offset::Never, false) | (Offset::Always, true) => return None,
        (Offset::OrUtc | Offset::Always, false) => seconds -= i128::from(offset_seconds(rest)?),
    }
    i64::try_from(seconds * i128::from(per_second) + i128::from(units)).ok()
}

/// What [`parse_date`] reads.
#[must_use]
pub fn print_date(days: i64) -> String {
    let mut text = String::new();
    push_date(days, &mut text);
    text
}

/// What [`parse_time`] reads.
#[must_use]
pub fn print_time(count: i64, per_second: i64) -> String {
    let mut text = String::new();
    if count < 0 {
        text.push('-');
    }
    push_time(count.unsigned_abs(), per_second, &mut text);
    text
}

/// What [`parse_timestamp`] reads; of an instant, in UTC.
#[must_use]
pub fn print_timestamp(count: i64, per_second: i64, instant: bool) -> String {
    let per_day = SECONDS_PER_DAY * per_second;
    let mut text = String::new();
    push_date(count.div_euclid(per_day), &mut text);
    text.push('T');
    push_time(count.rem_euclid(per_day).unsigned_abs(), per_second, &mut text);
    if instant {
        text.push('Z');
    }
    text
}

fn push_date(days: i64, text: &mut String) {
    let (year, month, day) = civil_of(days);
    // Writing to a text cannot fail.
    let _ = match year {
        1..=9999 => write!(text, "{year:04}-{month:02}-{day:02}"),
        _ => write!(text, "{year:+05}-{month:02}-{day:02}"),
    };
}

fn push_time(count: u64, per_second: i64, text: &mut String) {
    let per_second = per_second.unsigned_abs().max(1);
    let (seconds, fraction) = (count / per_second, count % per_second);
    let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        let width = per_second.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
}

/// The number that these digits are. At most [`HOUR_DIGITS`] of them: this cannot overflow.
#[inline]
fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (front, after) = rest.split_at_checked(count)?;
    let mut value = 0_i64;
    for byte in front {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    *rest = after;
    Some(value)
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[inline]
fn literal(rest: &mut &[u8], wanted: u8) -> Option<()> {
    let after = rest.strip_prefix(&[wanted])?;
    *rest = after;
    Some(())
}

fn date(rest: &mut &[u8]) -> Option<i64> {
    let year = match *rest {
        [sign @ (b'+' | b'-'), after @ ..] => {
            *rest = after;
            let length = leading_digits(rest);
            if !(4..=YEAR_DIGITS).contains(&length) {
                return None;
            }
            let year = digits(rest, length)?;
            if *sign == b'-' { -year } else { year }
        }
        _ => digits(rest, 4)?,
    };
    literal(rest, b'-')?;
    let month = digits(rest, 2)?;
    literal(rest, b'-')?;
    let day = digits(rest, 2)?;
    let valid = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    valid.then(|| days_since_epoch(year, month, day))
}

/// Seconds and parts of a second of what follows the hours: `:59`, `:59:59`, `:59:59.5`.
#[inline]
fn after_hours(rest: &mut &[u8], per_second: i64) -> Option<(i64, i64)> {
    literal(rest, b':')?;
    let minutes = digits(rest, 2)?;
    let (mut seconds, mut units) = (0, 0);
    if literal(rest, b':').is_some() {
        seconds = digits(rest, 2)?;
        if literal(rest, b'.').is_some() {
            let length = leading_digits(rest);
            if length == 0 {
                return None;
            }
            let mut place = per_second;
            for _ in 0..length {
                let digit = digits(rest, 1)?;
                place /= 10;
                if place == 0 && digit != 0 {
                    return None;
                }
                units += digit * place;
            }
        }
    }
    (minutes <= 59 && seconds <= 59).then_some((minutes * 60 + seconds, units))
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (negative, mut rest) = match text {
        [b'Z' | b'z'] | [b'U', b'T', b'C'] => return Some(0),
        [b'+', rest @ ..] => (false, rest),
        [b'-', rest @ ..] => (true, rest),
        _ => return None,
    };
    let hours = digits(&mut rest, 2)?;
    let mut minutes = 0;
    if !rest.is_empty() {
        // With a colon or without.
        let _ = literal(&mut rest, b':');
        minutes = digits(&mut rest, 2)?;
    }
    if hours > 23 || minutes > 59 || !rest.is_empty() {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if negative { -seconds } else { seconds })
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// The two directions of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the
// day that is sometimes there is a year's last, and 400 of them are 146,097 days, always.
const DAYS_OF_ERA: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * DAYS_OF_ERA + day_of_era - DAYS_TO_EPOCH
}

/// Year, month and day. No number of days overflows here that stands in 64 bits of seconds.
fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(DAYS_TO_EPOCH);
    let day_of_era = days.rem_euclid(DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days.div_euclid(DAYS_OF_ERA) * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

    #[test]
    fn dates_of_any_year_are_read_as_they_are_printed() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("9999-12-31", 2_932_896),
            ("+10000-01-01", 2_932_897),
            ("0001-01-01", -719_162),
            // Astronomers' years: 1 BC is a leap year.
            ("+0000-12-31", -719_163),
            ("+0000-02-29", -719_469),
            ("-0001-12-31", -719_529),
            // The ends of 32 bits.
            ("+5881580-07-11", i64::from(i32::MAX)),
            ("-5877641-06-23", i64::from(i32::MIN)),
        ] {
            assert_eq!(parse_date(text.as_bytes()), Some(days), "{text}");
            assert_eq!(print_date(days), text);
        }
        for (text, days) in [("0000-12-31", -719_163), ("+002000-02-29", 11_016), ("-0000-12-31", -719_163)] {
            assert_eq!(parse_date(text.as_bytes()), Some(days), "{text}");
        }
    }

    /// Every day of eight hundred years, counted one after the other.
    #[test]
    fn the_day_after_a_day_is_the_next_one() {
        let (mut year, mut month, mut day) = (1599, 12, 31);
        for days in -135_141..157_054 {
            assert_eq!(civil_of(days), (year, month, day), "{days}");
            assert_eq!(days_since_epoch(year, month, day), days);
            day += 1;
            if day > days_of(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (2400, 1, 1));
    }

    #[test]
    fn times_within_a_day_before_and_after_it_are_read_as_they_are_printed() {
        for (text, micros) in [
            ("00:00:00", 0),
            ("23:59:59.9", 86_399_900_000),
            ("24:00:00", 86_400_000_000),
            ("-00:00:00.000001", -1),
            ("100:00:01", 360_001_000_000),
            ("2562047788:00:54.775807", i64::MAX),
            ("-2562047788:00:54.775808", i64::MIN),
        ] {
            assert_eq!(parse_time(text.as_bytes(), 1_000_000), Some(micros), "{text}");
            assert_eq!(print_time(micros, 1_000_000), text);
        }
        for (text, per_second, count) in [("01:02", 1, 3_720), ("24:00", 1, 86_400), ("00:00:01.5000", 1_000, 1_500)] {
            assert_eq!(parse_time(text.as_bytes(), per_second), Some(count), "{text}");
        }
    }

    #[test]
    fn the_ends_of_every_unit_are_read_as_they_are_printed() {
        let micros = [("+294247-01-10T04:00:54.775807", i64::MAX), ("-290308-12-21T19:59:05.224192", i64::MIN)];
        for (text, count) in micros {
            assert_eq!(print_timestamp(count, 1_000_000, false), text);
        }
        for per_second in UNITS {
            let per_day = SECONDS_PER_DAY * per_second;
            let around = [i64::MIN, -per_day, -1, 0, 1, per_day, 253_402_300_799, 253_402_300_800, i64::MAX];
            for count in around.iter().flat_map(|count| [count.saturating_sub(1), *count, count.saturating_add(1)]) {
                let plain = print_timestamp(count, per_second, false);
                assert_eq!(parse_timestamp(plain.as_bytes(), per_second, Offset::Never), Some(count), "{plain}");
                let instant = print_timestamp(count, per_second, true);
                assert_eq!(parse_timestamp(instant.as_bytes(), per_second, Offset::Always), Some(count), "{instant}");
                let time = print_time(count, per_second);
                assert_eq!(parse_time(time.as_bytes(), per_second), Some(count), "{time}");
            }
        }
    }

    #[test]
    fn an_offset_is_taken_off_where_there_may_be_one() {
        for (text, offset, seconds) in [
            ("1970-01-01T01:00:00+01:00", Offset::Always, Some(0)),
            ("1970-01-01 00:00:00-0130", Offset::OrUtc, Some(5_400)),
            ("1970-01-01 00:00 UTC", Offset::Always, Some(0)),
            ("1970-01-01t01:00+01", Offset::Always, Some(0)),
            ("1970-01-01T00:00:00z", Offset::OrUtc, Some(0)),
            ("1970-01-02", Offset::OrUtc, Some(86_400)),
            ("1970-01-02", Offset::Never, Some(86_400)),
            ("1970-01-02", Offset::Always, None),
            ("1970-01-01T00:00:00", Offset::Always, None),
            ("1970-01-01T00:00:00Z", Offset::Never, None),
            ("1970-01-01T00:00:00+01:00", Offset::Never, None),
            ("1970-01-02Z", Offset::Always, None),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes(), 1, offset), seconds, "{text} {offset:?}");
        }
    }

    #[test]
    fn a_text_that_is_not_whole_or_not_exact_is_none() {
        for text in [
            "",
            "2024",
            "2024-01",
            "2024-1-1",
            "20240101",
            "2024-01-01 ",
            " 2024-01-01",
            "2024-01-01T00:00",
            "2024-13-01",
            "2024-00-01",
            "2024-01-32",
            "2024-01-00",
            "2023-02-29",
            "1900-02-29",
            "10000-01-01",
            "+999-01-01",
            "+-2024-01-01",
            "+1234567890123456-01-01",
            "2024/01/01",
            "2024-01-01Z",
            "２０２４-01-01",
        ] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        for text in [
            "",
            "1:00",
            "01",
            "01:",
            "01:2",
            "01:60",
            "01:00:60",
            "01:00:",
            "01:00:00.",
            "01:00:00.0000001",
            "01:00:00x",
            "01:00:00 ",
            "+01:00",
            "--01:00",
            "01:00Z",
            "2024-01-01T01:00:00",
            "01:00:00,5",
            "0100",
            "123456789012345678:00",
            "99999999999999999:00",
        ] {
            assert_eq!(parse_time(text.as_bytes(), 1_000), None, "{text}");
        }
        for text in [
            "2024-01-01T",
            "2024-01-01T1:00",
            "2024-01-01T24:00:00",
            "2024-01-01T23:59:60",
            "2024-01-01T-1:00",
            "2024-01-01x00:00",
            "2024-01-01  00:00",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+01:60",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+01:",
            "2024-01-01T00:00:00+01:00x",
            "2024-01-01T00:00:00Z ",
            "2024-01-01T00:00:00  Z",
            "2024-01-01T00:00:00CET",
            "2024-01-01T00:00:00+01:00[Europe/Paris]",
            "2024-01-01T00:00:00.0000001Z",
            "+294248-01-01T00:00:00Z",
            "-290309-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes(), 1_000_000, Offset::OrUtc), None, "{text}");
        }
    }
}
