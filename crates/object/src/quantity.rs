//! Amounts of resources: `100m`, `1.5Gi`, `2e3`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `n`, `u`, `m`, `k`, `M`, …
    Decimal,
    /// `e3`
    Exponent,
}

/// An exact amount, kept in billionths, with the format it was given in.
///
/// Finer parts than a billionth are rounded up, as upstream does. Amounts beyond 2^63-1 are capped there.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
const CAP: i128 = (i64::MAX as i128) * NANO;

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseQuantityError;

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    }
}

impl std::error::Error for ParseQuantityError {}

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

fn suffix(text: &str) -> Option<(Format, u32, i32)> {
    if let Some((_, shift)) = BINARY.iter().find(|(s, _)| *s == text) {
        return Some((Format::Binary, *shift, 0));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == text) {
        return Some((Format::Decimal, 0, *exponent));
    }
    let exponent = text.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some((Format::Exponent, 0, exponent.parse().unwrap_or(if exponent.starts_with('-') { -1000 } else { 1000 })))
}

/// `digits * 10^exponent * 2^shift` in billionths, rounded away from zero and capped.
fn scale(digits: &str, exponent: i32, shift: u32) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    if digits.len() as i64 + i64::from(exponent) > 28 {
        return CAP;
    }
    let exponent = exponent + 9;
    let drop = usize::try_from(-exponent).unwrap_or(0);
    // With a binary suffix a fraction beyond the billionth may still count: keep 30 digits and shift before dividing.
    let (kept, cut) = if digits.len() > 30 { digits.split_at(30) } else { (digits, "") };
    let rest = cut.bytes().any(|c| c != b'0');
    let drop = drop as i64 - cut.len() as i64;
    let mut n: i128 = kept.parse().unwrap_or(i128::MAX);
    n = n.checked_mul(1i128 << shift.min(62)).unwrap_or(i128::MAX);
    if drop > 0 {
        let Some(divisor) = u32::try_from(drop).ok().and_then(|d| 10i128.checked_pow(d)) else { return 1 };
        let up = rest || n % divisor != 0;
        n = n / divisor + i128::from(up);
    } else {
        let power = (if exponent > 0 { i64::from(exponent) } else { 0 }) + cut.len() as i64;
        let factor = u32::try_from(power).ok().and_then(|p| 10i128.checked_pow(p)).unwrap_or(i128::MAX);
        n = n.saturating_mul(factor);
    }
    n.min(CAP)
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseQuantityError);
        }
        let (format, shift, exponent) = suffix(unit).ok_or(ParseQuantityError)?;
        let fraction = fraction.trim_end_matches('0');
        let nanos = scale(&format!("{whole}{fraction}"), exponent.saturating_sub(fraction.len() as i32), shift);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

impl Quantity {
    /// A whole amount.
    pub fn whole(amount: i64) -> Self {
        Self { nanos: i128::from(amount) * NANO, format: Format::Decimal }
    }

    /// An amount in thousandths, as CPU is counted.
    pub fn millis(amount: i64) -> Self {
        Self { nanos: i128::from(amount) * (NANO / 1000), format: Format::Decimal }
    }

    /// A whole amount written with binary suffixes, as memory is.
    pub fn bytes(amount: i64) -> Self {
        Self { nanos: i128::from(amount) * NANO, format: Format::Binary }
    }

    /// The amount rounded up to a whole number.
    pub fn value(self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    /// The amount as a floating-point number, as near as there is one.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is nothing at all.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, written as the left side was.
    pub fn plus(self, other: Self) -> Self {
        Self { nanos: (self.nanos + other.nanos).clamp(-CAP, CAP), format: self.format }
    }

    /// The difference, written as the left side was.
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: (self.nanos - other.nanos).clamp(-CAP, CAP), format: self.format }
    }
}

fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

fn div_up(n: i128, by: i128) -> i128 {
    if n >= 0 { (n + by - 1) / by } else { -((-n + by - 1) / by) }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // Binary amounts below 1024, or with a fraction, are written the decimal way.
        if self.format == Format::Binary && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0 {
            let whole = self.nanos / NANO;
            let best = BINARY.iter().rev().find(|(_, shift)| whole % (1i128 << shift) == 0);
            return match best {
                Some((unit, shift)) => write!(f, "{}{unit}", whole >> shift),
                None => write!(f, "{whole}"),
            };
        }
        let mut exponent = -9;
        let mut n = self.nanos;
        while exponent < 18 && n % 1000 == 0 {
            n /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (Format::Exponent, 0) => write!(f, "{n}"),
            (Format::Exponent, _) => write!(f, "{n}e{exponent}"),
            _ => {
                let unit = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(unit, _)| unit);
                write!(f, "{n}{unit}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_become_canonical() {
        let cases = [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1500m", "1500m"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("100e3", "100e3"),
            ("12e6", "12e6"),
            ("0.5Mi", "512Ki"),
            ("500Ki", "500Ki"),
            ("-1", "-1"),
            ("+2", "2"),
            ("0.000000001", "1n"),
            ("0.0000000001", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("1024", "1024"),
            ("64Mi", "64Mi"),
            ("9223372036854775807", "9223372036854775807"),
        ];
        for (text, canonical) in cases {
            assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()), Ok(canonical.to_string()), "{text}");
        }
        for bad in ["", "x", "1x", "1 Gi", "--1", "1..2", ".", "1e", "1Kii", "0x1", "e3", "1ki"] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseQuantityError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn canonical_form_is_stable_and_equal(n in any::<i32>(), fraction in 0u32..1000, unit in "(|m|k|M|G|Ki|Mi|Gi|e2)") {
            let text = format!("{n}.{fraction}{unit}");
            let q: Quantity = text.parse().expect("well formed");
            let again: Quantity = q.to_string().parse().expect("canonical form is well formed");
            prop_assert_eq!(q, again);
            prop_assert_eq!(q.to_string(), again.to_string());
        }
    }
}
