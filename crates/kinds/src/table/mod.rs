//! Tables: what `kubectl get` shows.

pub(crate) mod cells;
mod others;
mod pod;

use gantry_object::{Timestamp, Value, meta};
use serde_json::json;

use crate::registry::{Column, Kind};

/// How much of each object a table's rows carry along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as a PartialObjectMetadata.
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the `includeObject` query parameter; empty means metadata. `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

impl Kind {
    /// The columns of its tables, as a Table carries them.
    pub fn column_definitions(&self) -> Vec<Value> {
        let columns = self.columns.iter();
        let description = |i: usize| self.custom.as_ref().map_or(String::new(), |c| c.column_description(i));
        let with = |(i, c): (usize, &Column)| json!({"name": c.name, "type": c.kind, "format": c.format, "description": description(i), "priority": c.priority});
        columns.enumerate().map(with).collect()
    }

    /// One cell for each column. Ages are counted up to `now`.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.custom {
            Some(custom) => custom.cells(self, object, now),
            None => cells::of(&self.kind, object, now),
        }
    }

    /// One row of a table. `object` is whole, apiVersion, kind and resourceVersion included.
    pub fn table_row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let mut row = json!({"cells": self.cells(object, now)});
        if let Some(condition) = (self.kind == "Pod" && self.custom.is_none()).then(|| pod::row_condition(object)).flatten() {
            row["conditions"] = json!([condition]);
        }
        row["object"] = match include {
            IncludeObject::None => Value::Null,
            IncludeObject::Object => object.clone(),
            IncludeObject::Metadata => partial_metadata(object),
        };
        row
    }

    /// A Table of objects, which are whole. `metadata` is the list's (resourceVersion, continue) or empty; watches send tables of one row, and the
    /// columns only with the first (`with_columns`).
    pub fn table<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a Value>,
        metadata: Value,
        include: IncludeObject,
        with_columns: bool,
        now: Timestamp,
    ) -> Value {
        let rows: Vec<Value> = objects.into_iter().map(|o| self.table_row(o, include, now)).collect();
        let columns = with_columns.then(|| self.column_definitions());
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
    }
}

/// An object's metadata as an object of its own.
pub fn partial_metadata(object: &Value) -> Value {
    let metadata = meta::metadata(object).cloned().unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}
