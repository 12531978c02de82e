//! Kinds that definitions describe, beside the built-in ones.
//!
//! [`Customs`] follows the definitions in the store and is brought up to date whenever it is asked, so a kind is served as soon as its definition
//! is established, after a restart too. [`keeper`] is the one task that acts by itself: it accepts names and empties definitions
//! that are deleted, which upstream's API server does in its own process as well.

mod convert;
mod keeper;
mod names;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, MutexGuard, OnceLock};

use bytes::Bytes;
use gantry_kinds::{Kind, Registry, custom_kinds, is_established};
use gantry_object::{Encoded, Value, meta};
use tokio::sync::watch;

use crate::authorize::{Follow, Follower};
use crate::server::Server;

use convert::Converter;
pub(crate) use keeper::own_call;
pub(crate) use names::Names;

/// The store's name for definitions.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// One definition, as far as serving it goes.
struct Definition {
    /// What its kinds follow from; when it changes, they are made anew.
    body: Bytes,
    group: String,
    names: Names,
    accepted: bool,
    established: bool,
    terminating: bool,
    kinds: OnceLock<Vec<Arc<Kind>>>,
    converter: OnceLock<Option<Arc<Converter>>>,
    /// Ends the watches of its kinds when it is dropped.
    life: watch::Sender<()>,
    /// Tells this state of the definition from others, in caches of clients as well.
    digest: u64,
}

impl Definition {
    fn kinds(&self, registry: &Registry) -> &[Arc<Kind>] {
        self.kinds.get_or_init(|| {
            let crd: Value = serde_json::from_slice(&self.body).expect("what is stored was encoded by this server");
            let mut kinds = if self.established { custom_kinds(registry, &crd, &self.body) } else { Vec::new() };
            // Objects of built-in kinds are not a definition's to show, nor to delete.
            kinds.retain(|k| !registry.kinds().iter().any(|b| b.group == k.group && b.plural == k.plural));
            kinds.into_iter().map(Arc::new).collect()
        })
    }
}

impl Definition {
    /// The webhook that converts its objects.
    fn converter(&self) -> Option<Arc<Converter>> {
        let read = || {
            let crd: Value = serde_json::from_slice(&self.body).expect("what is stored was encoded by this server");
            Converter::of(&crd).map(Arc::new)
        };
        self.converter.get_or_init(read).clone()
    }
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// Every definition, by name.
#[derive(Default)]
pub(crate) struct Customs {
    definitions: BTreeMap<String, Definition>,
    /// Another one after every change.
    state: Arc<()>,
}

impl Follow for Customs {
    const RESOURCES: &'static [&'static str] = &[DEFINITIONS];

    fn apply(&mut self, _: &str, path: &str, object: Option<&Encoded>) {
        let Some(object) = object else {
            if self.definitions.remove(path).is_some_and(|d| d.established) {
                self.state = Arc::default();
            }
            return;
        };
        let crd: Value = serde_json::from_slice(&object.body).expect("what is stored was encoded by this server");
        let (established, names) = (is_established(&crd), Names::accepted(&crd));
        let accepted = names::are_accepted(&crd);
        let terminating = meta::is_deleting(&crd);
        if let Some(known) = self.definitions.get_mut(path) {
            let before: Value = serde_json::from_slice(&known.body).expect("what is stored was encoded by this server");
            if before["spec"] == crd["spec"] && known.names == names && known.established == established {
                (known.accepted, known.terminating) = (accepted, terminating);
                return;
            }
        }
        self.state = Arc::default();
        let definition = Definition {
            body: object.body.clone(),
            group: crd["spec"]["group"].as_str().unwrap_or_default().into(),
            names,
            accepted,
            established,
            terminating,
            kinds: OnceLock::new(),
            converter: OnceLock::new(),
            life: watch::channel(()).0,
            digest: digest(&object.body),
        };
        self.definitions.insert(path.into(), definition);
    }
}

impl Customs {
    /// What stays the same as long as what is served does.
    pub(crate) fn state(&self) -> &Arc<()> {
        &self.state
    }

    fn definition(&self, group: &str, plural: &str) -> Option<&Definition> {
        self.definitions.get(&format!("{plural}.{group}"))
    }

    /// Every kind that is served, with its definition's digest.
    pub(crate) fn served(&self, registry: &Registry) -> Vec<(Arc<Kind>, u64)> {
        let of = |d: &Definition| d.kinds(registry).iter().map(|k| (k.clone(), d.digest)).collect::<Vec<_>>();
        self.definitions.values().flat_map(of).filter(|(k, _)| k.is_served()).collect()
    }

    /// Every definition's stored kind, whether it is served or not.
    fn stored(&self, registry: &Registry) -> Vec<Arc<Kind>> {
        self.definitions.values().filter_map(|d| d.kinds(registry).first().cloned()).collect()
    }
}

impl Server {
    /// The kinds that definitions describe, as they are now.
    pub(crate) fn customs(&self) -> CustomsGuard<'_> {
        let mut guard = self.custom_follower().lock().expect("nothing panics while it holds this lock");
        guard.current(self.store());
        CustomsGuard { guard, server: self }
    }

    /// The kind of a custom resource.
    pub(crate) fn custom_kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let mut customs = self.customs();
        let found = customs.get().definition(group, plural)?.kinds(self.registry());
        found.iter().find(|k| k.version == version && k.is_served()).cloned()
    }

    /// Every version of a custom resource that is served.
    pub(crate) fn custom_versions(&self, kind: &Kind) -> Vec<Arc<Kind>> {
        let mut customs = self.customs();
        let found = customs.get().definition(&kind.group, &kind.plural);
        found.map(|d| d.kinds(self.registry()).iter().filter(|k| k.is_served()).cloned().collect()).unwrap_or_default()
    }

    /// Whether a kind's definition is being deleted.
    pub(crate) fn is_terminating(&self, kind: &Kind) -> bool {
        kind.is_custom() && self.customs().get().definition(&kind.group, &kind.plural).is_none_or(|d| d.terminating)
    }

    /// What ends when a kind is no longer served as it is now; `None` for built-in kinds.
    pub(crate) fn life(&self, kind: &Kind) -> Option<watch::Receiver<()>> {
        kind.is_custom().then(|| match self.customs().get().definition(&kind.group, &kind.plural) {
            Some(definition) => definition.life.subscribe(),
            None => watch::channel(()).1,
        })
    }
}

/// A look at [`Customs`].
pub(crate) struct CustomsGuard<'s> {
    guard: MutexGuard<'s, Follower<Customs>>,
    server: &'s Server,
}

impl CustomsGuard<'_> {
    pub(crate) fn get(&mut self) -> &Customs {
        self.guard.current(self.server.store())
    }
}
