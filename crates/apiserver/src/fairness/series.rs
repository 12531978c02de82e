//! What is counted of flows, under upstream's names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::levels::Levels;
use crate::metrics::{Histogram, head, line};

const LENGTHS: [f64; 8] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const DURATIONS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SEATS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

/// What is counted of the requests of one schema at one level.
#[derive(Default)]
pub(super) struct Flow {
    rejected: BTreeMap<&'static str, u64>,
    dispatched: u64,
    waiting: (u32, u32),
    executing: (u32, u32),
    lengths: Histogram,
    waited: [Histogram; 2],
    executed: [Histogram; 2],
    widths: Histogram,
}

impl Flow {
    pub(super) fn arrived(&mut self, seats: u32) {
        self.widths.observe(&SEATS, f64::from(seats));
    }

    pub(super) fn queued(&mut self, seats: u32, length: usize) {
        self.waiting = (self.waiting.0 + 1, self.waiting.1 + seats);
        self.lengths.observe(&LENGTHS, length as f64);
    }

    /// A request no longer waits.
    pub(super) fn unqueued(&mut self, seats: u32, waited: Duration, executes: bool) {
        self.waiting = (self.waiting.0.saturating_sub(1), self.waiting.1.saturating_sub(seats));
        self.waited[usize::from(executes)].observe(&DURATIONS, waited.as_secs_f64());
    }

    pub(super) fn rejected(&mut self, why: &'static str) {
        *self.rejected.entry(why).or_default() += 1;
    }

    pub(super) fn began(&mut self, seats: u32) {
        self.dispatched += 1;
        self.executing = (self.executing.0 + 1, self.executing.1 + seats);
    }

    pub(super) fn ended(&mut self, seats: u32, took: Duration, watch: bool) {
        self.executing = (self.executing.0.saturating_sub(1), self.executing.1.saturating_sub(seats));
        self.executed[usize::from(watch)].observe(&DURATIONS, took.as_secs_f64());
    }
}

/// All flows by level and schema.
#[derive(Default)]
pub(super) struct Series {
    numbers: BTreeMap<(Arc<str>, Arc<str>), usize>,
    flows: Vec<Flow>,
}

impl Series {
    /// The number of a schema at a level.
    pub(super) fn number(&mut self, level: &Arc<str>, schema: &Arc<str>) -> usize {
        let next = self.flows.len();
        let number = *self.numbers.entry((level.clone(), schema.clone())).or_insert(next);
        if number == next {
            self.flows.push(Flow::default());
        }
        number
    }

    pub(super) fn flow(&mut self, number: usize) -> &mut Flow {
        &mut self.flows[number]
    }

    fn each(&self) -> impl Iterator<Item = (String, &Flow)> {
        self.numbers.iter().map(|((level, schema), i)| (format!("flow_schema=\"{schema}\",priority_level=\"{level}\""), &self.flows[*i]))
    }

    /// Writes everything down.
    pub(super) fn write(&self, out: &mut String, levels: &Levels) {
        self.write_counts(out);
        self.write_histograms(out);
        for (at, (what, help)) in [
            ("nominal_limit_seats", "Seats of a priority level by its shares."),
            ("lower_limit_seats", "Seats that a priority level keeps whatever others need."),
            ("upper_limit_seats", "Seats that a priority level may have when others need nothing."),
            ("current_limit_seats", "Seats that a priority level may use now."),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("apiserver_flowcontrol_{what}");
            head(out, &name, "gauge", help);
            for (level, seats, limit) in levels.seats() {
                line(out, &name, &format!("priority_level=\"{level}\""), [seats.nominal, seats.lower, seats.upper, limit][at]);
            }
        }
    }

    fn write_counts(&self, out: &mut String) {
        let name = "apiserver_flowcontrol_rejected_requests_total";
        head(out, name, "counter", "Requests refused for want of a seat.");
        for (labels, flow) in self.each() {
            for (why, count) in &flow.rejected {
                line(out, name, &format!("{labels},reason=\"{why}\""), count);
            }
        }
        type Of = fn(&Flow) -> u64;
        let counts: [(&str, &str, &str, Of); 5] = [
            ("dispatched_requests_total", "counter", "Requests that got a seat.", |f| f.dispatched),
            ("current_inqueue_requests", "gauge", "Requests that wait for a seat.", |f| f.waiting.0.into()),
            ("current_inqueue_seats", "gauge", "Seats that are waited for.", |f| f.waiting.1.into()),
            ("current_executing_requests", "gauge", "Requests that have a seat; a watch until it has begun.", |f| f.executing.0.into()),
            ("current_executing_seats", "gauge", "Seats in use.", |f| f.executing.1.into()),
        ];
        for (what, kind, help, of) in counts {
            let name = format!("apiserver_flowcontrol_{what}");
            head(out, &name, kind, help);
            self.each().for_each(|(labels, flow)| line(out, &name, &labels, of(flow)));
        }
    }

    fn write_histograms(&self, out: &mut String) {
        let mut each = |what: &str, help: &str, bounds: &[f64], of: &dyn Fn(&Flow) -> Vec<(&'static str, Histogram)>| {
            let name = format!("apiserver_flowcontrol_{what}");
            head(out, &name, "histogram", help);
            for (labels, flow) in self.each() {
                for (label, histogram) in of(flow).into_iter().filter(|(_, h)| !h.is_empty()) {
                    histogram.write(out, &name, &format!("{labels}{label}"), bounds);
                }
            }
        };
        each("request_queue_length_after_enqueue", "How many wait at a level, as those who come to wait see it.", &LENGTHS, &|f| {
            vec![("", f.lengths.clone())]
        });
        each("request_wait_duration_seconds", "How long requests waited for a seat.", &DURATIONS, &|f| {
            vec![(",execute=\"false\"", f.waited[0].clone()), (",execute=\"true\"", f.waited[1].clone())]
        });
        each("request_execution_seconds", "How long requests had their seats.", &DURATIONS, &|f| {
            vec![(",type=\"regular\"", f.executed[0].clone()), (",type=\"watch\"", f.executed[1].clone())]
        });
        each("work_estimated_seats", "How many seats requests take.", &SEATS, &|f| vec![("", f.widths.clone())]);
    }
}
