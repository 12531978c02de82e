//! The shell that keeps an informer fed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_object::{Resource, Status};
use gantry_ports::Clock;

use super::Start;
use crate::{Api, Params, Watch, WatchEvent, WatchStream};

/// The wait after a watch that failed at once; doubled with each one that follows.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Who is fed.
pub trait Feed: Send + 'static {
    /// A watch is about to begin: from where?
    fn start(&mut self) -> Start;
    /// An event.
    fn take(&mut self, event: WatchEvent);
    /// A watch could not begin. `Expired` means that [`Feed::start`] must not ask for the same revision again.
    fn failed(&mut self, status: &Status);
}

/// Watches a resource for ever, beginning anew where the last watch ended. Drop it to stop.
pub async fn follow(
    api: Arc<dyn Api>,
    resource: Resource,
    namespace: String,
    params: Params,
    clock: Arc<dyn Clock>,
    feed: Arc<Mutex<dyn Feed>>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let from = match with(&feed, |f| f.start()) {
            Start::Initial => None,
            Start::After(revision) => Some(revision),
        };
        let watch = Watch { resource, namespace: namespace.clone(), params: params.clone(), from, initial_events: from.is_none() };
        match api.watch(watch).await {
            Ok(stream) => {
                if drain(stream, &feed).await {
                    wait = FIRST_WAIT;
                    continue;
                }
            }
            Err(status) => {
                tracing::debug!(resource = resource.plural, message = %status.message, "a watch could not begin");
                with(&feed, |f| f.failed(&status));
            }
        }
        clock.sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Hands on all events; says whether there were any that told something.
async fn drain(mut stream: WatchStream, feed: &Arc<Mutex<dyn Feed>>) -> bool {
    let mut told = false;
    while let Some(event) = stream.next().await {
        told |= !matches!(event, WatchEvent::Error(_));
        with(feed, |f| f.take(event));
    }
    told
}

fn with<T>(feed: &Arc<Mutex<dyn Feed>>, act: impl FnOnce(&mut dyn Feed) -> T) -> T {
    act(&mut *feed.lock().expect("no one panics while feeding"))
}
