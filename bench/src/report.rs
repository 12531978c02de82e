//! Rows of figures, as a table for people and JSON for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

/// Which side of the bar is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    /// A figure beside others: no bar of its own.
    None,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    /// What was measured beside it: name, figure, unit.
    pub(crate) beside: Vec<(String, f64, &'static str)>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, measured: f64, unit: &'static str, bar: Bar) -> Self {
        Self { what: what.into(), measured, unit, bar, beside: Vec::new() }
    }

    /// The same with another figure beside it.
    pub(crate) fn beside(mut self, what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        self.beside.push((what.into(), figure, unit));
        self
    }

    /// Whether the bar is met, if there is one.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.bar {
            Bar::AtMost(bar) => Some(self.measured <= bar),
            Bar::AtLeast(bar) => Some(self.measured >= bar),
            Bar::None => None,
        }
    }

    fn to_json(&self) -> Value {
        let (side, bar) = match self.bar {
            Bar::AtMost(bar) => ("at most", json!(bar)),
            Bar::AtLeast(bar) => ("at least", json!(bar)),
            Bar::None => ("", Value::Null),
        };
        let beside: Map<String, Value> =
            self.beside.iter().map(|(what, figure, unit)| (what.clone(), json!({"figure": figure, "unit": unit}))).collect();
        json!({"what": self.what, "measured": self.measured, "unit": self.unit, "bar": bar, "side": side, "met": self.met(), "beside": beside})
    }
}

/// A figure with as many digits as mean something.
fn number(figure: f64) -> String {
    match figure.abs() {
        f if f >= 100.0 => format!("{figure:.0}"),
        f if f >= 10.0 => format!("{figure:.1}"),
        f if f >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

/// Rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from("| what | measured | bar | met | beside it |\n|---|---|---|---|---|\n");
    for row in rows {
        let bar = match row.bar {
            Bar::AtMost(bar) => format!("≤ {} {}", number(bar), row.unit),
            Bar::AtLeast(bar) => format!("≥ {} {}", number(bar), row.unit),
            Bar::None => String::new(),
        };
        let met = row.met().map_or("", |met| if met { "yes" } else { "no" });
        let beside: Vec<String> = row.beside.iter().map(|(what, figure, unit)| format!("{what} {} {unit}", number(*figure))).collect();
        // Writing to a String does not fail.
        let _ = writeln!(out, "| {} | {} {} | {bar} | {met} | {} |", row.what, number(row.measured), row.unit, beside.join(", "));
    }
    out
}

/// Rows with the machine they were measured on.
pub(crate) fn document(name: &str, machine: &Value, notes: &[String], rows: &[Row]) -> Value {
    json!({"name": name, "machine": machine, "notes": notes, "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_bar_is_met() {
        let row = |bar| Row::new("x", 1.5, "ms", bar).beside("F", 0.25, "ms");
        assert_eq!([Bar::AtMost(2.0), Bar::AtLeast(2.0), Bar::None].map(|bar| row(bar).met()), [Some(true), Some(false), None]);
        assert!(table(&[row(Bar::AtMost(2.0))]).ends_with("| x | 1.50 ms | ≤ 2.00 ms | yes | F 0.250 ms |\n"));
        assert_eq!(row(Bar::AtLeast(2.0)).to_json()["beside"]["F"]["figure"], json!(0.25));
    }
}
