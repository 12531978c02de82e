use gantry_ports::Tasks;
use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::{DialError, HttpsClient, Origin, Request, Response, full, streaming};

/// Headers that concern one connection only.
const HOP: [http::HeaderName; 5] =
    [http::header::HOST, http::header::AUTHORIZATION, http::header::TE, http::header::TRANSFER_ENCODING, http::header::CONTENT_LENGTH];
/// How many pieces may wait for a slow reader.
const BUFFER: usize = 16;

/// The largest piece passed on at once after a switch: what one TLS record holds, several times.
const PIECE: usize = 64 << 10;

/// Passes a request on to another server under a URI of its own, and the answer back as it comes. When the other server switches
/// protocols, so does this one, and bytes go both ways until either side ends.
///
/// The caller's credentials stay here; its body is not passed on.
///
/// # Errors
/// When the other server cannot be reached or breaks off before it answers.
pub async fn relay(client: &HttpsClient, mut request: Request, uri: Uri, tasks: &Tasks) -> Result<Response, DialError> {
    let upgrades = request.headers().contains_key(http::header::UPGRADE);
    let mut onward = http::Request::new(full(""));
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = uri;
    for (name, value) in request.headers().iter().filter(|(name, _)| !HOP.contains(name)) {
        onward.headers_mut().append(name, value.clone());
    }
    if !upgrades {
        onward.headers_mut().remove(http::header::CONNECTION);
        let answer = client.send(onward).await?;
        return Ok(pass_back(answer, tasks));
    }
    let near = hyper::upgrade::on(&mut request);
    let mut answer = client.send_alone(onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(pass_back(answer, tasks));
    }
    let far = hyper::upgrade::on(&mut answer);
    tasks.spawn(join(near, far));
    let (parts, _) = answer.into_parts();
    Ok(http::Response::from_parts(parts, full("")))
}

/// Headers that concern one connection only, beside those that a switch of protocols needs.
const CONNECTION_ONLY: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"];

/// Passes a request on to another server as it is, its body with it, and the answer back as it comes. When the other server switches
/// protocols, so does this one.
///
/// The caller sets URI and headers as the other server is to see them.
///
/// # Errors
/// When the other server cannot be reached or breaks off before it answers.
pub async fn forward(origin: &Origin, mut request: Request, tasks: &Tasks) -> Result<Response, DialError> {
    let upgrade = request.headers().get(http::header::UPGRADE).cloned();
    let near = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    parts.version = http::Version::HTTP_11;
    // What is about the near connection, its upgrade included, is not the far one's.
    parts.extensions.clear();
    for name in CONNECTION_ONLY {
        parts.headers.remove(name);
    }
    if upgrade.is_some() {
        parts.headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
    }
    let body = if hyper::body::Body::is_end_stream(&body) { full("") } else { pumped(body, tasks) };
    let mut answer = origin.send(http::Request::from_parts(parts, body)).await?;
    let Some(near) = near.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) else { return Ok(pass_back(answer, tasks)) };
    let far = hyper::upgrade::on(&mut answer);
    tasks.spawn(join(near, far));
    let (parts, _) = answer.into_parts();
    Ok(http::Response::from_parts(parts, full("")))
}

/// A body to send, of one that arrives. It never ends early: where the sender breaks off, so does this one's reader.
fn pumped(mut body: hyper::body::Incoming, tasks: &Tasks) -> crate::Body {
    let (send, pieces) = tokio::sync::mpsc::channel(BUFFER);
    tasks.spawn(async move {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return send.closed().await };
            let Ok(data) = frame.into_data() else { continue };
            if send.send(data).await.is_err() {
                return;
            }
        }
    });
    streaming(pieces)
}

async fn join(near: hyper::upgrade::OnUpgrade, far: hyper::upgrade::OnUpgrade) {
    // Either end may hang up at any time: that is how streams end.
    let (Ok(near), Ok(far)) = (near.await, far.await) else { return };
    let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, PIECE, PIECE).await;
}

fn pass_back(answer: http::Response<hyper::body::Incoming>, tasks: &Tasks) -> Response {
    let (mut parts, mut body) = answer.into_parts();
    for name in CONNECTION_ONLY {
        parts.headers.remove(name);
    }
    let (send, pieces) = tokio::sync::mpsc::channel(BUFFER);
    tasks.spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if send.send(data).await.is_err() {
                return;
            }
        }
    });
    http::Response::from_parts(parts, streaming(pieces))
}
