//! Selectors: which objects a reader wants, of those that lie in the store and of those that change.

use std::collections::BTreeMap;

use gantry_kinds::Kind;
use gantry_object::fields::FieldSelector;
use gantry_object::labels::Selector;
use gantry_object::{Encoded, Status, Value};
use gantry_store::Event;
use serde_json::json;

use crate::call::Call;

/// Which objects a reader wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) labels: Selector,
    pub(crate) fields: FieldSelector,
}

impl Filter {
    /// Reads the selectors of a call.
    pub(crate) fn of(call: &Call) -> Result<Self, Status> {
        let labels = Selector::parse(&call.params.label_selector).map_err(|e| {
            Status::bad_request(format!("unable to parse requirement: {}", e.0.trim_start_matches("unable to parse requirement: ")))
        })?;
        let fields = FieldSelector::parse(&call.params.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        for requirement in &fields.requirements {
            if !call.kind.field_labels().contains(&requirement.field) {
                let (version, kind) = (call.kind.api_version(), &call.kind.kind);
                let what = format!("field label not supported: {}", requirement.field);
                let prefix = format!(
                    "Unable to find {:?} that match label selector {:?}, field selector {:?}",
                    format!("{version}, Resource={}", call.kind.plural),
                    labels.to_string(),
                    fields.to_string()
                );
                return Err(Status::bad_request(if kind.is_empty() { what } else { format!("{prefix}: {what}") }));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is one of those wanted.
    pub(crate) fn matches(&self, kind: &Kind, object: &Encoded) -> bool {
        self.is_empty() || Selectable::of(kind, object, self.fields.requirements.iter().map(|r| &r.field)).is_some_and(|s| self.chooses(&s))
    }

    /// Whether the object before and the object after an event are wanted.
    pub(crate) fn matches_event(&self, kind: &Kind, event: &Event) -> (bool, bool) {
        let (before, after) = (event.previous(), event.new_object());
        // Where versions differ in form, an event keeps the stored one's facts alone.
        let facts =
            (!self.is_empty() && kind.shows_stored_form()).then(|| event.facts.get_or_init(|| EventFacts::of(kind, event))).flatten();
        match facts {
            Some(facts) if self.is_answered_by(&facts.before) && self.is_answered_by(&facts.after) => {
                let wanted = |s: &Option<Selectable>| s.as_ref().is_some_and(|s| self.chooses(s));
                (wanted(&facts.before), wanted(&facts.after))
            }
            _ => (before.is_some_and(|o| self.matches(kind, o)), after.is_some_and(|o| self.matches(kind, o))),
        }
    }

    /// Whether the facts have every field asked for: a definition may have named more since they were read.
    fn is_answered_by(&self, object: &Option<Selectable>) -> bool {
        object.as_ref().is_none_or(|o| self.fields.requirements.iter().all(|r| o.fields.contains_key(&r.field)))
    }

    fn chooses(&self, object: &Selectable) -> bool {
        self.labels.matches(&object.labels) && self.fields.matches(|field| object.fields.get(field).cloned().unwrap_or_default())
    }
}

/// What selectors look at in an object.
#[derive(Debug)]
struct Selectable {
    labels: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
}

impl Selectable {
    /// Reads an object as far as the fields lie in it. `None` for what cannot be read.
    fn of<'a>(kind: &Kind, object: &Encoded, fields: impl Iterator<Item = &'a String> + Clone) -> Option<Self> {
        let metadata: Value = object.decode_metadata().ok()?;
        let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        let whole = match fields.clone().any(|f| !f.starts_with("metadata.")) {
            true => kind.from_storage(serde_json::from_slice(&object.body).ok()?),
            false => json!({"metadata": metadata}),
        };
        Some(Self { labels, fields: fields.map(|f| (f.clone(), kind.field(&whole, f).unwrap_or_default())).collect() })
    }
}

/// Both sides of an event.
struct EventFacts {
    before: Option<Selectable>,
    after: Option<Selectable>,
}

impl EventFacts {
    fn of(kind: &Kind, event: &Event) -> Self {
        let of = |object: Option<&Encoded>| object.and_then(|o| Selectable::of(kind, o, kind.field_labels().iter()));
        Self { before: of(event.previous()), after: of(event.new_object()) }
    }
}
