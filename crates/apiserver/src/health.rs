//! `/healthz`, `/livez`, `/readyz`: each check under its own path too.

use gantry_store::Store;

/// The checks by upstream's names. `etcd` is how monitoring knows the one of the store.
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

/// A question about health.
pub(crate) struct Health<'a> {
    name: &'a str,
    check: &'a str,
    verbose: bool,
    excluded: Vec<&'a str>,
}

impl<'a> Health<'a> {
    /// The question a path asks, if it asks one.
    pub(crate) fn asked(path: &'a str, query: &'a str) -> Option<Self> {
        let path = path.trim_matches('/');
        let (name, check) = path.split_once('/').unwrap_or((path, ""));
        if !matches!(name, "healthz" | "livez" | "readyz") || !(check.is_empty() || CHECKS.contains(&check)) {
            return None;
        }
        let members = || query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
        let excluded = members().filter(|(name, _)| *name == "exclude").map(|(_, value)| value).collect();
        Some(Self { name, check, verbose: members().any(|(name, _)| name == "verbose"), excluded })
    }

    /// The HTTP status and text. Details are for the log: anybody may ask.
    pub(crate) fn answer(&self, store: &Store) -> (u16, String) {
        if !self.check.is_empty() {
            return match failure(self.check, store) {
                None => (200, "ok".into()),
                Some(why) => (500, format!("internal server error: {why}\n")),
            };
        }
        let mut lines = String::new();
        let mut failed = false;
        for check in CHECKS {
            if self.excluded.contains(&check) {
                lines += &format!("[+]{check} excluded: ok\n");
            } else if failure(check, store).is_some() {
                failed = true;
                lines += &format!("[-]{check} failed: reason withheld\n");
            } else {
                lines += &format!("[+]{check} ok\n");
            }
        }
        let unknown: Vec<String> = self.excluded.iter().filter(|e| !CHECKS.contains(e)).map(|e| format!("{e:?}")).collect();
        if !unknown.is_empty() {
            lines += &format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(","));
        }
        match (failed, self.verbose) {
            (true, _) => (500, format!("{lines}{} check failed\n", self.name)),
            (false, true) => (200, format!("{lines}{} check passed\n", self.name)),
            (false, false) => (200, "ok".into()),
        }
    }
}

/// Why a check fails. One that answers has its loops running: what can fail by itself is the store.
fn failure(check: &str, store: &Store) -> Option<String> {
    (check == "etcd").then(|| store.failure()).flatten().map(|error| format!("the store is read-only: {error}"))
}
