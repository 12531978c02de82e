use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::BoxFuture;

/// A connected stream of bytes.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Within the process.
    Simulated(DuplexStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Simulated(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Takes connections.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Within the process.
    Simulated {
        /// The address it was bound to.
        address: SocketAddr,
        /// Streams whose other end a client holds.
        incoming: mpsc::UnboundedReceiver<DuplexStream>,
    },
}

impl Listener {
    /// Where it listens, with the port that was chosen when 0 was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Simulated { address, .. } => Ok(*address),
        }
    }

    /// The next connection and its peer's address.
    ///
    /// # Errors
    /// When the kernel is out of descriptors, or the listener is closed.
    pub async fn accept(&mut self) -> io::Result<(Connection, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Connection::Tcp(stream), peer))
            }
            Self::Simulated { address, incoming } => match incoming.recv().await {
                Some(stream) => Ok((Connection::Simulated(stream), *address)),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }
}

/// Listens and connects.
pub trait Sockets: Send + Sync + 'static {
    /// Listens on an address; port 0 chooses a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>>;

    /// Connects to an address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>>;
}

/// The kernel's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSockets;

impl Sockets for RealSockets {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move { TcpListener::bind(address).await.map(Listener::Tcp) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Connection::Tcp(stream))
        })
    }
}

/// A network within the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimulatedSockets {
    listeners: Arc<Mutex<BTreeMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>,
}

impl Sockets for SimulatedSockets {
    fn bind(&self, mut address: SocketAddr) -> BoxFuture<'_, io::Result<Listener>> {
        Box::pin(async move {
            let mut listeners = self.listeners.lock().expect("nothing panics while it holds this lock");
            listeners.retain(|_, listener| !listener.is_closed());
            if address.port() == 0 {
                let free = (1..=u16::MAX).rev().find(|port| !listeners.contains_key(&SocketAddr::new(address.ip(), *port)));
                address.set_port(free.ok_or(io::ErrorKind::AddrInUse)?);
            }
            if listeners.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (send, incoming) = mpsc::unbounded_channel();
            listeners.insert(address, send);
            Ok(Listener::Simulated { address, incoming })
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let listeners = self.listeners.lock().expect("nothing panics while it holds this lock");
            let listener = listeners.get(&address).ok_or(io::ErrorKind::ConnectionRefused)?;
            listener.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Connection::Simulated(ours))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn contract(sockets: &dyn Sockets) {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut listener = sockets.bind(any).await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        assert_ne!(address.port(), 0);
        assert_eq!(sockets.bind(address).await.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        let mut client = sockets.connect(address).await.expect("connects");
        let (mut server, _) = listener.accept().await.expect("accepts");
        client.write_all(b"hello").await.expect("writes");
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.expect("reads");
        assert_eq!(&heard, b"hello");
        drop(client);
        assert_eq!(server.read(&mut heard).await.expect("ends"), 0);
        drop(listener);
        assert_eq!(sockets.connect(address).await.expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn both_sides_keep_the_contract() {
        contract(&RealSockets).await;
        contract(&SimulatedSockets::default()).await;
    }
}
