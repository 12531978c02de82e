//! `gantry api`: one request to the cluster's API as its administrator, where no other client is at hand.

use std::io::{Read, Write};
use std::path::Path;

use gantry_transport::{Body, full};
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::admin;
use crate::cli::{ApiArgs, Failure};
use crate::server::World;

/// Sends the request and prints the answer, as it comes.
pub(crate) fn run(args: &ApiArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        let world = World::real(tokio::runtime::Handle::current())?;
        let client = admin::https(&world, &args.cluster.open())?;
        let request = request(args)?;
        let failed = |e| Failure::act(format!("{} {}", args.method, args.path), e);
        let response = client.send(request).await.map_err(failed)?;
        if !response.status().is_success() {
            let code = response.status();
            let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            return Err(refusal(code, &body));
        }
        if !args.pick.is_empty() {
            let body = response.into_body().collect().await.map_err(|e| Failure::act("reading the answer", e))?.to_bytes();
            println!("{}", pick(&body, &args.pick)?);
            return Ok(());
        }
        print(response.into_body()).await
    })
}

/// What is sent: the body's type is told from its first character, since JSON objects and lists begin as no YAML mapping does.
fn request(args: &ApiArgs) -> Result<http::Request<Body>, Failure> {
    let body = match args.file.as_deref() {
        None => Vec::new(),
        Some(file) if file == Path::new("-") => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(|e| Failure::act("reading standard input", e))?;
            body
        }
        Some(file) => std::fs::read(file).map_err(|e| Failure::act(format!("reading {}", file.display()), e))?,
    };
    let is_json = body.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| b"{[".contains(b));
    let method = args.method.to_uppercase();
    let content_type = match (method.as_str(), is_json) {
        ("PATCH", _) => format!("application/{}-patch+json", args.patch),
        (_, true) => "application/json".into(),
        (_, false) => "application/yaml".into(),
    };
    let mut request = http::Request::builder().method(method.as_str()).uri(args.path.as_str()).header(ACCEPT, "application/json, */*");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, content_type);
    }
    request.body(full(body)).map_err(|e| Failure::usage(format!("{} {} is no request: {e}", args.method, args.path)))
}

/// The server's own words, where it has some.
fn refusal(code: http::StatusCode, body: &[u8]) -> Failure {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = status["message"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    Failure::ended(format!("{}: {text}", code.as_u16()), 1)
}

/// The values at JSON pointers, apart by spaces; nothing stands as `-`.
fn pick(body: &[u8], pointers: &[String]) -> Result<String, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|e| Failure::act("reading the answer as JSON", e))?;
    let text = |pointer: &String| match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    Ok(pointers.iter().map(text).collect::<Vec<_>>().join(" "))
}

/// Writes a body to standard output piece by piece, so that watches and logs are seen while they go on.
async fn print(mut body: hyper::body::Incoming) -> Result<(), Failure> {
    let mut output = std::io::stdout();
    let mut ended = true;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::act("reading the answer", e))?;
        let Ok(data) = frame.into_data() else { continue };
        ended = data.last().map_or(ended, |b| *b == b'\n');
        output.write_all(&data).and_then(|()| output.flush()).map_err(|e| Failure::act("printing the answer", e))?;
    }
    if !ended {
        println!();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_values_stand_apart_by_spaces() {
        let body = br#"{"status":{"readyReplicas":3,"name":"a"},"items":[{"x":null}]}"#;
        let pointers = ["/status/readyReplicas", "/status/name", "/items/0/x", "/none"].map(str::to_owned);
        assert_eq!(pick(body, &pointers).expect("JSON"), "3 a - -");
        assert!(pick(b"text", &pointers).is_err());
    }

    #[test]
    fn refusals_are_in_the_servers_words() {
        let failure = refusal(http::StatusCode::NOT_FOUND, br#"{"kind":"Status","message":"pods \"a\" not found"}"#);
        assert_eq!(failure.chain(), "404: pods \"a\" not found");
    }
}
