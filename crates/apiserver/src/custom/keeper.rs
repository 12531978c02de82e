//! The task that looks after definitions: their names, and their objects when they are deleted. Namespaces are emptied by their controller.

use std::sync::Arc;
use std::time::Duration;

use gantry_client::{DeleteOptions, Params, Verb};
use gantry_kinds::{CLEANUP_FINALIZER, Kind, set_condition};
use gantry_object::{ObjectName, Status, Value, meta};
use gantry_store::{CommitError, Event, Key, Txn};

use super::{DEFINITIONS, Names, names};
use crate::call::{Call, FieldValidation, Media, Notes, store_resource};
use crate::server::Server;
use crate::user::{MASTERS, User};
use crate::verbs::{is_done, tree};

/// How long to wait before trying again what the store refused.
const PAUSE: Duration = Duration::from_secs(1);

impl Server {
    /// Starts looking after definitions. Everything is looked at anew, so nothing is lost by a restart.
    pub(crate) fn keep_definitions(&self) {
        let server = self.clone();
        self.tasks().spawn(async move {
            loop {
                server.follow_definitions().await;
            }
        });
    }

    /// Looks at every definition, then at each that changes; ends when events were missed.
    async fn follow_definitions(&self) {
        let snapshot = self.store().snapshot();
        let Ok(mut watcher) = self.store().watch(DEFINITIONS, None, snapshot.revision()) else {
            return self.clock().sleep(PAUSE).await;
        };
        let all: Vec<String> = snapshot.list(DEFINITIONS, None, None).map(|item| item.path.to_owned()).collect();
        drop(snapshot);
        let mut draining = Vec::new();
        for name in all {
            self.look_at(&name, &mut draining).await;
        }
        while let Ok(event) = watcher.next().await {
            let name = event.key.path().to_owned();
            self.look_at(&name, &mut draining).await;
            if let Some(group) = frees_names(&event) {
                for name in self.refused_in(&group) {
                    self.look_at(&name, &mut draining).await;
                }
            }
        }
    }

    /// The definitions of a group whose names were not accepted.
    fn refused_in(&self, group: &str) -> Vec<String> {
        let mut customs = self.customs();
        let waiting = customs.get().definitions.iter().filter(|(_, d)| d.group == group && !d.accepted);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Accepts a definition's names, or begins to empty it.
    async fn look_at(&self, name: &str, draining: &mut Vec<String>) {
        // Whoever watches its objects learns of the change now.
        drop(self.customs());
        let Some(stored) = self.store().get(&Key::new(DEFINITIONS, "", name)) else {
            draining.retain(|n| n != name);
            return;
        };
        let crd = tree(&stored);
        if meta::is_deleting(&crd) {
            let uid = format!("{name} {}", meta::uid(&crd));
            if meta::finalizers(&crd).contains(&CLEANUP_FINALIZER) && !draining.contains(&uid) {
                draining.retain(|n| !n.starts_with(&format!("{name} ")));
                draining.push(uid);
                let (server, name) = (self.clone(), name.to_owned());
                self.tasks().spawn(async move { server.drain(&name).await });
            }
            return;
        }
        self.change_definition(name, |crd| {
            let taken = self.names_beside(name, crd["spec"]["group"].as_str().unwrap_or_default());
            names::decide(crd, &taken, self.clock().now());
        })
        .await;
    }

    /// The names that other definitions of a group hold.
    fn names_beside(&self, name: &str, group: &str) -> Names {
        let mut customs = self.customs();
        let mut taken = Names::default();
        for (_, other) in customs.get().definitions.iter().filter(|(n, d)| *n != name && d.group == group) {
            taken.add(&other.names);
        }
        taken
    }

    /// Changes a definition on the server's own account, until that has been done or it is gone.
    async fn change_definition(&self, name: &str, mut make: impl FnMut(&mut Value)) {
        let Some(kind) = self.kind("apiextensions.k8s.io", "v1", "customresourcedefinitions") else { return };
        let call = own_call(kind, ObjectName::cluster(name));
        loop {
            let outcome = self
                .change_stored(&call, |crd| {
                    make(crd);
                    call.kind.normalize(crd);
                    Ok(())
                })
                .await;
            match outcome {
                Err(status) if !status.is_not_found() => {
                    tracing::warn!("the definition {name} could not be changed, trying again: {}", status.message);
                    self.clock().sleep(PAUSE).await;
                }
                _ => return,
            }
        }
    }

    /// Deletes every object of a definition, and lets it go when none is left.
    async fn drain(&self, name: &str) {
        let say = |status: &'static str, reason: &'static str, message: &'static str| {
            move |crd: &mut Value, now| {
                set_condition(crd, "Terminating", status, reason, message, now);
            }
        };
        let begins = say("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
        self.change_definition(name, |crd| begins(crd, self.clock().now())).await;
        let kind = self.customs().get().definitions.get(name).and_then(|d| d.kinds(self.registry()).first().cloned());
        let ends = match &kind {
            Some(kind) => {
                self.empty(kind).await;
                say("False", "InstanceDeletionCompleted", "removed all instances")
            }
            None => say("False", "NeverEstablished", "resource was never established"),
        };
        self.change_definition(name, |crd| {
            ends(crd, self.clock().now());
            let left: Vec<Value> = meta::finalizers(crd).into_iter().filter(|f| *f != CLEANUP_FINALIZER).map(Value::from).collect();
            let metadata = meta::metadata_mut(crd);
            match left.is_empty() {
                true => drop(metadata.remove("finalizers")),
                false => drop(metadata.insert("finalizers".into(), left.into())),
            }
        })
        .await;
        self.remove_if_done(&Key::new(DEFINITIONS, "", name)).await;
    }

    /// Removes an object that is deleted and held by nothing any more.
    async fn remove_if_done(&self, key: &Key) {
        while let Some(stored) = self.store().staged(key) {
            let object = tree(&stored);
            if !meta::is_deleting(&object) || !is_done(&object) {
                return;
            }
            match self.store().commit(Txn::delete(key.clone(), stored.revision)).await {
                Ok(_) => return,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!("{key} could not be removed, trying again: {error}");
                    self.clock().sleep(PAUSE).await;
                }
            }
        }
    }

