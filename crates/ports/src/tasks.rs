use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::BoxFuture;

/// Spawns the tasks of one server or agent, and ends them all when the last clone is dropped or told so.
///
/// In the simulator the handle belongs to a single-threaded runtime with a paused clock, so the same type serves both sides.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    running: Mutex<Vec<AbortHandle>>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tasks")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.running.get_mut().expect("nothing panics while it holds this lock").drain(..) {
            task.abort();
        }
    }
}

impl Tasks {
    /// Spawns onto a runtime.
    pub fn on(handle: Handle) -> Self {
        Self { inner: Arc::new(Inner { handle, running: Mutex::new(Vec::new()) }) }
    }

    /// Starts a task. It is aborted when these tasks end; the returned handle may abort it sooner, or be dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let abort = self.inner.handle.spawn(task).abort_handle();
        let mut running = self.inner.running.lock().expect("nothing panics while it holds this lock");
        if running.len() == running.capacity() {
            running.retain(|task| !task.is_finished());
        }
        running.push(abort.clone());
        abort
    }

    /// Runs something that blocks (files, processes) away from the async threads.
    ///
    /// # Panics
    /// When `work` panics, or the runtime shuts down meanwhile.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.inner.handle.spawn_blocking(work).await.expect("blocking work neither panics nor is cancelled")
    }

    /// Starts a thread of its own, for work that blocks for as long as the server lives.
    ///
    /// # Errors
    /// When the kernel has no thread to give.
    #[allow(clippy::disallowed_methods, reason = "the real side of the port")]
    pub fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }

    /// Ends every task.
    pub fn shutdown(&self) {
        for task in self.inner.running.lock().expect("nothing panics while it holds this lock").drain(..) {
            task.abort();
        }
    }
}

/// Waits for all of several futures, run side by side, and gives their results in order.
pub async fn join_all<T>(mut futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut all = true;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results.into_iter().map(|r| r.expect("all have finished")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_with_their_owner() {
        let tasks = Tasks::on(Handle::current());
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(tasks.blocking(|| 3).await, 3);
        drop(tasks);
        dropped.await.expect_err("the task is gone, and with it what it held");
    }
}
