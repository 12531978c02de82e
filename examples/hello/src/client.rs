//! The client: one page, or many at a steady rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::http::read_head;

/// How long one request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints a page.
pub(crate) async fn get(url: &str) -> Result<(), String> {
    let body = fetch(url).await.map_err(|e| format!("{url}: {e}"))?;
    print!("{body}");
    Ok(())
}

/// Fetches a page over a connection of its own; anything but a whole answer with status 200 is an error.
async fn fetch(url: &str) -> Result<String, String> {
    match timeout(PATIENCE, exchange(url)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

async fn exchange(url: &str) -> Result<String, String> {
    let (authority, path) = parse(url)?;
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(&address).await.map_err(|e| format!("connecting: {e}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| format!("sending: {e}"))?;
    let mut buffer = Vec::new();
    let head = read_head(&mut stream, &mut buffer).await.map_err(|e| format!("reading: {e}"))?;
    let head = head.ok_or("the connection ended before an answer")?;
    stream.read_to_end(&mut buffer).await.map_err(|e| format!("reading: {e}"))?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if status != "200" {
        return Err(format!("status {status}"));
    }
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// Host, with port if any, and path.
fn parse(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    Ok(rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)))
}

/// A steady load.
pub(crate) struct Load {
    pub(crate) url: String,
    pub(crate) lasts: Duration,
    pub(crate) per_second: u32,
    /// What some answer must contain.
    pub(crate) pattern: Option<String>,
}

/// What came of a load.
#[derive(Default)]
struct Tally {
    answers: BTreeMap<String, u32>,
    failures: BTreeMap<String, u32>,
    times: Vec<Duration>,
}

impl Load {
    /// Loads, prints what came of it, and fails if a request failed.
    pub(crate) async fn run(self) -> Result<(), String> {
        let url: Arc<str> = self.url.as_str().into();
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / self.per_second);
        // A moment without time for us is made up for, so that the rate holds.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut running = JoinSet::new();
        let mut tally = Tally::default();
        while begun.elapsed() < self.lasts {
            ticks.tick().await;
            let url = url.clone();
            running.spawn(async move {
                let begun = Instant::now();
                (fetch(&url).await, begun.elapsed())
            });
            while let Some(Ok((answer, took))) = running.try_join_next() {
                tally.add(answer, took);
            }
        }
        while let Some(Ok((answer, took))) = running.join_next().await {
            tally.add(answer, took);
        }
        tally.report(begun.elapsed(), self.pattern.as_deref())
    }
}

impl Tally {
    fn add(&mut self, answer: Result<String, String>, took: Duration) {
        self.times.push(took);
        let (which, text) = match answer {
            Ok(body) => (&mut self.answers, body.lines().next().unwrap_or("").to_owned()),
            Err(why) => (&mut self.failures, why),
        };
        *which.entry(text).or_default() += 1;
    }

    /// Says it in a few lines; an error where something failed.
    fn report(mut self, lasted: Duration, pattern: Option<&str>) -> Result<(), String> {
        self.times.sort();
        let at = |percent: usize| self.times.get(self.times.len() * percent / 100).map_or(0.0, |t| t.as_secs_f64() * 1e3);
        let failed: u32 = self.failures.values().sum();
        println!(
            "{} requests in {:.1} s, {failed} failed; p50 {:.2} ms, p99 {:.2} ms",
            self.times.len(),
            lasted.as_secs_f64(),
            at(50),
            at(99)
        );
        self.answers.iter().for_each(|(line, times)| println!("{times:7}  {line}"));
        self.failures.iter().for_each(|(why, times)| println!("{times:7}  FAILED: {why}"));
        match pattern {
            _ if failed > 0 => Err(format!("{failed} requests failed")),
            Some(pattern) if !self.answers.keys().any(|a| a.contains(pattern)) => Err(format!("no answer contains {pattern:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(parse("http://hello"), Ok(("hello", "/")));
        assert_eq!(parse("http://10.1.2.3:8080/a/b"), Ok(("10.1.2.3:8080", "/a/b")));
        assert!(parse("https://hello").is_err());
    }

    #[test]
    fn one_failure_fails_the_load() {
        let mut tally = Tally::default();
        tally.add(Ok("version 1\n".into()), Duration::from_millis(1));
        tally.add(Err("connecting: refused".into()), Duration::from_millis(2));
        assert!(tally.report(Duration::from_secs(1), None).is_err());
    }

    #[test]
    fn a_pattern_that_no_answer_has_fails_the_load() {
        let tally = || {
            let mut tally = Tally::default();
            tally.add(Ok("version 1\n".into()), Duration::from_millis(1));
            tally
        };
        assert!(tally().report(Duration::from_secs(1), Some("version 1")).is_ok());
        assert!(tally().report(Duration::from_secs(1), Some("version 2")).is_err());
    }
}
