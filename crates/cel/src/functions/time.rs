//! Times and lengths of time.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::Function;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

const SECOND: i64 = 1_000_000_000;
/// The first and last second that can be told, in seconds since 1970: years 1 and 9999.
const FIRST: i128 = -62_135_596_800;
const LAST: i128 = 253_402_300_799;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "duration" => duration,
        "timestamp" => timestamp,
        "getFullYear" => |_, args| part(args, |t| t.year().into()),
        "getMonth" => |_, args| part(args, |t| i64::from(t.month()) - 1),
        "getDayOfYear" => |_, args| part(args, |t| i64::from(t.day_of_year()) - 1),
        "getDayOfMonth" => |_, args| part(args, |t| i64::from(t.day()) - 1),
        "getDate" => |_, args| part(args, |t| t.day().into()),
        "getDayOfWeek" => |_, args| part(args, |t| t.weekday().to_sunday_zero_offset().into()),
        "getHours" => |_, args| clock(args, 3600 * SECOND, |t| t.hour().into()),
        "getMinutes" => |_, args| clock(args, 60 * SECOND, |t| t.minute().into()),
        "getSeconds" => |_, args| clock(args, SECOND, |t| t.second().into()),
        "getMilliseconds" => milliseconds,
        _ => return None,
    })
}

/// A time, if it can be told.
pub(crate) fn in_range<'a>(nanos: i128) -> Outcome<'a> {
    let seconds = nanos.div_euclid(SECOND.into());
    if (FIRST..=LAST).contains(&seconds) { Ok(Val::Timestamp(nanos)) } else { Err(Fault::new("timestamp overflow")) }
}

fn duration<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Duration(d) => Ok(Val::Duration(*d)),
        Val::Int(i) => Ok(Val::Duration(*i)),
        Val::String(text) => {
            parse_duration(text).map(Val::Duration).ok_or_else(|| Fault::new(format!("time: invalid duration {:?}", &**text)))
        }
        _ => Err(Fault::NoOverload),
    }
}

fn timestamp<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::Timestamp(t) => Ok(Val::Timestamp(*t)),
        Val::Int(i) => in_range(i128::from(*i) * i128::from(SECOND)),
        Val::String(text) => match parse_timestamp(text) {
            Some(t) => in_range(t),
            None => Err(Fault::new(format!("parsing time {:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse it", &**text))),
        },
        _ => Err(Fault::NoOverload),
    }
}

/// A length of time as Go writes it: `1h30m`, `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| *n > 0)?;
        let (digits, after) = rest.split_at(number);
        let (unit, factor) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", SECOND),
            ("m", 60 * SECOND),
            ("h", 3600 * SECOND),
        ]
        .into_iter()
        .find(|(unit, _)| after.starts_with(unit))?;
        total += scaled(digits, factor)?;
        rest = &after[unit.len()..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Digits, maybe with a fraction, times a unit.
fn scaled(digits: &str, factor: i64) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(factor.into())?;
    let mut unit = i128::from(factor);
    for digit in fraction.bytes() {
        unit /= 10;
        total += i128::from(digit - b'0') * unit;
    }
    Some(total)
}

/// A length of time as schemas allow it: also days and weeks, and units in words.
pub(crate) fn parse_schema_duration(text: &str) -> Option<i64> {
    if let Some(plain) = parse_duration(text) {
        return Some(plain);
    }
    let text = text.trim();
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| *n > 0)?;
    let (digits, unit) = text.split_at(number);
    let factor = match unit.trim() {
        "nano" | "nanosecond" | "nanoseconds" | "nanos" => 1,
        "micro" | "microsecond" | "microseconds" | "micros" | "micross" => 1_000,
        "milli" | "millisecond" | "milliseconds" | "millis" => 1_000_000,
        "sec" | "second" | "seconds" | "secs" => SECOND,
        "min" | "minute" | "minutes" | "mins" => 60 * SECOND,
        "hr" | "hour" | "hours" | "hrs" => 3600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "wk" | "week" | "weeks" | "wks" => 7 * 86_400 * SECOND,
        _ => return None,
    };
    i64::try_from(scaled(digits, factor)?).ok()
}

