//! Schedules of cron jobs: five fields, or a name for a usual one. The syntax is that of cron(5) as `robfig/cron` reads it.

/// The bounds of a field, and names for its numbers beginning with the lowest.
struct Field {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] },
    Field { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const NAMED: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule, in the words clients know.
pub(super) fn complaint(schedule: &str) -> Option<String> {
    let rest = match schedule.split_once(' ') {
        Some((zone, rest)) if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => rest.trim(),
        _ => schedule,
    };
    if rest.is_empty() {
        return Some("empty spec string".into());
    }
    if rest.starts_with('@') {
        let known = NAMED.contains(&rest) || rest.strip_prefix("@every ").is_some_and(is_duration);
        return (!known).then(|| format!("unrecognized descriptor: {rest}"));
    }
    let given: Vec<&str> = rest.split_ascii_whitespace().collect();
    if given.len() != FIELDS.len() {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", given.len(), given.join(" ")));
    }
    FIELDS.iter().zip(given).find_map(|(field, text)| text.split(',').filter(|t| !t.is_empty()).find_map(|t| field.range(t).err()))
}

/// Whether a text is a length of time as Go writes it: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let unit = ["ns", "us", "ms", "s", "m", "h"].into_iter().find(|unit| number.starts_with(unit));
        match unit.filter(|_| number.len() < rest.len()) {
            Some(unit) => rest = &number[unit.len()..],
            None => return false,
        }
    }
    !text.is_empty()
}

impl Field {
    /// Reads `*`, `4`, `1-5`, each with a step or without.
    fn range(&self, text: &str) -> Result<(), String> {
        let parts: Vec<&str> = text.split('/').collect();
        let bounds: Vec<&str> = parts[0].split('-').collect();
        let (from, to) = match bounds.as_slice() {
            ["*" | "?"] => (self.least, self.most),
            [one] => {
                let from = self.number(one)?;
                (from, if parts.len() > 1 { self.most } else { from })
            }
            [from, to] => (self.number(from)?, self.number(to)?),
            _ => return Err(format!("too many hyphens: {text}")),
        };
        let step = match parts.as_slice() {
            [_] => 1,
            [_, step] => integer(step)?,
            _ => return Err(format!("too many slashes: {text}")),
        };
        match () {
            () if from < self.least => Err(format!("beginning of range ({from}) below minimum ({}): {text}", self.least)),
            () if to > self.most => Err(format!("end of range ({to}) above maximum ({}): {text}", self.most)),
            () if from > to => Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}")),
            () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
            () => Ok(()),
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        match (self.least..).zip(self.names).find(|(_, name)| **name == lower) {
            Some((number, _)) => Ok(number),
            None => integer(text),
        }
    }
}

fn integer(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn schedules_that_cron_reads() {
        for good in ["* * * * *", "*/5 0-6 1,15 jan-Mar ?", "5/15 * * * sun", "@daily", "@every 1h30m", "TZ=Asia/Tokyo 0 0 * * *"] {
            assert_eq!(complaint(good), None, "{good}");
        }
    }

    #[test]
    fn and_those_it_does_not() {
        let cases = [
            ("", "empty spec string"),
            ("error", "expected exactly 5 fields, found 1: [error]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every x", "unrecognized descriptor: @every x"),
        ];
        for (schedule, expected) in cases {
            assert_eq!(complaint(schedule).as_deref(), Some(expected));
        }
    }
}
