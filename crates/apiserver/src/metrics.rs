//! What the server counts, and `/metrics`, where it says so under upstream's names.
//!
//! Counting costs a request one lookup of its series under a lock that is held for nothing else, and a few additions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::path::{ResourcePath, Target};
use crate::server::Server;

/// The upper bounds of request durations, in seconds.
const REQUEST_BOUNDS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0];
/// Those of the durations of webhooks.
const WEBHOOK_BOUNDS: [f64; 7] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0];

/// What tells one series of requests from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Series {
    /// That of a request. What is no resource counts without its path: anybody may make up paths.
    pub(crate) fn of(server: &Server, method: &http::Method, target: &Target, watch: bool) -> Self {
        let other = || Self {
            verb: verb(method, None, false),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            scope: "",
        };
        let Target::Resource(path) = target else { return other() };
        // Nor do resources that nobody serves make series.
        let Some(kind) = server.kind(&path.group, &path.version, &path.resource) else { return other() };
        let known = path.subresource.is_empty() || kind.subresource(&path.subresource).is_some();
        let scope = match (path.name.is_empty(), path.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        Self {
            verb: verb(method, Some(path), watch),
            group: path.group.clone(),
            version: path.version.clone(),
            resource: path.resource.clone(),
            subresource: if known { path.subresource.clone() } else { String::new() },
            scope,
        }
    }

    fn labels(&self) -> String {
        let Self { verb, group, version, resource, subresource, scope } = self;
        format!(
            "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }

    /// Whether its requests are watches.
    pub(crate) fn is_watch(&self) -> bool {
        self.verb == "WATCH"
    }

    /// Whether its requests last as long as their clients want.
    pub(crate) fn is_long_running(&self) -> bool {
        self.is_watch() || matches!(self.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy" | "log")
    }

    /// Whether its requests change something.
    fn is_mutating(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH")
    }
}

fn verb(method: &http::Method, path: Option<&ResourcePath>, watch: bool) -> &'static str {
    let one = path.is_some_and(|p| !p.name.is_empty());
    match *method {
        http::Method::GET | http::Method::HEAD if watch => "WATCH",
        http::Method::GET | http::Method::HEAD if one || path.is_none() => "GET",
        http::Method::GET | http::Method::HEAD => "LIST",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE if one => "DELETE",
        http::Method::DELETE => "DELETECOLLECTION",
        _ => "other",
    }
}

/// Durations and sizes, counted by bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Counts one, of a size in whatever the bounds are in.
    pub(crate) fn observe(&mut self, bounds: &[f64], size: f64) {
        self.counts.resize(bounds.len(), 0);
        if let Some(at) = bounds.iter().position(|b| size <= *b) {
            self.counts[at] += 1;
        }
        self.count += 1;
        self.sum += size;
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes it down.
    pub(crate) fn write(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        let mut so_far = 0;
        for (bound, count) in bounds.iter().zip(&self.counts) {
            so_far += count;
            line(out, &format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), so_far);
        }
        line(out, &format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), self.count);
        line(out, &format!("{name}_sum"), labels, self.sum);
        line(out, &format!("{name}_count"), labels, self.count);
    }
}

/// Writes the value of a series.
pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    // A String takes every write.
    let _ = writeln!(out, "{name}{labels} {value}");
}

/// Writes what a metric is.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// What the server counts.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Series, OfSeries>>,
    reading: AtomicI64,
    mutating: AtomicI64,
    /// Pieces of watches that were sent, by group, version and kind.
    watch_events: Mutex<BTreeMap<(String, String, String), u64>>,
    webhooks: Mutex<BTreeMap<WebhookSeries, Histogram>>,
    started: AtomicU64,
}

/// The name of a webhook, its kind, the operation, and whether the request was refused for it.
type WebhookSeries = (String, &'static str, &'static str, bool);

#[derive(Default)]
struct OfSeries {
    by_code: BTreeMap<u16, u64>,
    durations: Histogram,
    long_running: i64,
}

/// A request under way. Dropping it ends it.
pub(crate) struct UnderWay {
    metrics: Arc<Metrics>,
    series: Series,
}

impl UnderWay {
    /// Whether it needs a seat: a watch does until it has begun, what else lasts as long as its client wants does not.
    pub(crate) fn needs_seat(&self) -> bool {
        self.series.is_watch() || !self.series.is_long_running()
    }

