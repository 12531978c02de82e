//! Something computed from the store's objects, kept up to date by their events.

use gantry_object::Encoded;
use gantry_store::{Store, Watcher};

/// What a [`Follower`] computes.
pub(crate) trait Follow: Default {
    /// The store's names of the resources it is computed from.
    const RESOURCES: &'static [&'static str];

    /// Takes in an object as it is now, or its end.
    fn apply(&mut self, resource: &str, path: &str, object: Option<&Encoded>);
}

/// A value that follows the durable state whenever it is looked at.
pub(crate) struct Follower<T> {
    value: T,
    watchers: Vec<(&'static str, Option<Watcher>)>,
}

impl<T: Follow> Follower<T> {
    pub(crate) fn new(store: &Store) -> Self {
        let mut follower = Self { value: T::default(), watchers: T::RESOURCES.iter().map(|r| (*r, None)).collect() };
        follower.current(store);
        follower
    }

    /// The value with everything taken in that has happened since; computed anew where the history is gone.
    pub(crate) fn current(&mut self, store: &Store) -> &mut T {
        let value = &mut self.value;
        let lost = self.watchers.iter_mut().any(|(resource, watcher)| {
            let Some(watcher) = watcher else { return true };
            loop {
                match watcher.try_next() {
                    Ok(Some(event)) => value.apply(resource, event.key.path(), event.new_object()),
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            }
        });
        if lost {
            self.value = T::default();
            let snapshot = store.snapshot();
            for (resource, watcher) in &mut self.watchers {
                for item in snapshot.list(resource, None, None) {
                    self.value.apply(resource, item.path, Some(item.object));
                }
                *watcher = store.watch(resource, None, snapshot.revision()).ok();
            }
        }
        &mut self.value
    }
}
