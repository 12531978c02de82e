//! As much of HTTP/1.1 as both ends here need.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read.
const MOST: usize = 16 << 10;

/// Reads up to the empty line that ends a head; what follows it stays in `buffer`. `None` at the end of the stream.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if buffer.len() > MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The value of a header, by its name in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn heads_are_cut_where_they_end() {
        let mut stream: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut buffer = Vec::new();
        let head = read_head(&mut stream, &mut buffer).await.expect("readable").expect("a head");
        assert_eq!((header(&head, "host"), header(&head, "connection"), buffer.as_slice()), (Some("a"), None, &b"rest"[..]));
        assert_eq!(read_head(&mut stream, &mut buffer).await.expect("readable"), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn endless_heads_are_refused() {
        let long = vec![b'a'; 2 * MOST];
        assert!(read_head(&mut long.as_slice(), &mut Vec::new()).await.is_err());
    }
}
