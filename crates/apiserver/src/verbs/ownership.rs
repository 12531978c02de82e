//! Who owns which fields of what is written: managed fields followed through updates, and server-side apply.

use gantry_object::status::{Cause, CauseReason};
use gantry_object::{GroupVersion, Reason, Status, Value, meta};
use gantry_schema::ownership::{ApplyError, Conflict, FieldSet, Managed, Operation, Tracker, Version, Versions};

use crate::call::{Call, store_resource};
use crate::server::Server;

/// Whether a write's ownership is yet to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    /// The object is what some client wants; who changed what follows from the object before.
    Due,
    /// The managed fields are those to be stored.
    Done,
}

/// The manager of what was there before anybody was followed.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose applies go on where its client-side applies ended.
const KUBECTL: &str = "kubectl";
/// Where client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How many bytes an object's annotations may have together.
const MOST_ANNOTATIONS: usize = 256 << 10;

/// The versions in which a call's kind is served.
pub(crate) struct ServedVersions<'a> {
    server: &'a Server,
    call: &'a Call,
}

impl Versions for ServedVersions<'_> {
    fn version(&self, api_version: &str) -> Option<Version> {
        self.kind(api_version).map(|kind| kind.ownership_version())
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let from = self.kind(object.get("apiVersion")?.as_str()?)?;
        let mut converted = self.kind(api_version)?.from_storage(from.to_storage(object.clone()));
        converted["apiVersion"] = api_version.into();
        Some(converted)
    }
}

impl ServedVersions<'_> {
    fn kind(&self, api_version: &str) -> Option<std::sync::Arc<gantry_kinds::Kind>> {
        let gv = GroupVersion::parse(api_version)?;
        let kind = self.server.kind(&gv.group, &gv.version, &self.call.kind.plural)?;
        (store_resource(&kind) == store_resource(&self.call.kind)).then_some(kind)
    }
}

/// An apply configuration, read.
pub(crate) struct Configuration {
    value: Value,
    /// Members given twice, as strictness names them.
    repeated: Vec<String>,
}

impl Server {
    pub(crate) fn served_versions<'a>(&'a self, call: &'a Call) -> ServedVersions<'a> {
        ServedVersions { server: self, call }
    }

