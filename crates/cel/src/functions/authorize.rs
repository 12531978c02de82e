//! Questions about what the user of a request may do.

use super::Function;
use super::special::Special;
use super::text::text;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

/// Who tells what a user may do.
pub trait Authority {
    /// The answer to a question.
    fn decide(&self, question: &Question) -> Verdict;
}

/// What is asked: about a path, or about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The namespace and name of the service account that is asked for, not the user itself.
    pub service_account: Option<(String, String)>,
    /// The path, when it is about one.
    pub path: Option<String>,
    /// What is to be done.
    pub verb: String,
    /// The group of the resource.
    pub group: String,
    /// Its plural.
    pub resource: String,
    /// A part of it.
    pub subresource: String,
    /// Where it is.
    pub namespace: String,
    /// Which it is.
    pub name: String,
    /// Which fields it has.
    pub field_selector: Option<String>,
    /// Which labels it has.
    pub label_selector: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the user may.
    pub allowed: bool,
    /// Why, if that is said.
    pub reason: String,
    /// What went wrong when it was found out.
    pub error: Option<String>,
}

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "path" => path,
        "group" => group,
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |_, args| refined(args, |q, text| q.subresource = text),
        "namespace" => |_, args| refined(args, |q, text| q.namespace = text),
        "name" => |_, args| refined(args, |q, text| q.name = text),
        "fieldSelector" => |_, args| refined(args, |q, text| q.field_selector = Some(text)),
        "labelSelector" => |_, args| refined(args, |q, text| q.label_selector = Some(text)),
        "check" => check,
        "allowed" => |_, args| verdict(args).map(|v| Val::Bool(v.allowed)),
        "reason" => |_, args| verdict(args).map(|v| v.reason.clone().into()),
        "errored" => |_, args| verdict(args).map(|v| Val::Bool(v.error.is_some())),
        "error" => |_, args| verdict(args).map(|v| v.error.clone().unwrap_or_default().into()),
        _ => return None,
    })
}

fn path<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let path = text(args, 1)?;
    if path.is_empty() {
        return Err(Fault::new("path must not be empty"));
    }
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Authorizer(authority, question) => {
                Ok(Special::PathCheck(authority.clone(), Question { path: Some(path.into()), ..question.clone() }).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn group<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let group = text(args, 1)?.to_owned();
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Authorizer(authority, question) => {
                Ok(Special::GroupCheck(authority.clone(), Question { group, ..question.clone() }).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn service_account<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !gantry_object::names::dns1123_subdomain(name).is_empty() {
        return Err(Fault::new("Invalid service account name"));
    }
    if !gantry_object::names::dns1123_label(namespace).is_empty() {
        return Err(Fault::new("Invalid service account namespace"));
    }
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Authorizer(authority, question) => {
                let service_account = Some((namespace.to_owned(), name.to_owned()));
                Ok(Special::Authorizer(authority.clone(), Question { service_account, ..question.clone() }).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn resource<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let resource = text(args, 1)?.to_owned();
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::GroupCheck(authority, question) => {
                Ok(Special::ResourceCheck(authority.clone(), Question { resource, ..question.clone() }).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn refined<'a>(args: &[Val<'a>], change: fn(&mut Question, String)) -> Outcome<'a> {
    let text = text(args, 1)?.to_owned();
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::ResourceCheck(authority, question) => {
                let mut question = question.clone();
                change(&mut question, text);
                Ok(Special::ResourceCheck(authority.clone(), question).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn check<'a>(cx: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let verb = text(args, 1)?.to_owned();
    cx.work(1_000)?;
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::PathCheck(authority, question) | Special::ResourceCheck(authority, question) => {
                Ok(Special::Decision(authority.decide(&Question { verb, ..question.clone() })).into())
            }
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn verdict<'v>(args: &'v [Val<'_>]) -> Result<&'v Verdict, Fault> {
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Decision(verdict) => Ok(verdict),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}
