use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// A body to send.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body of a known length whose pieces are made as the reader takes them. Together they must be `length` bytes.
pub fn in_pieces(length: usize, pieces: impl Iterator<Item = Bytes> + Send + Unpin + 'static) -> Body {
    Known { left: length as u64, pieces }.boxed_unsync()
}

struct Known<I> {
    left: u64,
    pieces: I,
}

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Known<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        self.left = self.left.saturating_sub(piece.as_ref().map_or(0, |p| p.len() as u64));
        Poll::Ready(piece.map(|p| Ok(Frame::data(p))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Where the pieces of a body come from.
pub trait Pieces: Send + 'static {
    /// The next piece, waiting for it; `None` at the end. Asked when the reader has taken the last one, and dropped when the reader is gone.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

impl Pieces for mpsc::Receiver<Bytes> {
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send {
        self.recv()
    }
}

/// A body of unknown length.
pub fn streaming(pieces: impl Pieces) -> Body {
    let frames = futures_util::stream::unfold(pieces, async |mut pieces| {
        let bytes = pieces.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), pieces))
    });
    StreamBody::new(frames).boxed_unsync()
}