    /// Counts events that a watch was sent.
    pub(crate) fn watch_events(&self, kind: &gantry_kinds::Kind, count: u64) {
        self.metrics.watch_events(kind, count);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self { metrics, series } = self;
        if series.is_long_running() {
            metrics.requests.lock().expect("nothing panics while it holds this lock").entry(series.clone()).or_default().long_running -= 1;
        } else {
            metrics.in_flight(series).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Metrics {
    fn in_flight(&self, series: &Series) -> &AtomicI64 {
        if series.is_mutating() { &self.mutating } else { &self.reading }
    }

    /// Notes when the process began to serve, in seconds since 1970.
    pub(crate) fn started(&self, at: u64) {
        self.started.store(at, Ordering::Relaxed);
    }

    /// Counts a request until it ends.
    pub(crate) fn begin(self: &Arc<Self>, series: Series) -> UnderWay {
        if series.is_long_running() {
            self.requests.lock().expect("nothing panics while it holds this lock").entry(series.clone()).or_default().long_running += 1;
        } else {
            self.in_flight(&series).fetch_add(1, Ordering::Relaxed);
        }
        UnderWay { metrics: self.clone(), series }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, under_way: &UnderWay, code: u16, taken: Duration) {
        let mut requests = self.requests.lock().expect("nothing panics while it holds this lock");
        if !requests.contains_key(&under_way.series) {
            requests.insert(under_way.series.clone(), OfSeries::default());
        }
        let Some(known) = requests.get_mut(&under_way.series) else { return };
        *known.by_code.entry(code).or_default() += 1;
        if !under_way.series.is_long_running() {
            known.durations.observe(&REQUEST_BOUNDS, taken.as_secs_f64());
        }
    }

    /// Counts events sent to watchers of a kind.
    pub(crate) fn watch_events(&self, kind: &gantry_kinds::Kind, count: u64) {
        if count > 0 {
            let key = (kind.group.clone(), kind.version.clone(), kind.kind.clone());
            *self.watch_events.lock().expect("nothing panics while it holds this lock").entry(key).or_default() += count;
        }
    }

    /// Counts a call of an admission webhook.
    pub(crate) fn webhook(&self, name: &str, mutating: bool, operation: &'static str, rejected: bool, taken: Duration) {
        let kind = if mutating { "admit" } else { "validating" };
        let mut webhooks = self.webhooks.lock().expect("nothing panics while it holds this lock");
        webhooks.entry((name.to_owned(), kind, operation, rejected)).or_default().observe(&WEBHOOK_BOUNDS, taken.as_secs_f64());
    }

    fn write_requests(&self, out: &mut String) {
        let requests = self.requests.lock().expect("nothing panics while it holds this lock");
        head(out, "apiserver_request_total", "counter", "Requests, by what they asked for and the code of the answer.");
        for (series, known) in requests.iter() {
            for (code, count) in &known.by_code {
                line(out, "apiserver_request_total", &format!("code=\"{code}\",dry_run=\"\",{}", series.labels()), count);
            }
        }
        let name = "apiserver_request_duration_seconds";
        head(out, name, "histogram", "How long requests took that do not last as long as their clients want.");
        for (series, known) in requests.iter().filter(|(s, _)| !s.is_long_running()) {
            known.durations.write(out, name, &format!("dry_run=\"\",{}", series.labels()), &REQUEST_BOUNDS);
        }
        head(out, "apiserver_longrunning_requests", "gauge", "Requests under way that last as long as their clients want.");
        for (series, known) in requests.iter().filter(|(s, _)| s.is_long_running()) {
            line(out, "apiserver_longrunning_requests", &series.labels(), known.long_running);
        }
        head(out, "apiserver_current_inflight_requests", "gauge", "Requests under way.");
        for (kind, count) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            line(out, "apiserver_current_inflight_requests", &format!("request_kind=\"{kind}\""), count.load(Ordering::Relaxed));
        }
    }

    fn write_others(&self, out: &mut String) {
        head(out, "apiserver_watch_events_total", "counter", "Events sent to watchers.");
        for ((group, version, kind), count) in self.watch_events.lock().expect("nothing panics while it holds this lock").iter() {
            line(out, "apiserver_watch_events_total", &format!("group=\"{group}\",kind=\"{kind}\",version=\"{version}\""), count);
        }
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        head(out, name, "histogram", "How long admission webhooks took.");
        for ((webhook, kind, operation, rejected), durations) in
            self.webhooks.lock().expect("nothing panics while it holds this lock").iter()
        {
            let labels = format!("name=\"{webhook}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{kind}\"");
            durations.write(out, name, &labels, &WEBHOOK_BOUNDS);
        }
        head(out, "process_start_time_seconds", "gauge", "When the process began to serve, since 1970.");
        line(out, "process_start_time_seconds", "", self.started.load(Ordering::Relaxed));
    }
}

/// What the kernel says of this process.
fn write_process(out: &mut String) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| -> u64 {
        let found = status.lines().find_map(|l| l.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        found.unwrap_or_default()
    };
    head(out, "process_resident_memory_bytes", "gauge", "Memory in use.");
    line(out, "process_resident_memory_bytes", "", kilobytes("VmRSS:") * 1024);
    head(out, "process_virtual_memory_bytes", "gauge", "Memory reserved.");
    line(out, "process_virtual_memory_bytes", "", kilobytes("VmSize:") * 1024);
    let descriptors = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or_default();
    head(out, "process_open_fds", "gauge", "Open descriptors.");
    line(out, "process_open_fds", "", descriptors);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses, the 12th and 13th fields are ticks of a hundredth of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    head(out, "process_cpu_seconds_total", "counter", "Processor time used.");
    line(out, "process_cpu_seconds_total", "", (ticks(11) + ticks(12)) / 100.0);
}

impl Server {
    /// Everything counted, as text for those who gather it.
    pub(crate) fn metrics_text(&self) -> String {
        let mut out = String::new();
        self.metrics().write_requests(&mut out);
        self.metrics().write_others(&mut out);
        self.fairness().write(&mut out);
        head(&mut out, "apiserver_storage_objects", "gauge", "Stored objects of a resource.");
        let snapshot = self.store().snapshot();
        for resource in snapshot.resources() {
            line(&mut out, "apiserver_storage_objects", &format!("resource=\"{resource}\""), snapshot.count(resource, None, None));
        }
        write_process(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        for millis in [1, 30, 30_000] {
            histogram.observe(&[0.005, 0.05], f64::from(millis) / 1000.0);
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "a=\"b\"", &[0.005, 0.05]);
        let expected = "x_bucket{a=\"b\",le=\"0.005\"} 1\nx_bucket{a=\"b\",le=\"0.05\"} 2\nx_bucket{a=\"b\",le=\"+Inf\"} 3\nx_sum{a=\"b\"} 30.031\nx_count{a=\"b\"} 3\n";
        assert_eq!(out, expected);
    }
}
