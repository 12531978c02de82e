use gantry_ports::Tasks;
use http::{StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use crate::{DialError, HttpsClient, Request, Response, full, streaming};

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
    tasks.spawn(async move {
        // Either end may hang up at any time: that is how streams end.
        let (Ok(near), Ok(far)) = (near.await, far.await) else { return };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, PIECE, PIECE).await;
    });
    let (parts, _) = answer.into_parts();
    Ok(http::Response::from_parts(parts, full("")))
}

fn pass_back(answer: http::Response<hyper::body::Incoming>, tasks: &Tasks) -> Response {
    let (mut parts, mut body) = answer.into_parts();
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    parts.headers.remove(http::header::CONNECTION);
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