/// A time as RFC 3339 writes it, in nanoseconds since 1970.
pub(crate) fn parse_timestamp(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && matches!(bytes[10], b'T' | b't') && !text.contains('[');
    let zoned =
        text.ends_with(['Z', 'z']) || bytes.len() >= 25 && matches!(bytes[bytes.len() - 6], b'+' | b'-') && bytes[bytes.len() - 3] == b':';
    if !shaped || !zoned {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
}

/// A day, as the time it begins in UTC.
pub(crate) fn parse_day(text: &str) -> Option<i128> {
    (text.len() == 10).then(|| parse_timestamp(&format!("{text}T00:00:00Z"))).flatten()
}

/// A time as RFC 3339 writes it, in UTC.
pub(crate) fn show_timestamp(nanos: i128) -> String {
    jiff::Timestamp::from_nanosecond(nanos).map_or_else(|_| String::new(), |t| t.to_string())
}

/// A length of time in seconds.
pub(crate) fn show_duration(nanos: i64) -> String {
    let (whole, fraction) = (nanos / SECOND, (nanos % SECOND).unsigned_abs());
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    match format!("{fraction:09}").trim_end_matches('0') {
        "" => format!("{sign}{whole}s"),
        digits => format!("{sign}{whole}.{digits}s"),
    }
}

fn zone(name: &str) -> Result<TimeZone, Fault> {
    let unknown = || Fault::new(format!("unknown time zone {name}"));
    if matches!(name, "" | "UTC" | "Z") {
        return Ok(TimeZone::UTC);
    }
    // A fixed distance from UTC: -08:00, 02:00.
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.trim_start_matches(['-', '+']).parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        let seconds = hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60));
        let offset = Offset::from_seconds(if negative { -seconds } else { seconds }).map_err(|_| unknown())?;
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(name).map_err(|_| unknown())
}

fn civil(args: &[Val<'_>]) -> Result<DateTime, Fault> {
    let Val::Timestamp(nanos) = args[0] else { return Err(Fault::NoOverload) };
    let at = jiff::Timestamp::from_nanosecond(nanos).map_err(|_| Fault::new("timestamp overflow"))?;
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(Val::String(name)) => zone(name)?,
        Some(_) => return Err(Fault::NoOverload),
    };
    Ok(zone.to_datetime(at))
}

fn part<'a>(args: &[Val<'a>], of: fn(DateTime) -> i64) -> Outcome<'a> {
    civil(args).map(of).map(Val::Int)
}

/// A part of the time of day, or how many such parts a length of time has.
fn clock<'a>(args: &[Val<'a>], unit: i64, of: fn(DateTime) -> i64) -> Outcome<'a> {
    match args[0] {
        Val::Duration(nanos) => Ok(Val::Int(nanos / unit)),
        _ => part(args, of),
    }
}

fn milliseconds<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    clock(args, 1_000_000, |t| t.millisecond().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            (".5ms", Some(500_000)),
            ("1", None),
            ("", None),
            ("s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(parse_schema_duration("2 days"), Some(172_800 * SECOND));
        assert_eq!(show_duration(-1_500_000_000), "-1.5s");
        assert_eq!(show_duration(-500_000_000), "-0.5s");
        assert_eq!(show_duration(3_600_000_000_000), "3600s");
    }

    #[test]
    fn times_are_read_and_shown() {
        let shown = |text: &str| parse_timestamp(text).map(show_timestamp);
        assert_eq!(shown("2011-08-18T19:03:37.010000000+01:00").as_deref(), Some("2011-08-18T18:03:37.01Z"));
        assert_eq!(shown("2011-08-18"), None);
        assert_eq!(shown("2011-08-18T19:03:37"), None);
        assert_eq!(parse_day("1970-01-02"), Some(86_400_000_000_000));
    }
}
