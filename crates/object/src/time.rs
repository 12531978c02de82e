//! Points in time as the API writes them.

use std::fmt;
use std::time::Duration;

/// A point in time in nanoseconds since 1970 UTC. Comes from the clock port; never read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// A point a number of seconds after 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// The API's `Time`: RFC 3339 in UTC, whole seconds.
    pub fn rfc3339(self) -> String {
        let t = jiff::Timestamp::from_second(self.seconds()).unwrap_or_default();
        t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The API's `MicroTime`: RFC 3339 in UTC with six digits.
    pub fn rfc3339_micros(self) -> String {
        let t = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// RFC 3339 with nine digits, as CRI log lines have it.
    pub fn rfc3339_nanos(self) -> String {
        let t = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        t.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
    }

    /// Reads any RFC 3339 time with its zone; `None` when it isn't one.
    pub fn parse(text: &str) -> Option<Self> {
        // jiff takes more than RFC 3339 does: a space for the T, a named zone in brackets.
        if text.as_bytes().get(10) != Some(&b'T') || text.contains('[') {
            return None;
        }
        let t: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(t.as_nanosecond()).ok().map(Self)
    }

    /// This point moved later.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it isn't after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A duration as kubectl's tables show an age: `5s`, `3m12s`, `4h`, `2d3h`, `1y20d`.
pub fn human_duration(age: Duration) -> String {
    let s = age.as_secs();
    let (m, h, d) = (s / 60, s / 3600, s / 86400);
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match () {
        () if s < 120 => format!("{s}s"),
        () if m < 10 => pair(m, "m", s % 60, "s"),
        () if h < 3 => format!("{m}m"),
        () if h < 8 => pair(h, "h", m % 60, "m"),
        () if h < 48 => format!("{h}h"),
        () if d < 8 => pair(d, "d", h % 24, "h"),
        () if d < 730 => format!("{d}d"),
        () if d < 365 * 8 => pair(d / 365, "y", d % 365, "d"),
        () => format!("{}y", d / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let t = Timestamp::parse("2026-11-23T04:05:06.123456789+01:00").expect("a time");
        assert_eq!(t.rfc3339(), "2026-11-23T03:05:06Z");
        assert_eq!(t.rfc3339_micros(), "2026-11-23T03:05:06.123456Z");
        assert_eq!(t.rfc3339_nanos(), "2026-11-23T03:05:06.123456789Z");
        for bad in ["", "yesterday", "2026-11-23", "2026-11-23 04:05:06Z", "2026-11-23T04:05:06"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (192, "3m12s"),
            (700, "11m"),
            (3600 * 4, "4h"),
            (86400 * 2 + 3600, "2d1h"),
            (86400 * 10, "10d"),
            (86400 * 800, "2y70d"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text);
        }
    }
}
