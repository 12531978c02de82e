//! An `Api` whose process can die at any call: before the server has it, or after, with the answer lost.

use std::sync::{Arc, Mutex, MutexGuard};

use gantry_client::{Api, Request, Response, Watch, WatchStream};
use gantry_object::Status;
use gantry_ports::BoxFuture;

/// When the process dies. Shared by all its clients.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls_left: Option<u64>,
    answer_lost: bool,
    dead: bool,
}

enum Fate {
    Fine,
    DeadBefore,
    DeadAfter,
}

impl Fuse {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics while holding the fuse")
    }

    /// The process dies at the call after so many; `answer_lost` says whether that call is still carried out.
    pub(crate) fn light(&self, calls: u64, answer_lost: bool) {
        *self.lock() = State { calls_left: Some(calls), answer_lost, dead: false };
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn burn(&self) -> Fate {
        let mut state = self.lock();
        if state.dead {
            return Fate::DeadBefore;
        }
        match &mut state.calls_left {
            Some(0) => {
                state.dead = true;
                if state.answer_lost { Fate::DeadAfter } else { Fate::DeadBefore }
            }
            Some(left) => {
                *left -= 1;
                Fate::Fine
            }
            None => Fate::Fine,
        }
    }
}

pub(crate) struct Mortal {
    api: Arc<dyn Api>,
    fuse: Fuse,
}

impl Mortal {
    pub(crate) fn client(api: Arc<dyn Api>, fuse: &Fuse) -> Arc<dyn Api> {
        Arc::new(Self { api, fuse: fuse.clone() })
    }
}

fn died() -> Status {
    Status::unavailable("the process has died")
}

impl Api for Mortal {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            match self.fuse.burn() {
                Fate::Fine => self.api.call(request).await,
                Fate::DeadBefore => Err(died()),
                Fate::DeadAfter => {
                    // Carried out or refused: nobody will know.
                    let _ = self.api.call(request).await;
                    Err(died())
                }
            }
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        self.api.watch(watch)
    }
}
