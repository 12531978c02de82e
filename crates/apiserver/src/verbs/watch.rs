//! Watch: what a watcher is told, in order, whatever way it listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gantry_client::Verb;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Encoded, Revision, Status};
use gantry_store::{Event, EventKind, Gone, Watcher};

use super::filter::Filter;
use super::read::parse_resource_version;
use crate::call::{Call, store_resource};
use crate::options::invalid_options;
use crate::server::Server;

/// How often a watcher that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// What happened, as a watcher with these selectors sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One thing to tell.
#[derive(Debug)]
pub(crate) enum Told {
    /// An object changed. The event is there when it can be shared with other watchers of the same kind.
    Change { change: Change, object: Encoded, event: Option<Arc<Event>> },
    /// Everything up to this revision was told.
    Bookmark { revision: Revision, initial_end: bool },
    /// The history is gone: list again.
    Gone(Box<Status>),
}

/// The source of one watcher's events.
pub(crate) struct Feed {
    call: Arc<Call>,
    server: Server,
    filter: Filter,
    initial: VecDeque<Encoded>,
    /// After the initial objects, the bookmark that says so.
    initial_bookmark: Option<Revision>,
    watcher: Watcher,
    bookmarks: bool,
    /// Ends with the definition of a custom resource.
    life: Option<tokio::sync::watch::Receiver<()>>,
    over: bool,
}

/// What a watch asks for beyond its call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchOptions {
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
}

impl Server {
    /// Starts a watch of an authorized call.
    pub(crate) async fn start_watch(&self, call: Call, options: WatchOptions) -> Result<Feed, Status> {
        let filter = Filter::of(&call)?;
        check_options(&call, options)?;
        let resource = store_resource(&call.kind);
        let namespace = Some(call.object.namespace.as_str()).filter(|n| !n.is_empty());
        let asked = parse_resource_version(&call.params.resource_version)?;
        let sends_initial = options.initial_events.unwrap_or(asked == Revision(0));
        if asked > self.store().durable_revision() && options.initial_events.is_some() {
            self.wait_for(&call.params.resource_version).await?;
        }
        let snapshot = self.store().snapshot();
        let from = if sends_initial || asked == Revision(0) { snapshot.revision() } else { asked };
        let watcher = self
            .store()
            .watch(&resource, namespace, from)
            .map_err(|gone| Status::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest)))?;
        let mut initial = VecDeque::new();
        if sends_initial {
            let all = snapshot.list(&resource, namespace, None).map(|item| item.object.clone());
            if call.kind.converts_by_webhook() {
                let all = self.all_shown(&call.kind, all.collect()).await?;
                initial.extend(all.into_iter().filter(|o| filter.matches(&call.kind, o)));
            } else {
                initial.extend(all.filter(|o| filter.matches(&call.kind, o)));
            }
        }
        let ends_initial = sends_initial && options.initial_events == Some(true) && options.bookmarks;
        let initial_bookmark = ends_initial.then(|| snapshot.revision());
        let life = self.life(&call.kind);
        Ok(Feed {
            life,
            call: Arc::new(call),
            server: self.clone(),
            filter,
            initial,
            initial_bookmark,
            watcher,
            bookmarks: options.bookmarks,
            over: false,
        })
    }
}