    fn with_tracker<T>(&self, call: &Call, work: impl FnOnce(&Tracker<'_>) -> T) -> T {
        let (versions, api_version) = (self.served_versions(call), call.kind.api_version());
        let scope = call.kind.scope(&call.subresource);
        work(&Tracker { version: call.kind.ownership_version(), api_version: &api_version, scope, versions: &versions })
    }

    /// Notes who owns what of a new object.
    pub(crate) fn track_created(&self, call: &Call, object: &mut Value) {
        self.with_tracker(call, |tracker| self.track(call, tracker, &call.kind.blank(), object));
    }

    /// Notes who owns what of an object that replaces another.
    pub(crate) fn track_changed(&self, call: &Call, live: &Value, object: &mut Value) {
        self.with_tracker(call, |tracker| self.track(call, tracker, live, object));
    }

    /// Notes who owns what after any write but an apply. The managed fields that the client sends are a wish that only the object itself hears.
    pub(crate) fn track(&self, call: &Call, tracker: &Tracker<'_>, live: &Value, object: &mut Value) {
        let given = meta::metadata_mut(object).remove("managedFields").filter(|_| call.subresource.is_empty());
        let before = meta::metadata(live).and_then(|m| m.get("managedFields"));
        let comparison = tracker.compare(live, object);
        if comparison.is_empty() && (given.is_none() || given.as_ref() == before) {
            put(object, before.cloned());
            return;
        }
        let wish = given.as_ref().map(|given| if is_reset(given) { Ok(Managed::default()) } else { Managed::decode(given) });
        let managed = match wish {
            Some(Ok(managed)) if !managed.is_empty() || given.as_ref().is_some_and(is_reset) => managed,
            // Whoever sends none, or what nobody can read, means no change.
            _ => before.map(Managed::decode).and_then(Result::ok).unwrap_or_default(),
        };
        // An object that was there before anybody was followed waits for its first apply.
        if managed.is_empty() && !meta::uid(live).is_empty() {
            return;
        }
        let writer = Operation::Update.by(call.manager(), tracker.api_version, &call.subresource);
        let managed = tracker.update(live, object, comparison, managed, &writer, &self.clock().now().rfc3339());
        put_managed(object, managed);
    }

    /// Reads an apply configuration.
    pub(crate) fn configuration(&self, call: &Call) -> Result<Configuration, Status> {
        let malformed = |why: &dyn std::fmt::Display| Status::bad_request(format!("error decoding YAML: {why}"));
        let (value, repeated) = gantry_schema::parse_document(&call.body).map_err(|e| malformed(&e))?;
        match value {
            Value::Null => Ok(Configuration { value: Value::Object(gantry_object::Map::new()), repeated }),
            Value::Object(_) => Ok(Configuration { value, repeated }),
            _ => Err(malformed(&"error unmarshaling JSON: json: cannot unmarshal into Go value of type map[string]interface {}")),
        }
    }

    /// What an apply makes of an object, or of nothing: the object with its managed fields.
    pub(crate) fn applied(
        &self,
        call: &Call,
        config: &Configuration,
        live: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        self.with_tracker(call, |tracker| self.applied_by(call, tracker, config, live, &call.kind.kind, &call.kind.blank(), warnings))
    }

    /// The same for an object of any kind: a Scale, for example.
    #[expect(clippy::too_many_arguments, reason = "each is one thing an apply is about")]
    pub(crate) fn applied_by(
        &self,
        call: &Call,
        tracker: &Tracker<'_>,
        config: &Configuration,
        live: Option<&Value>,
        kind: &str,
        blank: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        check_configuration(&config.value, tracker.api_version, kind)?;
        let managed = live.and_then(meta::metadata).and_then(|m| m.get("managedFields")).unwrap_or(&Value::Null);
        let undecodable = |why: String| Status::failure(500, Reason::Unknown, format!("failed to decode managed fields: {why}"));
        let mut managed = Managed::decode(managed).map_err(undecodable)?;
        let now = self.clock().now().rfc3339();
        if let (true, Some(live)) = (managed.is_empty(), live) {
            let writer = Operation::Update.by(BEFORE_FIRST_APPLY, tracker.api_version, &call.subresource);
            managed = tracker.update(blank, live, tracker.compare(blank, live), managed, &writer, &now);
        }
        let writer = Operation::Apply.by(&call.params.field_manager, tracker.api_version, &call.subresource);
        let base = live.unwrap_or(blank);
        let force = call.params.force;
        let mut applied = tracker.apply(base, &config.value, managed.clone(), &writer, force, &now);
        if let (Err(ApplyError::Conflicts(conflicts)), KUBECTL) = (&mut applied, call.params.field_manager.as_str()) {
            let known = applied_by_client(tracker, base);
            conflicts.iter_mut().for_each(|c| c.fields.subtract(&known));
            conflicts.retain(|c| !c.fields.is_empty());
            if conflicts.is_empty() {
                applied = tracker.apply(base, &config.value, managed, &writer, true, &now);
            }
        }
        let applied = applied.map_err(|error| refusal(error, &config.value, tracker.api_version, kind))?;
        let mut object = match applied.object {
            Some(merged) => {
                let version = &tracker.version;
                let conformed = match version.open {
                    Some(_) => call.kind.conform(merged),
                    None => version.schema.conform(version.ty, merged),
                };
                conformed
                    .map_err(|e| misfit("failed to convert new object", &config.value, tracker.api_version, kind, &e.to_string()))?
                    .value
            }
            None => base.clone(),
        };
        put_managed(&mut object, applied.managed);
        if call.params.field_manager == KUBECTL {
            follow_client_side(&mut object, &config.value);
        }
        // The version that was read is no precondition unless the configuration names one.
        if meta::text(&config.value, "resourceVersion").is_empty() {
            meta::metadata_mut(&mut object).remove("resourceVersion");
        }
        config.complain(call, warnings)?;
        Ok(object)
    }
}

impl Configuration {
    /// What it says of the object's uid, empty when nothing.
    pub(crate) fn uid(&self) -> &str {
        meta::uid(&self.value)
    }

    /// Makes an error or warnings of members given twice.
    fn complain(&self, call: &Call, warnings: &mut Vec<String>) -> Result<(), Status> {
        use crate::call::FieldValidation;
        if self.repeated.is_empty() || call.field_validation == FieldValidation::Ignore {
            return Ok(());
        }
        let why = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {}", self.repeated.join("\n  "));
        if call.field_validation == FieldValidation::Strict {
            return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
        }
        warnings.clear();
        warnings.push(why.replace('\n', " "));
        Ok(())
    }
}

/// Whether managed fields say that all ownership shall be forgotten: none at all, or a single empty entry.
fn is_reset(managed: &Value) -> bool {
    match managed.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(|o| o.values().all(Value::is_null)),
        _ => false,
    }
}