    /// Deletes the objects of a kind, and waits until none is left.
    async fn empty(&self, kind: &Arc<Kind>) {
        let resource = store_resource(kind);
        loop {
            let snapshot = self.store().snapshot();
            let Ok(mut watcher) = self.store().watch(&resource, None, snapshot.revision()) else {
                self.clock().sleep(PAUSE).await;
                continue;
            };
            let all: Vec<ObjectName> = snapshot.list(&resource, None, None).map(|i| Key::new("", "", i.path).object_name()).collect();
            drop(snapshot);
            if all.is_empty() {
                return;
            }
            for object in all {
                let call = own_call(kind.clone(), object);
                if let Err(status) = self.delete_object(&call, &DeleteOptions::default()).await
                    && !status.is_not_found()
                {
                    tracing::warn!("{} {} could not be deleted: {}", call.resource(), call.object.name, status.message);
                    self.clock().sleep(PAUSE).await;
                }
            }
            // What finalizers hold goes later; what comes in between is deleted in the next round.
            while self.store().snapshot().count(&resource, None, None) > 0 {
                match watcher.next().await {
                    Ok(event) if event.new_object().is_some_and(|o| !meta::is_deleting(&tree(o))) => break,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Refuses to let a namespace go while custom resources are left in it.
    pub(crate) fn may_finalize(&self, namespace: &str) -> Result<(), Status> {
        let kinds = self.customs().get().stored(self.registry());
        let snapshot = self.store().snapshot();
        let left = kinds.iter().find(|k| k.namespaced && snapshot.count(&store_resource(k), Some(namespace), None) > 0);
        match left {
            Some(kind) => {
                let why = format!("{}.{} are remaining in it", kind.plural, kind.group);
                Err(Status::conflict(&gantry_object::GroupResource::new("", "namespaces"), namespace, &why))
            }
            None => Ok(()),
        }
    }
}

/// The group in which an event may have made names free.
fn frees_names(event: &Event) -> Option<String> {
    let before = tree(event.previous()?);
    let held = Names::accepted(&before);
    let holds = event.new_object().map(|o| Names::accepted(&tree(o)));
    (holds != Some(held)).then(|| before["spec"]["group"].as_str().unwrap_or_default().to_owned())
}

/// A call on the server's own account.
pub(crate) fn own_call(kind: Arc<Kind>, object: ObjectName) -> Call {
    Call {
        user: User::authenticated("system:apiserver", &[MASTERS]),
        verb: Verb::Delete,
        kind,
        subresource: String::new(),
        object,
        params: Params::default(),
        field_validation: FieldValidation::Ignore,
        media: Media::Json,
        body: bytes::Bytes::new(),
        agent: String::new(),
        query_options: None,
        own: true,
        notes: Notes::default(),
    }
}
