//! A watch as somebody far away has it: late, in pieces, told twice, or cut off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gantry_client::informer::Start;
use gantry_client::{Api, Params, Watch, WatchEvent, WatchStream};
use gantry_object::{Encoded, Resource, Status};
use gantry_ports::{Random, Tasks};
use serde::Deserialize;

use crate::flight::Flight;
use crate::trace::{Sort, Trace};

/// What may happen to events on their way, each in so many of a hundred deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) delayed: u64,
    pub(crate) duplicated: u64,
    pub(crate) coalesced: u64,
    pub(crate) cut: u64,
    /// A whole resource falls silent for some seconds while others go on.
    pub(crate) stale: u64,
}

/// Whom a feed feeds.
pub(crate) trait Fed {
    fn start(&mut self, resource: &Resource) -> Start;
    fn take(&mut self, resource: &Resource, event: WatchEvent);
    fn expire(&mut self, resource: &Resource);
}

pub(crate) struct Feed {
    pub(crate) resource: Resource,
    params: Params,
    opening: Option<Flight<Result<WatchStream, Status>>>,
    stream: Option<WatchStream>,
    waiting: VecDeque<WatchEvent>,
    /// Nothing is delivered before this time.
    silent_until: Duration,
}

impl Feed {
    pub(crate) fn new(resource: Resource, params: Params) -> Self {
        Self { resource, params, opening: None, stream: None, waiting: VecDeque::new(), silent_until: Duration::ZERO }
    }

    /// The connection is lost, and with it what was under way.
    pub(crate) fn cut(&mut self) {
        self.opening = None;
        self.stream = None;
        self.waiting.clear();
    }

    pub(crate) fn calm(&mut self) {
        self.silent_until = Duration::ZERO;
    }

    /// Begins a watch where there is none, and takes in what has arrived. Says whether anything happened.
    pub(crate) fn pull(&mut self, api: &Arc<dyn Api>, tasks: &Tasks, fed: &mut impl Fed) -> bool {
        if let Some(stream) = &mut self.stream {
            let before = self.waiting.len();
            if !take_all(stream, &mut self.waiting) {
                self.stream = None;
            }
            return self.waiting.len() > before;
        }
        // What came before the end is taken in first: the next watch begins after it.
        if !self.waiting.is_empty() {
            return false;
        }
        match self.opening.as_mut().map(Flight::take) {
            None => {
                let (api, resource, params) = (api.clone(), self.resource, self.params.clone());
                let from = match fed.start(&resource) {
                    Start::Initial => None,
                    Start::After(revision) => Some(revision),
                };
                let watch = Watch { resource, namespace: String::new(), params, from, initial_events: from.is_none() };
                self.opening = Some(Flight::launch(tasks, async move { api.watch(watch).await }));
                true
            }
            Some(None) => false,
            Some(Some(Ok(stream))) => {
                self.opening = None;
                self.stream = Some(stream);
                true
            }
            Some(Some(Err(status))) => {
                self.opening = None;
                if status.is_expired() {
                    fed.expire(&self.resource);
                }
                false
            }
        }
    }

    /// Hands on everything that has arrived; says how much.
    pub(crate) fn deliver_all(&mut self, fed: &mut impl Fed) -> usize {
        let count = self.waiting.len();
        self.waiting.drain(..).for_each(|event| fed.take(&self.resource, event));
        count
    }

    /// Hands on some of what has arrived, as the weather has it; says how much.
    pub(crate) fn deliver(&mut self, fed: &mut impl Fed, weather: &Weather, chance: &dyn Random, now: Duration, trace: &Trace) -> usize {
        let strikes = |percent: u64| chance.below(100) < percent;
        if now < self.silent_until || self.waiting.is_empty() {
            return 0;
        }
        if strikes(weather.stale) {
            self.silent_until = now + Duration::from_millis(500 + chance.below(15_000));
            trace.count(Sort::Fault, "stale watch");
            return 0;
        }
        if strikes(weather.cut) {
            trace.count(Sort::Fault, "watch cut");
            self.cut();
            return 0;
        }
        if strikes(weather.coalesced) && self.coalesce() {
            trace.count(Sort::Fault, "events coalesced");
        }
        let mut count = self.waiting.len();
        if count > 1 && strikes(weather.delayed) {
            count = 1 + chance.below(count as u64 - 1) as usize;
            trace.count(Sort::Fault, "events delayed");
        }
        for event in self.waiting.drain(..count).collect::<Vec<_>>() {
            if strikes(weather.duplicated) {
                trace.count(Sort::Fault, "event duplicated");
                fed.take(&self.resource, event.clone());
            }
            fed.take(&self.resource, event);
        }
        count
    }

    /// Of several events of one object only the last one stays, as when a watcher had listed anew in between. Not across the end of the
    /// initial events: what was there at first is told before it, or it was not there.
    fn coalesce(&mut self) -> bool {
        let is_end = |event: &WatchEvent| matches!(event, WatchEvent::Bookmark { initial_events_end: true, .. });
        let end = self.waiting.iter().position(is_end).unwrap_or(self.waiting.len());
        let names: Vec<Option<String>> = self.waiting.iter().map(|e| object_of(e).and_then(path_of)).collect();
        let before = self.waiting.len();
        let mut at = 0;
        self.waiting.retain(|_| {
            at += 1;
            let later = if at <= end { &names[at..end] } else { &names[at..] };
            names[at - 1].is_none() || !later.contains(&names[at - 1])
        });
        self.waiting.len() < before
    }
}

/// Takes what a stream has; says whether there may be more one day.
pub(crate) fn take_all(stream: &mut WatchStream, into: &mut VecDeque<WatchEvent>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match std::pin::pin!(stream.next()).poll(&mut cx) {
            Poll::Ready(Some(event)) => into.push_back(event),
            Poll::Ready(None) => return false,
            Poll::Pending => return true,
        }
    }
}

fn object_of(event: &WatchEvent) -> Option<&Encoded> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => Some(object),
        WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => None,
    }
}

/// Namespace and name of an object, without reading the rest of it.
pub(crate) fn path_of(object: &Encoded) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Names,
    }
    #[derive(Deserialize)]
    struct Names {
        name: String,
        #[serde(default)]
        namespace: String,
    }
    let Named { metadata } = serde_json::from_slice(&object.body).ok()?;
    Some(if metadata.namespace.is_empty() { metadata.name } else { format!("{}/{}", metadata.namespace, metadata.name) })
}
