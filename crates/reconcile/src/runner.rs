//! Controllers at work, each in its own voice.

use std::sync::Arc;

use gantry_client::Api;
use gantry_ports::{Clock, Tasks};

use crate::{Controller, Machine, Shell, Voice};

/// How many decisions are carried out at once, of all controllers together.
const WORKERS: usize = 64;

/// Gives each controller its own voice: from its name to an `Api` under its service account.
pub type Writers<'a> = &'a dyn Fn(&'static str) -> Arc<dyn Api>;

/// Starts controllers; they end with `tasks`. All watches go through `reader` (upstream: `system:kube-controller-manager`), each
/// controller's writes through its own voice.
pub fn run(controllers: Vec<Arc<dyn Controller>>, reader: &Arc<dyn Api>, writers: Writers<'_>, clock: Arc<dyn Clock>, tasks: &Tasks) {
    let voices = controllers.iter().map(|c| (c.name(), Voice::new(writers(c.name()), c.name(), clock.clone()))).collect();
    let machine = Machine::new(controllers);
    let resources = machine.resources();
    Shell::start(machine, WORKERS, resources, reader, voices, clock, tasks);
}
