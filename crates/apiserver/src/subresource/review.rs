//! Questions about identity and permission: answered and forgotten.

use gantry_object::{Status, Value, meta};
use serde_json::json;

use crate::authorize::Attributes;
use crate::call::{Answer, Call};
use crate::server::Server;
use crate::user::User;

impl Server {
    pub(super) async fn review(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut review = self.decode(call, warnings)?;
        meta::metadata_mut(&mut review).remove("managedFields");
        let status = match call.kind.kind.as_str() {
            "TokenReview" => self.token_review(&review["spec"]),
            "SelfSubjectReview" => json!({"userInfo": call.user.to_value()}),
            "SelfSubjectAccessReview" => self.access_review(call, &call.user, &review["spec"])?,
            "SubjectAccessReview" => self.access_review(call, &user_of(&review["spec"]), &review["spec"])?,
            "LocalSubjectAccessReview" => {
                let namespace = review["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or("");
                if namespace != call.object.namespace {
                    let why = "spec.resourceAttributes.namespace must match namespace";
                    return Err(Status::bad_request(why));
                }
                self.access_review(call, &user_of(&review["spec"]), &review["spec"])?
            }
            "SelfSubjectRulesReview" => self.rules_review(&call.user, &review["spec"]),
            _ => return Err(Status::method_not_supported(&call.resource(), call.verb_name())),
        };
        review["status"] = status;
        Ok(Answer::Transient { value: review, created: true })
    }

    fn token_review(&self, spec: &Value) -> Value {
        let token = spec["token"].as_str().unwrap_or("");
        let asked: Vec<&str> = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let audiences = if asked.is_empty() { vec![self.config().issuer.as_str()] } else { asked };
        match self.authenticate_token(token, &audiences) {
            Ok(user) => json!({"authenticated": true, "user": user.to_value(), "audiences": audiences}),
            Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
        }
    }

    fn access_review(&self, call: &Call, user: &User, spec: &Value) -> Result<Value, Status> {
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let refuse = |why: &str| {
            let path = gantry_object::field::Path::new("spec");
            let error = gantry_object::field::Error::invalid(&path.child("resourceAttributes"), resource.clone(), why);
            Err(Status::invalid(&call.kind.gvk(), "", &vec![error]))
        };
        if user.name.is_empty() && user.groups.is_empty() {
            return refuse("at least one of user or group must be specified");
        }
        let text = |object: &Value, member: &str| object[member].as_str().unwrap_or("").to_owned();
        let what = match (resource.is_object(), path.is_object()) {
            (true, false) => Attributes {
                verb: text(resource, "verb"),
                group: text(resource, "group"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: text(resource, "namespace"),
                name: text(resource, "name"),
                path: String::new(),
            },
            (false, true) => Attributes::path(&text(path, "verb"), &text(path, "path")),
            (true, true) => return refuse("cannot be specified in combination with resourceAttributes"),
            (false, false) => return refuse("exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        };
        Ok(match self.authorizer().decide(self.store(), user, &what) {
            Ok(()) => json!({"allowed": true}),
            Err(why) if why.is_empty() => json!({"allowed": false}),
            Err(why) => json!({"allowed": false, "reason": why}),
        })
    }

    fn rules_review(&self, user: &User, spec: &Value) -> Value {
        let namespace = spec["namespace"].as_str().unwrap_or("");
        let rules = self.authorizer().rules(self.store(), user, namespace);
        let (resources, paths): (Vec<_>, Vec<_>) = rules.into_iter().partition(|r| r.non_resource_urls.is_empty());
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
    }
}

/// The user a review asks about.
fn user_of(spec: &Value) -> User {
    let texts =
        |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect() };
    let extra = spec["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values))).collect();
    let text = |member: &str| spec[member].as_str().unwrap_or("").to_owned();
    User { name: text("user"), uid: text("uid"), groups: texts(&spec["groups"]), extra }
}
