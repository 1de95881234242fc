//! Opens a connection to the engine.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

/// A connection of any kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The address of the engine.
pub(super) enum Dial {
    /// A local unix socket.
    Unix(PathBuf),
    /// `HOST:PORT` without encryption.
    Tcp(String),
    /// `HOST:PORT` with TLS.
    Tls(Box<Tls>),
    /// `docker system dial-stdio` over `ssh`.
    Ssh(Ssh),
}

/// An engine behind TLS.
pub(super) struct Tls {
    pub(super) address: String,
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<rustls::ClientConfig>,
}

/// An engine behind `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ssh {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// The engine's socket on the remote host, if not the default one.
    pub(super) socket: Option<String>,
}

impl Dial {
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tcp(address) => Ok(Box::new(tcp(address).await?)),
            Self::Tls(tls) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&tls.config));
                let stream = tcp(&tls.address).await?;
                Ok(Box::new(connector.connect(tls.name.clone(), stream).await?))
            }
            Self::Ssh(ssh) => Ok(Box::new(ssh.connect()?)),
        }
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Ssh {
    /// The arguments of `ssh`. They disable connection sharing: its master process would outlive this one.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["-T", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ConnectTimeout=30"]
                .map(String::from)
                .into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string()]);
        }
        arguments.extend(["--".into(), self.host.clone(), "docker".into()]);
        if let Some(socket) = &self.socket {
            arguments.push(format!("--host=unix://{socket}"));
        }
        arguments.extend(["system".into(), "dial-stdio".into()]);
        arguments
    }

    fn connect(&self) -> io::Result<SshStream> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = Command::new("ssh");
        command
            .args(self.arguments())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        die_with_us(&mut command);
        let child = command.spawn().map_err(|error| {
            let why = if error.kind() == io::ErrorKind::NotFound {
                "there is no `ssh` here".into()
            } else {
                error.to_string()
            };
            io::Error::new(error.kind(), why)
        })?;
        // The command holds copies of the child's end of the pipes; while they are open, we never read end-of-file.
        drop(command);
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        Ok(SshStream { stream, child, complaint: None })
    }
}

/// Kills the child when this process dies, even by a signal.
fn die_with_us(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // A new session: Ctrl-C is handled by this process while the connection still carries its calls, and a
            // password prompt fails instead of hanging in the background.
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

/// The pipes of a running `ssh`, which is killed on drop.
struct SshStream {
    stream: UnixStream,
    child: Child,
    complaint: Option<Pin<Box<dyn Future<Output = String> + Send>>>,
}

impl AsyncRead for SshStream {
    /// Converts an end-of-file before the first byte to an error with the message of `ssh`.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.complaint.is_none() {
            let before = buf.filled().len();
            let outcome = std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
            let ended = outcome.is_err() || buf.filled().len() == before;
            let (true, Some(mut stderr)) = (ended, this.child.stderr.take()) else {
                return Poll::Ready(outcome);
            };
            this.complaint = Some(Box::pin(async move {
                let mut text = String::new();
                // A partial message is better than none.
                let _ = (&mut stderr).take(4096).read_to_string(&mut text).await;
                text.trim().to_owned()
            }));
        }
        match this.complaint.as_mut() {
            Some(complaint) => {
                let text = std::task::ready!(complaint.as_mut().poll(cx));
                this.complaint = None;
                if text.is_empty() { Poll::Ready(Ok(())) } else { Poll::Ready(Err(io::Error::other(text))) }
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