fn check_options(call: &Call, options: WatchOptions) -> Result<(), Status> {
    let how = call.params.resource_version_match.as_str();
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if options.initial_events.is_some() && how != "NotOlderThan" {
        errors.push(Error::forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !how.is_empty() {
        if options.initial_events.is_none() {
            errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if how != "NotOlderThan" {
            errors.push(Error::not_supported(&path, how, &["NotOlderThan"]));
        }
        if !call.params.continue_token.is_empty() {
            errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_options(Verb::List, &errors)) }
}

impl Feed {
    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// The next thing to tell; `None` when there is nothing more after the history was gone.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let Some(mut life) = self.life.clone() else { return self.next_told().await };
        gantry_ports::select! {
            told = self.next_told() => told,
            // Nothing is ever sent: this ends when the definition is gone or another one.
            _ = life.changed() => None,
        }
    }

    async fn next_told(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.next_ready() {
                return Some(told);
            }
            if self.over {
                return None;
            }
            if self.call.kind.converts_by_webhook()
                && let Some(told) = self.next_converted().await
            {
                return Some(told);
            }
            if !self.bookmarks {
                self.watcher.ready().await;
                continue;
            }
            let pause = self.server.clock().sleep(BOOKMARK_EVERY);
            gantry_ports::select! {
                () = self.watcher.ready() => {},
                () = pause => if let Some(revision) = self.watcher.progress() {
                    return Some(Told::Bookmark { revision, initial_end: false });
                },
            }
        }
    }

    /// The next thing to tell that is there already and needs nobody else's answer.
    pub(crate) fn next_ready(&mut self) -> Option<Told> {
        if self.over {
            return None;
        }
        if let Some(object) = self.initial.pop_front() {
            return Some(Told::Change { change: Change::Added, object, event: None });
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(Told::Bookmark { revision, initial_end: true });
        }
        if self.call.kind.converts_by_webhook() {
            return None;
        }
        loop {
            match self.watcher.try_next() {
                Ok(event) => {
                    let event = event?;
                    let (was, is) = self.filter.matches_event(&self.call.kind, &event);
                    if let Some((change, object)) = see(&event.kind, was, is) {
                        return Some(Told::Change { change, object, event: Some(event) });
                    }
                }
                Err(gone) => return Some(self.gone(&gone)),
            }
        }
    }

    fn gone(&mut self, gone: &Gone) -> Told {
        self.end(Status::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest)))
    }

    fn end(&mut self, why: Status) -> Told {
        self.over = true;
        Told::Gone(Box::new(why))
    }

    /// The next thing to tell that is there already, of objects that a webhook converts first.
    async fn next_converted(&mut self) -> Option<Told> {
        loop {
            let event = match self.watcher.try_next() {
                Ok(event) => event?,
                Err(gone) => return Some(self.gone(&gone)),
            };
            match self.see_converted(&event).await {
                Ok(Some(told)) => return Some(told),
                Ok(None) => {}
                Err(status) => return Some(self.end(status)),
            }
        }
    }

    /// The same of an event whose objects a webhook converts first.
    async fn see_converted(&self, event: &Event) -> Result<Option<Told>, Status> {
        let kind = match event.kind.clone() {
            EventKind::Put { new, prev } => {
                let mut all = self.server.all_shown(&self.call.kind, std::iter::once(new).chain(prev).collect()).await?.into_iter();
                let Some(new) = all.next() else { return Ok(None) };
                EventKind::Put { new, prev: all.next() }
            }
            EventKind::Delete { prev, revision } => EventKind::Delete { prev: self.server.shown(&self.call.kind, prev).await?, revision },
        };
        let matches = |object: &Encoded| self.filter.matches(&self.call.kind, object);
        let (was, is) = match &kind {
            EventKind::Put { new, prev } => (prev.as_ref().is_some_and(matches), matches(new)),
            EventKind::Delete { prev, .. } => (matches(prev), false),
        };
        Ok(see(&kind, was, is).map(|(change, object)| Told::Change { change, object, event: None }))
    }
}

/// What a watcher sees of an event when it wants the object before, and after: one that starts to match appears, one that stops disappears.
fn see(event: &EventKind, was: bool, is: bool) -> Option<(Change, Encoded)> {
    Some(match (event, was, is) {
        (_, false, false) => return None,
        (EventKind::Put { new, prev: None }, ..) | (EventKind::Put { new, .. }, false, _) => (Change::Added, new.clone()),
        (EventKind::Put { new, .. }, true, true) => (Change::Modified, new.clone()),
        // The last version that matched, at the revision that made it stop.
        (EventKind::Put { new, prev: Some(prev) }, true, false) => (Change::Deleted, Encoded { revision: new.revision, ..prev.clone() }),
        (EventKind::Delete { prev, revision }, ..) => (Change::Deleted, Encoded { revision: *revision, ..prev.clone() }),
    })
}
