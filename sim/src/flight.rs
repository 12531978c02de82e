//! Work under way: it goes on while other things happen, and ends with whoever holds it.

use gantry_ports::Tasks;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub(crate) struct Flight<T> {
    ended: oneshot::Receiver<T>,
    task: AbortHandle,
}

impl<T: Send + 'static> Flight<T> {
    pub(crate) fn launch(tasks: &Tasks, work: impl Future<Output = T> + Send + 'static) -> Self {
        let (send, ended) = oneshot::channel();
        let task = tasks.spawn(async move {
            // Whoever waited may be gone.
            let _ = send.send(work.await);
        });
        Self { ended, task }
    }

    /// What it came to, once it has ended.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.ended.try_recv().ok()
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
