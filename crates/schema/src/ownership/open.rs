//! How apply sees a custom resource: what of its definition's schema says who owns what.

use std::collections::BTreeMap;

use gantry_object::Value;

/// What apply needs of a definition's `openAPIV3Schema`, or of a part of it.
#[derive(Debug, Default)]
pub enum Open {
    /// Anything: objects are maps, whatever else is owned as a whole.
    #[default]
    Unknown,
    /// A scalar.
    Scalar(Scalar),
    /// An object or list that is owned as a whole. What it must be is not looked at here.
    Whole,
    /// A list whose scalars are owned one by one.
    Set(Scalar),
    /// A list whose items are told apart by keys.
    Keyed(Box<Keyed>),
    /// An object.
    Object(Box<Object>),
}

/// What a scalar must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scalar {
    /// Any scalar.
    #[default]
    Any,
    /// true or false.
    Boolean,
    /// A number.
    Number,
    /// A text.
    String,
}

/// A list whose items are told apart by keys.
#[derive(Debug)]
pub struct Keyed {
    pub(super) keys: Vec<String>,
    pub(super) item: Open,
}

/// An object.
#[derive(Debug, Default)]
pub struct Object {
    pub(super) properties: BTreeMap<Box<str>, (Open, Option<Value>)>,
    /// What members that are not named are; `None` when there may be none.
    pub(super) others: Option<Open>,
    /// Has an apiVersion, a kind and metadata like any object of the API.
    pub(super) embedded: bool,
}

impl Open {
    /// Reads the schema of a whole resource. No schema leaves everything open.
    pub fn read(schema: &Value) -> Self {
        let mut root = match Self::part(schema, false) {
            Self::Object(object) => object,
            _ => Box::new(Object { others: Some(Self::Unknown), ..Object::default() }),
        };
        root.embedded = true;
        Self::Object(root)
    }

    /// `preserves`: whether something above lets unknown members be.
    fn part(schema: &Value, preserves: bool) -> Self {
        let is = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or("");
        let preserves = preserves || is("x-kubernetes-preserve-unknown-fields");
        match text("type") {
            "boolean" => Self::Scalar(Scalar::Boolean),
            "integer" | "number" => Self::Scalar(Scalar::Number),
            "string" => Self::Scalar(Scalar::String),
            "array" => Self::list(schema, preserves),
            "object" if text("x-kubernetes-map-type") == "atomic" => Self::Whole,
            "object" => Self::object(schema, preserves, is("x-kubernetes-embedded-resource")),
            _ if is("x-kubernetes-int-or-string") => Self::Scalar(Scalar::Any),
            _ => Self::Unknown,
        }
    }

    fn list(schema: &Value, preserves: bool) -> Self {
        let item = schema.get("items").map_or(Self::Unknown, |items| Self::part(items, preserves));
        match (schema.get("x-kubernetes-list-type").and_then(Value::as_str), item) {
            (Some("set"), Self::Scalar(scalar)) => Self::Set(scalar),
            (Some("set"), _) => Self::Set(Scalar::Any),
            (Some("map"), item) => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys = keys.into_iter().flatten().filter_map(|k| k.as_str().map(Into::into)).collect();
                Self::Keyed(Box::new(Keyed { keys, item }))
            }
            _ => Self::Whole,
        }
    }

    fn object(schema: &Value, preserves: bool, embedded: bool) -> Self {
        let property = |(name, schema): (&String, &Value)| {
            let default = schema.get("default").filter(|d| !d.is_null()).cloned();
            (name.as_str().into(), (Self::part(schema, preserves), default))
        };
        let properties: BTreeMap<_, _> = schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(property).collect();
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(allowed)) => allowed.then_some(Self::Unknown),
            Some(additional @ Value::Object(_)) => Some(Self::part(additional, preserves)),
            // An object of which nothing is said may hold anything.
            _ => (preserves || properties.is_empty()).then_some(Self::Unknown),
        };
        Self::Object(Box::new(Object { properties, others, embedded }))
    }

    /// The default a member of an object has.
    pub(super) fn default_of(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(object) => object.properties.get(name)?.1.as_ref(),
            _ => None,
        }
    }
}
