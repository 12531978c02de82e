//! How apply sees a type: what is owned as a whole, and what is owned piece by piece.

use gantry_object::{Map, Value};

use super::open::{Object, Open};
use super::set::Element;
use crate::model::{Field, ListKind, Node, Schema, Struct, TypeId};

/// How apply sees a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'s> {
    /// Owned as a whole: a scalar, or something atomic.
    Whole,
    /// Members that the schema names, each owned by itself.
    Struct(&'s Struct),
    /// Members of any name.
    Map(TypeId),
    /// What a definition says of a custom resource or a part of it, and the type that metadata have.
    Open(&'s Object, TypeId),
    /// A list whose scalars are owned one by one.
    Set,
    /// A list whose items are told apart by keys.
    Keyed(Item<'s>, &'s [String]),
    /// Unknown to the schema: objects are maps, anything else is a whole.
    Unknown,
}

/// What the items of a list are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'s> {
    /// Of a type of the schema.
    Typed(TypeId),
    /// What a definition says, and the type that metadata have.
    Open(&'s Open, TypeId),
}

impl Shape<'_> {
    /// Whether the schema names this member, which then isn't owned itself as long as something below it is.
    pub(super) fn declares(&self, name: &str) -> bool {
        match self {
            Shape::Struct(s) => s.field(name).is_some(),
            Shape::Open(object, _) => object.properties.contains_key(name) || object.embedded && TYPED.contains(&name),
            _ => false,
        }
    }
}

impl Schema {
    /// The shape of a type where nothing more is said of it. A list is then owned as a whole.
    pub(super) fn shape(&self, ty: TypeId) -> Shape<'_> {
        match self.node(ty) {
            Node::Struct(s) if s.atomic => Shape::Whole,
            Node::Struct(s) => Shape::Struct(s),
            Node::Map(item) => Shape::Map(*item),
            Node::Raw | Node::FieldsV1 | Node::Any => Shape::Unknown,
            _ => Shape::Whole,
        }
    }

    /// The shape of a struct's member.
    pub(super) fn field_shape<'s>(&'s self, field: &'s Field) -> Shape<'s> {
        match (self.node(field.ty), &field.list) {
            (Node::List(_), Some(ListKind::Set)) => Shape::Set,
            (Node::List(item), Some(ListKind::Map(keys))) => Shape::Keyed(Item::Typed(*item), keys),
            _ if field.atomic => Shape::Whole,
            _ => self.shape(field.ty),
        }
    }

    /// The shape of a member of an object; `None` when the schema doesn't know it.
    pub(super) fn member_shape<'s>(&'s self, shape: Shape<'s>, name: &str) -> Option<Shape<'s>> {
        match shape {
            Shape::Struct(s) => s.field(name).map(|field| self.field_shape(field)),
            Shape::Map(item) => Some(self.shape(item)),
            Shape::Open(object, _) if object.embedded && matches!(name, "apiVersion" | "kind") => Some(Shape::Whole),
            Shape::Open(object, meta) if object.embedded && name == "metadata" => Some(self.shape(meta)),
            Shape::Open(object, meta) => {
                let named = object.properties.get(name).map(|(open, _)| open);
                named.or(object.others.as_ref()).map(|open| open_shape(open, meta))
            }
            Shape::Unknown => Some(Shape::Unknown),
            Shape::Whole | Shape::Set | Shape::Keyed(..) => None,
        }
    }

    /// The shape of a list's item.
    pub(super) fn item_shape<'s>(&'s self, shape: Shape<'s>) -> Shape<'s> {
        match shape {
            Shape::Keyed(Item::Typed(item), _) => self.shape(item),
            Shape::Keyed(Item::Open(item, meta), _) => open_shape(item, meta),
            _ => Shape::Whole,
        }
    }

    /// The step that leads to an item of a list.
    ///
    /// # Errors
    /// When the item cannot be told apart, in the words clients see.
    pub(super) fn item_element(&self, shape: Shape<'_>, item: &Value) -> Result<Element, String> {
        let Shape::Keyed(of, keys) = shape else {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(Element::value(scalar)),
            };
        };
        let members = match item {
            Value::Object(members) => members,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let default = |key: &str| match of {
            Item::Typed(ty) => self.as_struct(ty)?.field(key).filter(|f| f.published_default)?.default.clone(),
            Item::Open(item, _) => item.default_of(key).cloned(),
        };
        let values = keys.iter().filter_map(|key| Some((key.clone(), members.get(key).cloned().or_else(|| default(key))?)));
        let found: Map = values.collect();
        if found.is_empty() {
            let keys = keys.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(" ");
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{keys}] (and doesn't have default values for any key fields)"
            ));
        }
        Ok(Element::key(found))
    }
}

/// Members that every object of the API has.
pub(super) const TYPED: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The shape of what a definition describes.
pub(super) fn open_shape(open: &Open, meta: TypeId) -> Shape<'_> {
    match open {
        Open::Unknown => Shape::Unknown,
        Open::Scalar(_) | Open::Whole => Shape::Whole,
        Open::Set(_) => Shape::Set,
        Open::Keyed(keyed) => Shape::Keyed(Item::Open(&keyed.item, meta), &keyed.keys),
        Open::Object(object) => Shape::Open(object, meta),
    }
}

/// Whether there is nothing in a list or object.
pub(super) fn is_vacant(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

/// Whether two values are equal, whole numbers and fractions alike.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b))),
        _ => a == b,
    }
}