fn put(object: &mut Value, managed: Option<Value>) {
    let metadata = meta::metadata_mut(object);
    match managed {
        Some(managed) => metadata.insert("managedFields".into(), managed),
        None => metadata.remove("managedFields"),
    };
}

/// Puts managed fields into an object; an object without any has no such member.
pub(crate) fn put_managed(object: &mut Value, managed: Managed) {
    put(object, Some(managed).filter(|m| !m.is_empty()).map(Managed::encode));
}

/// Takes the old times where nothing but times of ownership has changed, so that such a write is none.
pub(crate) fn settle_times(object: &mut Value, live: &Value) {
    let (new, old) = (&object["metadata"]["managedFields"], &live["metadata"]["managedFields"]);
    let (Some(entries), Some(before)) = (new.as_array(), old.as_array()) else { return };
    if new == old || entries.len() != before.len() {
        return;
    }
    // With other times the order may be another one.
    let is_known = |entry: &Value| before.iter().any(|b| timeless(b).eq(timeless(entry)));
    if !entries.iter().all(is_known) {
        return;
    }
    let old = old.clone();
    let new = std::mem::replace(&mut object["metadata"]["managedFields"], old);
    if object != live {
        object["metadata"]["managedFields"] = new;
    }
}

/// An entry's members but for the time.
fn timeless(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "time")
}

/// What must be right about a configuration whatever it is put over.
fn check_configuration(config: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    let text = |member: &str| config.get(member).and_then(Value::as_str).unwrap_or("");
    if (text("apiVersion"), text("kind")) != (api_version, kind) {
        return Err(Status::bad_request(format!("invalid object type: {}", type_of(text("apiVersion"), text("kind")))));
    }
    if meta::metadata(config).and_then(|m| m.get("managedFields")).is_some_and(Value::is_array) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// A group, version and kind as messages about applies name it.
fn type_of(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}

fn misfit(what: &str, config: &Value, api_version: &str, kind: &str, why: &str) -> Status {
    let name = format!("{}/{}; {}", meta::namespace(config), meta::name(config), type_of(api_version, kind));
    Status::failure(500, Reason::Unknown, format!("{what} ({name}): {why}"))
}

fn refusal(error: ApplyError, config: &Value, api_version: &str, kind: &str) -> Status {
    match error {
        ApplyError::Misfit(why) => misfit("failed to create typed patch object", config, api_version, kind, &why),
        ApplyError::Conflicts(conflicts) => conflict(conflicts),
    }
}

/// The refusal of an apply that would change what others own.
fn conflict(mut conflicts: Vec<Conflict>) -> Status {
    conflicts.sort_by_key(|c| c.writer.to_string());
    let causes: Vec<Cause> = conflicts
        .iter()
        .flat_map(|c| c.fields.paths().into_iter().map(|path| (c.writer.to_string(), path)))
        .map(|(writer, field)| Cause { reason: CauseReason::FieldManagerConflict, message: format!("conflict with {writer}"), field })
        .collect();
    let message = match causes.as_slice() {
        [only] => format!("Apply failed with 1 conflict: {}: {}", only.message, only.field),
        many => {
            let told = conflicts.iter().map(|c| {
                let paths = c.fields.paths().iter().map(|path| format!("\n- {path}")).collect::<String>();
                format!("conflicts with {}:{paths}", c.writer)
            });
            format!("Apply failed with {} conflicts: {}", many.len(), told.collect::<Vec<_>>().join("\n"))
        }
    };
    Status::failure(409, Reason::Conflict, message).with_causes(causes)
}

/// What client-side apply has put into an object and is unchanged since. An apply of kubectl's may take that over from whoever owns it.
fn applied_by_client(tracker: &Tracker<'_>, live: &Value) -> FieldSet {
    let last = meta::annotation(live, LAST_APPLIED).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(last) = last.filter(|last| last["apiVersion"] == tracker.api_version) else { return FieldSet::default() };
    let mut fields = tracker.version.fields_of(&last);
    let since = tracker.version.compare(&last, live);
    fields.subtract(&since.changed);
    fields.subtract(&since.removed);
    fields
}

/// Keeps the annotation of client-side apply in step with what kubectl applies here, where there is one.
fn follow_client_side(object: &mut Value, config: &Value) {
    if meta::annotation(object, LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    // As Go writes JSON, with a line's end.
    let text = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n";
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(LAST_APPLIED.into(), text.into());
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MOST_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}
