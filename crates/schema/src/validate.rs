//! Validation the tables carry: what must be given, which values a field may have, bounds and forms of texts and numbers.

use std::net::IpAddr;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, names};

use crate::model::{Field, Form, Limit, Node, Schema, Struct, TypeId};

impl Schema {
    /// What is wrong with a conforming, defaulted tree as far as its table says. What depends on several fields is the kinds' to check.
    pub fn validate(&self, ty: TypeId, value: &Value, path: &Path) -> ErrorList {
        let mut errors = ErrorList::new();
        self.check(ty, value, path, &mut errors);
        errors
    }

    /// What a change touches that its table says may not change. List items are not looked into.
    pub fn validate_immutable(&self, ty: TypeId, new: &Value, old: &Value, path: &Path) -> ErrorList {
        let mut errors = ErrorList::new();
        let Some(s) = self.as_struct(ty).filter(|_| new.is_object() && old.is_object()) else { return errors };
        for field in &s.fields {
            let of = |tree: &'_ Value| tree.get(&field.name).cloned().unwrap_or_default();
            if !field.immutable {
                let (new, old) = (new.get(&field.name), old.get(&field.name));
                if let Some((new, old)) = new.zip(old) {
                    errors.extend(self.validate_immutable(field.ty, new, old, &path.child(&field.name)));
                }
            } else if of(new) != of(old) {
                errors.push(Error::invalid(&path.child(&field.name), of(new), "field is immutable"));
            }
        }
        errors
    }

    fn check(&self, ty: TypeId, value: &Value, path: &Path, errors: &mut ErrorList) {
        match (self.node(ty), value) {
            (Node::Struct(s), Value::Object(_)) => self.check_struct(s, value, path, errors),
            (Node::List(item), Value::Array(items)) if self.has_checks(*item) => {
                items.iter().enumerate().for_each(|(i, v)| self.check(*item, v, &path.index(i), errors));
            }
            (Node::Map(item), Value::Object(members)) if self.has_checks(*item) => {
                members.iter().for_each(|(name, v)| self.check(*item, v, &path.key(name), errors));
            }
            _ => {}
        }
    }

    /// Whether anything inside a type could be wrong.
    fn has_checks(&self, ty: TypeId) -> bool {
        matches!(self.node(ty), Node::Struct(_) | Node::List(_) | Node::Map(_))
    }

    fn check_struct(&self, s: &Struct, value: &Value, path: &Path, errors: &mut ErrorList) {
        for field in &s.fields {
            let given = value.get(&field.name).unwrap_or(&Value::Null);
            if given.is_null() && !field.needed && field.form != Some(Form::NeededPort) {
                continue;
            }
            self.check_field(field, given, || path.child(&field.name), errors);
            if self.has_checks(field.ty) {
                self.check(field.ty, given, &path.child(&field.name), errors);
            }
        }
    }

    /// A text, or each text of a list, must be among its type's values.
    fn check_allowed(&self, ty: TypeId, pointer: bool, value: &Value, path: &dyn Fn() -> Path, errors: &mut ErrorList) {
        match (self.node(ty), value) {
            (Node::List(item), Value::Array(items)) => {
                items.iter().enumerate().for_each(|(i, v)| self.check_allowed(*item, true, v, &|| path().index(i), errors));
            }
            (Node::String(Some(named)), Value::String(text)) if !named.values.contains(text) && (!text.is_empty() || pointer) => {
                let allowed: Vec<&str> = named.values.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
                errors.push(Error::not_supported(&path(), text.as_str(), &allowed));
            }
            _ => {}
        }
    }

    fn check_field(&self, field: &Field, value: &Value, path: impl Fn() -> Path, errors: &mut ErrorList) {
        let empty = match value {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Number(n) => n.as_i64() == Some(0) && field.form.is_some(),
            _ => false,
        };
        if empty && field.needed {
            errors.push(Error::required(&path(), ""));
            return;
        }
        if field.closed {
            self.check_allowed(field.ty, field.pointer, value, &path, errors);
        }
        check_limits(field, value, &path, errors);
        let must_be_given = matches!(field.form, Some(Form::NeededPort | Form::PortOrName | Form::EndpointIp));
        if let Some(form) = field.form.filter(|_| !empty || must_be_given) {
            check_form(form, value, &path(), errors);
        }
    }
}

