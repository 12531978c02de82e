use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// A body to send.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body whose pieces come through a channel. It ends when the sender is dropped; the sender notices when the reader is gone.
pub fn streaming(pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let bytes = pieces.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), pieces))
    });
    StreamBody::new(frames).boxed_unsync()
}
