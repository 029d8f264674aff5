//! The socket of a caller, which a slow or silent one cannot hold for ever. hyper's own deadline of a head also counts the time between
//! two requests, does not hold for an unfinished preface of HTTP/2, and there is none for a caller that does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::limits::HTTP2_WEIGHT;
use super::{Connection, Limits, Socket, Stage, Timer, Wait};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LATE_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 52\r\n\
connection: close\r\n\r\n{\"error\":\"the request's head did not come in time\"}\n";

#[derive(Debug)]
pub struct TimedStream {
    stream: Socket,
    connection: Arc<Connection>,
    limits: Limits,
    reading: Timer,
    writing: Timer,
    /// How much of the preface of HTTP/2 has come; `None` once it is clear which protocol this is.
    preface: Option<usize>,
    half_closed: Option<HalfClosed>,
}

/// The caller has shut its sending side, or is gone.
#[derive(Clone, Copy, Debug)]
struct HalfClosed {
    /// Bytes have gone to it since. One that is gone resets the connection then.
    answered: bool,
}

impl TimedStream {
    pub fn new(stream: Socket, connection: Arc<Connection>, limits: Limits) -> Self {
        let (reading, writing) = (Timer::default(), Timer::default());
        Self { stream, connection, limits, reading, writing, preface: Some(0), half_closed: None }
    }

    /// Bytes have come.
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.connection.stage() == Stage::Idle {
            self.reading.clear();
            self.connection.enter(Stage::Head);
        }
        let Some(seen) = self.preface else { return Ok(()) };
        let rest = &PREFACE[seen..];
        let same = bytes.len().min(rest.len());
        self.preface = Some(seen + same).filter(|_| bytes[..same] == rest[..same]);
        if self.preface == Some(PREFACE.len()) {
            self.preface = None;
            self.connection.enter(Stage::Http2);
            if !self.connection.grow(HTTP2_WEIGHT - 1) {
                return Err(io::Error::other("there is no room for a connection of HTTP/2"));
            }
        }
        Ok(())
    }

    /// Nothing has come.
    fn wait_to_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (wait, limit) = match self.connection.stage() {
            Stage::Idle => (Wait::Request, self.limits.idle),
            Stage::Head => (Wait::Head, self.limits.head),
            stage @ (Stage::Busy | Stage::Http2 | Stage::Upgraded) => {
                self.reading.clear();
                if stage == Stage::Busy {
                    // hyper does not look again after the answer, and the idle connection would have no deadline.
                    self.connection.wakes(cx.waker());
                }
                return Poll::Pending;
            }
        };
        self.reading.poll(wait, limit, cx).map(|()| {
            if wait == Wait::Head && self.preface.is_none() {
                // Nothing else is being written: the answers before it are out.
                let _answered_or_gone = Pin::new(&mut self.stream).poll_write(cx, LATE_HEAD);
            }
            Err(io::Error::new(io::ErrorKind::TimedOut, "the caller is silent"))
        })
    }

    /// The end of what the caller sends. hyper takes it for a caller that has left, so while an answer is made it hears of it late.
    fn ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = *self.half_closed.get_or_insert_with(|| {
            self.reading.clear();
            HalfClosed { answered: false }
        });
        if self.connection.stage() != Stage::Busy {
            return Poll::Ready(Ok(()));
        }
        while self.reading.poll(Wait::Answer, self.limits.half_closed, cx).is_ready() {
            if !now.answered {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = self.stream.take_error()? {
                return Poll::Ready(Err(error));
            }
            self.reading.clear();
        }
        self.connection.wakes(cx.waker());
        Poll::Pending
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready()
            && let Some(half_closed) = &mut self.half_closed
        {
            half_closed.answered = true;
        }
        self.in_time(written, cx)
    }

    /// What goes out has one deadline: TLS takes the end of an answer at once, and then waits for the caller where it is flushed.
    fn in_time<T>(&mut self, out: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if out.is_ready() {
            self.writing.clear();
            return out;
        }
        let waited = self.writing.poll(Wait::Write, self.limits.write, cx);
        waited.map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the caller does not read its answer")))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.half_closed.is_some() {
            return this.ended(cx);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => Poll::Ready(this.came(&buf.filled()[before..])),
            Poll::Ready(Ok(())) if buf.remaining() > 0 => this.ended(cx),
            Poll::Pending => this.wait_to_read(cx),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.in_time(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.in_time(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::Register;
    use super::*;

    #[tokio::test]
    async fn a_caller_over_tls_that_does_not_read_is_let_go_where_it_is_waited_for() {
        let chain = CertificateDer::from_pem_slice(include_bytes!("../../tests/certs/a.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../tests/certs/a.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(chain.clone()).unwrap();
        let client =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![chain], key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let name = ServerName::try_from("model.example").unwrap();
        let (caller, accepted) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, caller),
            TlsAcceptor::from(Arc::new(server)).accept(accepted)
        );
        let _reads_nothing = caller.unwrap();
        let limits = Limits { write: Duration::from_millis(200), ..Limits::default() };
        let connection = Arc::new(Arc::new(Register::new(1)).admit().unwrap());
        let mut stream = TimedStream::new(Socket::Tls(Box::new(accepted.unwrap())), connection, limits);
        let late = tokio::time::timeout(Duration::from_mins(1), async {
            loop {
                // TLS takes it all, so that only the flush waits.
                stream.write_all(&[0; 16 << 10]).await.unwrap();
                if let Err(error) = stream.flush().await {
                    return error;
                }
            }
        });
        assert_eq!(late.await.unwrap().kind(), io::ErrorKind::TimedOut);
        let shut = tokio::time::timeout(Duration::from_mins(1), stream.shutdown()).await.unwrap();
        assert_eq!(shut.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
