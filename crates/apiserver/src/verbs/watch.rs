//! Watch: what a watcher is told, in order, whatever way it listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gantry_client::Verb;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Encoded, Revision, Status};
use gantry_store::{Event, EventKind, Watcher};

use super::read::{Filter, parse_resource_version};
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
                initial.extend(all.into_iter().filter(|o| filter.matches(&call, o)));
            } else {
                initial.extend(all.filter(|o| filter.matches(&call, o)));
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
        if self.over {
            return None;
        }
        if let Some(object) = self.initial.pop_front() {
            return Some(Told::Change { change: Change::Added, object, event: None });
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(Told::Bookmark { revision, initial_end: true });
        }
        loop {
            let event = if self.bookmarks {
                let pause = self.server.clock().sleep(BOOKMARK_EVERY);
                gantry_ports::select! {
                    event = self.watcher.next() => event,
                    () = pause => match self.watcher.progress() {
                        Some(revision) => return Some(Told::Bookmark { revision, initial_end: false }),
                        None => continue,
                    },
                }
            } else {
                self.watcher.next().await
            };
            match event {
                Ok(event) if self.call.kind.converts_by_webhook() => match self.see_converted(&event).await {
                    Ok(Some(told)) => return Some(told),
                    Ok(None) => {}
                    Err(status) => {
                        self.over = true;
                        return Some(Told::Gone(Box::new(status)));
                    }
                },
                Ok(event) => {
                    if let Some(told) = self.see(&event.kind).map(|(change, object)| Told::Change { change, object, event: Some(event) }) {
                        return Some(told);
                    }
                }
                Err(gone) => {
                    self.over = true;
                    let status = Status::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest));
                    return Some(Told::Gone(Box::new(status)));
                }
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
        Ok(self.see(&kind).map(|(change, object)| Told::Change { change, object, event: None }))
    }

    /// What the watcher sees of an event: an object that starts to match appears, one that stops disappears.
    fn see(&self, event: &EventKind) -> Option<(Change, Encoded)> {
        let matches = |object: &Encoded| self.filter.matches(&self.call, object);
        Some(match event {
            EventKind::Put { new, prev } => {
                let (is, was) = (matches(new), prev.as_ref().is_some_and(matches));
                match (was, is) {
                    (false, true) => (Change::Added, new.clone()),
                    (true, true) => (Change::Modified, new.clone()),
                    // The last version that matched, at the revision that made it stop.
                    (true, false) => (Change::Deleted, Encoded { revision: new.revision, ..prev.clone()? }),
                    (false, false) => return None,
                }
            }
            EventKind::Delete { prev, revision } if matches(prev) => (Change::Deleted, Encoded { revision: *revision, ..prev.clone() }),
            EventKind::Delete { .. } => return None,
        })
    }
}
