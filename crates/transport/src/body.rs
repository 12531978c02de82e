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
    Pieces { left: length as u64, pieces }.boxed_unsync()
}

struct Pieces<I> {
    left: u64,
    pieces: I,
}

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Pieces<I> {
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

/// A body whose pieces come through a channel. It ends when the sender is dropped; the sender notices when the reader is gone.
pub fn streaming(pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let bytes = pieces.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), pieces))
    });
    StreamBody::new(frames).boxed_unsync()
}
