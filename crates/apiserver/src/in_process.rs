//! The API server as a client in the same process: no TLS, no sockets, and everything else of the pipeline.

use bytes::Bytes;
use gantry_client::{Api, Request, Response, Watch, WatchEvent, WatchStream};
use gantry_object::{ObjectName, Resource, Status};
use gantry_ports::BoxFuture;
use tokio::sync::mpsc;

use crate::authorize::Attributes;
use crate::call::{Answer, Call, FieldValidation, Media, Notes, verb_name};
use crate::http::has_verb;
use crate::server::Server;
use crate::user::User;
use crate::verbs::watch::{Change, Told, WatchOptions};

/// How many events may wait for a slow watcher in this process.
const BUFFER: usize = 256;

/// A client that acts as one user, in the API server's own process.
#[derive(Clone, Debug)]
pub struct LocalClient {
    server: Server,
    user: User,
}

impl LocalClient {
    pub(crate) fn new(server: Server, user: User) -> Self {
        Self { server, user }
    }

    fn call_of(&self, resource: &Resource, verb: gantry_client::Verb, object: ObjectName) -> Result<Call, Status> {
        let kind = self.server.kind(resource.group, resource.version, resource.plural).ok_or_else(Status::no_such_path)?;
        Ok(Call {
            user: self.user.clone(),
            verb,
            kind,
            subresource: String::new(),
            object,
            params: gantry_client::Params::default(),
            field_validation: FieldValidation::Ignore,
            media: Media::Json,
            body: Bytes::new(),
            agent: component(&self.user).into(),
            query_options: None,
            // What a cluster needs to start does not wait for what runs on it.
            own: self.user.name == "system:apiserver",
            notes: Notes::default(),
        })
    }
}

impl Api for LocalClient {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let mut call =
                self.call_of(&request.resource, request.verb, ObjectName { namespace: request.namespace, name: request.name })?;
            call.subresource = request.subresource.unwrap_or("").into();
            call.params = request.params;
            call.body = request.body;
            if !has_verb(&call.kind, &call.subresource, &call.object, call.verb) {
                return Err(Status::method_not_supported(&call.resource(), verb_name(call.verb)));
            }
            let answered = self.server.perform(call).await?;
            Ok(match answered.answer {
                Answer::Object { object, .. } => Response::Object(object),
                Answer::List(c) => Response::List { items: c.items, revision: c.revision, continue_token: c.continue_token },
                Answer::Transient { value, .. } => Response::Transient(Bytes::from(value.to_string())),
                Answer::Status(status) => Response::Status(status),
            })
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let mut call = self.call_of(&watch.resource, gantry_client::Verb::List, ObjectName::new(&watch.namespace, ""))?;
            call.params = watch.params;
            // No version means "now" here unless the initial events are asked for, so both are said.
            call.params.resource_version_match = "NotOlderThan".into();
            if let Some(from) = watch.from {
                call.params.resource_version = from.to_string();
            }
            self.server.authorizer().check(self.server.store(), &self.user, &Attributes::of(&call, "watch"))?;
            let initial_events = Some(watch.initial_events);
            let mut feed = self.server.start_watch(call, WatchOptions { bookmarks: true, initial_events }).await?;
            let (send, events) = mpsc::channel(BUFFER);
            self.server.tasks().spawn(async move {
                loop {
                    let told = gantry_ports::select! {
                        told = feed.next() => told,
                        () = send.closed() => None,
                    };
                    let Some(event) = told.map(event) else { break };
                    if send.send(event).await.is_err() {
                        break;
                    }
                }
            });
            Ok(WatchStream::new(events))
        })
    }
}

/// The program that acts as a user, by the name its writes are known under.
fn component(user: &User) -> &'static str {
    match user.name.as_str() {
        "system:kube-scheduler" => "kube-scheduler",
        "system:apiserver" => "kube-apiserver",
        "system:kube-controller-manager" => "kube-controller-manager",
        name if name.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        _ if user.node_name().is_some() => "kubelet",
        _ => "gantry",
    }
}

fn event(told: Told) -> WatchEvent {
    match told {
        Told::Change { change: Change::Added, object, .. } => WatchEvent::Added(object),
        Told::Change { change: Change::Modified, object, .. } => WatchEvent::Modified(object),
        Told::Change { change: Change::Deleted, object, .. } => WatchEvent::Deleted(object),
        Told::Bookmark { revision, initial_end } => WatchEvent::Bookmark { revision, initial_events_end: initial_end },
        Told::Gone(status) => WatchEvent::Error(status),
    }
}
