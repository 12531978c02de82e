//! Amounts of what pods use up.

use std::collections::BTreeMap;

use gantry_object::Quantity;

/// CPU in thousandths, everything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral: i64,
    pub(crate) other: BTreeMap<String, i64>,
}

impl Amounts {
    pub(crate) fn read(quantities: &BTreeMap<String, String>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in quantities {
            let Ok(quantity) = text.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral = quantity.value(),
                "pods" => {}
                _ => {
                    amounts.other.insert(name.clone(), quantity.value());
                }
            }
        }
        amounts
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.change(more, 1);
    }

    pub(crate) fn take(&mut self, less: &Self) {
        self.change(less, -1);
    }

    fn change(&mut self, by: &Self, sign: i64) {
        self.cpu += sign * by.cpu;
        self.memory += sign * by.memory;
        self.ephemeral += sign * by.ephemeral;
        for (name, amount) in &by.other {
            *self.other.entry(name.clone()).or_default() += sign * amount;
        }
    }

    /// The larger of each.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.other {
            let mine = self.other.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }
}
