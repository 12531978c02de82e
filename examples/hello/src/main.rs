//! The example: a small web server that says who answers, and a client that fetches a page or loads a server steadily.

mod client;
mod http;
mod server;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: hello COMMAND
  serve                        answer on $PORT (8080) until SIGTERM; / says version, host and path, /healthz says ok
  get URL                      fetch a page and print it
  load URL SECONDS [PER_SECOND [PATTERN]]
                               send requests at a steady rate (200 a second), each over its own connection; fails if one fails,
                               or if no answer contains PATTERN";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["serve"] => server::serve().await,
        ["get", url] => client::get(url).await,
        ["load", url, rest @ ..] => match load(url, rest) {
            Some(load) => load.run().await,
            None => Err(USAGE.into()),
        },
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn load(url: &str, rest: &[&str]) -> Option<client::Load> {
    let seconds: u64 = rest.first()?.parse().ok()?;
    let per_second: u32 = rest.get(1).map_or(Some(200), |r| r.parse().ok())?;
    let pattern = rest.get(2).map(|p| (*p).to_owned());
    (per_second > 0).then(|| client::Load { url: url.into(), lasts: Duration::from_secs(seconds), per_second, pattern })
}
