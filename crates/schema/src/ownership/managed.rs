//! Managed fields: who owns which fields of an object.

use gantry_object::{Map, Value};

use super::set::FieldSet;

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying them.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes: what tells one entry from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The manager's name.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// The version it writes in, as in `apps/v1`.
    pub api_version: String,
    /// The subresource it writes through, empty for the object itself.
    pub subresource: String,
}

impl Writer {
    /// Whether both are one manager: one that applies is the same in every version.
    fn is(&self, other: &Self) -> bool {
        (&self.manager, self.operation, &self.subresource) == (&other.manager, other.operation, &other.subresource)
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// A manager as messages name it.
impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub writer: Writer,
    /// When it last changed something, RFC 3339; `None` when it never did.
    pub time: Option<String>,
    /// Which fields.
    pub fields: FieldSet,
}

/// Who owns which fields of an object, one entry for each manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed(Vec<Entry>);

/// How many entries of updates an object keeps; older ones become one.
const MOST_UPDATERS: usize = 10;
/// The manager that older updates become.
const ANCIENT: &str = "ancient-changes";

impl Managed {
    /// Reads `metadata.managedFields`.
    ///
    /// # Errors
    /// When an entry is malformed.
    pub fn decode(entries: &Value) -> Result<Self, String> {
        let mut managed = Self::default();
        for (i, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |member: &str| entry.get(member).and_then(Value::as_str).unwrap_or("").to_owned();
            let operation = match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".into()),
            };
            if text("apiVersion").is_empty() {
                return Err("apiVersion must not be empty".into());
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
            }
            let fields = FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Value::Null));
            let fields = fields.map_err(|e| format!("error decoding set: {e}"))?;
            let writer = Writer { manager: text("manager"), operation, api_version: text("apiVersion"), subresource: text("subresource") };
            let time = Some(text("time")).filter(|t| !t.is_empty());
            managed.put(Entry { writer, time, fields });
        }
        Ok(managed)
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, in no particular order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(super) fn entries_mut(&mut self) -> &mut Vec<Entry> {
        &mut self.0
    }

    /// The entry of a manager.
    pub fn entry_mut(&mut self, writer: &Writer) -> Option<&mut Entry> {
        self.0.iter_mut().find(|e| e.writer.is(writer))
    }

    /// Takes a manager's entry out.
    pub fn take(&mut self, writer: &Writer) -> Option<Entry> {
        let at = self.0.iter().position(|e| e.writer.is(writer))?;
        Some(self.0.remove(at))
    }

    /// Puts an entry in place of the one its manager has.
    pub fn put(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|e| e.writer.is(&entry.writer)) {
            Some(at) => *at = entry,
            None => self.0.push(entry),
        }
    }

    /// The form of `metadata.managedFields`: appliers first, then by time.
    pub fn encode(mut self) -> Value {
        self.0.sort_by(|a, b| order(a).cmp(&order(b)));
        let entry = |entry: Entry| {
            let mut members = Map::new();
            let Writer { manager, operation, api_version, subresource } = entry.writer;
            let texts = [
                ("manager", manager),
                ("operation", operation.name().into()),
                ("apiVersion", api_version),
                ("time", entry.time.unwrap_or_default()),
                ("fieldsType", "FieldsV1".into()),
                ("subresource", subresource),
            ];
            members.extend(texts.into_iter().filter(|(_, t)| !t.is_empty()).map(|(name, text)| (name.into(), text.into())));
            members.insert("fieldsV1".into(), entry.fields.encode());
            Value::Object(members)
        };
        Value::Array(self.0.into_iter().map(entry).collect())
    }

    /// Makes one entry of the oldest updates of a version while there are too many.
    pub(super) fn cap(&mut self) {
        let is_update = |e: &Entry| e.writer.operation == Operation::Update;
        let mut count = self.0.iter().filter(|e| is_update(e)).count();
        if count <= MOST_UPDATERS {
            return;
        }
        self.0.sort_by(|a, b| order(a).cmp(&order(b)));
        let (mut rest, mut updates): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.0).into_iter().partition(|e| !is_update(e));
        updates.reverse();
        let mut ancient: Vec<Entry> = Vec::new();
        while count > MOST_UPDATERS {
            let Some(oldest) = updates.pop() else { break };
            match ancient.iter_mut().find(|e| e.writer.api_version == oldest.writer.api_version) {
                Some(bucket) => {
                    bucket.fields.union(oldest.fields);
                    bucket.time = oldest.time;
                    bucket.writer.manager = ANCIENT.into();
                    bucket.writer.subresource.clear();
                    count -= 1;
                }
                // The first of a version keeps its name for as long as it is alone.
                None => ancient.push(oldest),
            }
        }
        for entry in ancient {
            // Younger updates may hold an entry of this name already.
            if let Some(at) = updates.iter().position(|e| e.writer.is(&entry.writer)) {
                let younger = updates.remove(at);
                rest.push(Entry { fields: merged(entry.fields, younger.fields), ..younger });
            } else {
                rest.push(entry);
            }
        }
        rest.extend(updates);
        self.0 = rest;
    }
}

fn merged(mut a: FieldSet, b: FieldSet) -> FieldSet {
    a.union(b);
    a
}

/// What entries are sorted by.
fn order(entry: &Entry) -> (Operation, &str, &str, &str, &str) {
    let writer = &entry.writer;
    (writer.operation, entry.time.as_deref().unwrap_or(""), &writer.manager, &writer.api_version, &writer.subresource)
}