/// The highest file mode.
const MOST_MODE: i64 = 0o777;

fn check_limits(field: &Field, value: &Value, path: &impl Fn() -> Path, errors: &mut ErrorList) {
    let (mut least, mut most) = (None, None);
    for limit in &field.limits {
        match (limit, value) {
            (Limit::MaxItems(max), Value::Array(items)) if items.len() > *max => errors.push(Error::too_many(&path(), items.len(), *max)),
            (Limit::MaxLength(max), Value::String(text)) if text.len() > *max => errors.push(Error::too_long(&path(), *max)),
            (Limit::Minimum(n), _) => least = Some(*n),
            (Limit::Maximum(n), _) => most = Some(*n),
            _ => {}
        }
    }
    let Some(n) = value.as_i64() else { return };
    if least.is_none_or(|least| n >= least) && most.is_none_or(|most| n <= most) {
        return;
    }
    let detail = match (least, most) {
        (Some(0), Some(MOST_MODE)) => "must be a number between 0 and 0777 (octal), both inclusive".into(),
        (Some(least), Some(most)) => format!("must be between {least} and {most}, inclusive"),
        (Some(1), None) => "must be greater than 0".into(),
        (Some(least), None) => format!("must be greater than or equal to {least}"),
        (None, most) => format!("must be less than or equal to {}", most.unwrap_or_default()),
    };
    errors.push(Error::invalid(&path(), n, &detail));
}

fn check_form(form: Form, value: &Value, path: &Path, errors: &mut ErrorList) {
    let text = value.as_str().unwrap_or_default();
    let problems = match form {
        Form::Label => names::dns1123_label(text),
        Form::Subdomain => names::dns1123_subdomain(text),
        Form::QualifiedName => names::qualified_name(text),
        Form::PortName => names::port_name(text),
        Form::Port | Form::NeededPort => names::port_number(value.as_i64().unwrap_or_default()),
        Form::PortOrName if value.is_string() => names::port_name(text),
        Form::PortOrName => names::port_number(value.as_i64().unwrap_or_default()),
        Form::EnvName => names::env_var_name(text),
        Form::ConfigKey => names::config_key(text),
        Form::Ip => ip(text).err().into_iter().collect(),
        Form::EndpointIp => endpoint_ip(text),
        Form::RelativePath => relative_path(text),
        Form::NoBacksteps => backsteps(text),
        Form::Labels => return check_labels(value, path, errors),
    };
    errors.extend(problems.iter().map(|p| Error::invalid(path, value.clone(), p)));
}

fn check_labels(labels: &Value, path: &Path, errors: &mut ErrorList) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(names::qualified_name(key).iter().map(|p| Error::invalid(path, key.as_str(), p)));
        let text = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(text).iter().map(|p| Error::invalid(&path.key(key), text, p)));
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into())
}

fn endpoint_ip(text: &str) -> Vec<String> {
    let ip = match ip(text) {
        Ok(ip) => ip,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    if ip.is_unspecified() {
        problems.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        problems.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    }
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        problems.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    }
    if ip.is_multicast() {
        problems.push("may not be in the multicast range (224.0.0.0/24, ff00::/8)".into());
    }
    problems
}

fn backsteps(text: &str) -> Vec<String> {
    if text.split('/').any(|step| step == "..") { vec!["must not contain '..'".into()] } else { Vec::new() }
}

fn relative_path(text: &str) -> Vec<String> {
    let mut problems = if text.starts_with('/') { vec!["must be a relative path".into()] } else { Vec::new() };
    problems.extend(backsteps(text));
    if problems.is_empty() && text.starts_with("..") {
        problems.push("must not start with '..'".into());
    }
    problems
}
