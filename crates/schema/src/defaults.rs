//! Defaults the tables carry.

use gantry_object::{Map, Value};

use crate::model::{Node, Schema, Struct, TypeId};

impl Schema {
    /// Fills in the tables' defaults, through lists, maps and structs. A struct that is given by pointer is not made for its members' defaults.
    pub fn apply_defaults(&self, ty: TypeId, value: &mut Value) {
        match (self.node(ty), value) {
            (Node::Struct(s), Value::Object(members)) => self.default_struct(s, members),
            (Node::List(item), Value::Array(items)) => items.iter_mut().for_each(|v| self.apply_defaults(*item, v)),
            (Node::Map(item), Value::Object(members)) => members.values_mut().for_each(|v| self.apply_defaults(*item, v)),
            _ => {}
        }
    }

    fn default_struct(&self, s: &Struct, members: &mut Map) {
        for field in &s.fields {
            if let Some(default) = &field.default {
                let given = members.get(&field.name).is_some_and(|v| match v {
                    Value::Null => false,
                    _ if field.pointer => true,
                    Value::String(s) => !s.is_empty(),
                    Value::Number(n) => n.as_i64() != Some(0),
                    Value::Bool(b) => *b,
                    _ => true,
                });
                // An empty text as default of a member left out when empty changes nothing.
                if !given && (field.pointer || !field.omit_empty || *default != Value::String(String::new())) {
                    members.insert(field.name.clone(), default.clone());
                }
            }
            match members.get_mut(&field.name) {
                Some(value) => self.apply_defaults(field.ty, value),
                None if !field.pointer && self.as_struct(field.ty).is_some() => {
                    let mut value = Value::Object(Map::new());
                    self.apply_defaults(field.ty, &mut value);
                    members.insert(field.name.clone(), value);
                }
                None => {}
            }
        }
    }
}
