//! Copies bytes between two streams in both directions at once. It forwards the end of each direction separately, and a
//! reset as a reset.
//!
//! Small messages go through one shared buffer. Bulk data moves inside the kernel by `splice`, through a pipe that is
//! borrowed only while data is in flight, so that an idle connection costs only its two sockets.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream, task::coop};

/// A read of this many bytes counts as the beginning of bulk data.
const SMALL: usize = 16 * 1024;
/// The capacity of one borrowed pipe.
const PIPE_BYTES: usize = 512 * 1024;
/// The most unused pipes that are kept.
const SPARE_PIPES: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Box<[u8; SMALL]>> = RefCell::new(Box::new([0; SMALL]));
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
}

/// Copies bytes both ways until both directions have ended. An error on either side resets both.
pub async fn relay(one: TcpStream, other: TcpStream) {
    let _ = (one.set_nodelay(true), other.set_nodelay(true));
    if carry_both(&one, &other).await.is_err() {
        reset(one);
        reset(other);
    }
}

async fn carry_both(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    let (mut there, mut back) = (pin!(carry(one, other)), pin!(carry(other, one)));
    tokio::select! {
        ended = &mut there => {
            ended?;
            tokio::select! { ended = back => ended, error = broken(one) => Err(error) }
        }
        ended = &mut back => {
            ended?;
            tokio::select! { ended = there => ended, error = broken(other) => Err(error) }
        }
    }
}

/// Waits for a reset on a stream that has ended and that is therefore not read any more.
async fn broken(stream: &TcpStream) -> io::Error {
    match stream.ready(Interest::ERROR).await.and_then(|_ready| stream.take_error()) {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => std::future::pending().await,
    }
}

/// Closes a stream with a reset.
pub fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn carry(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        match carry_small(from, to) {
            Ok(CopyResult::End) => return end(to),
            Ok(CopyResult::All { full: false }) => {}
            Ok(CopyResult::All { full: true }) => {
                if carry_bulk(from, to).await? {
                    return end(to);
                }
            }
            Ok(CopyResult::Part(rest)) => write_all(to, &rest).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        coop::consume_budget().await;
    }
}

/// Forwards the end of a direction; the other direction stays open.
fn end(to: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(to.as_fd(), rustix::net::Shutdown::Write) {
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

enum CopyResult {
    End,
    All { full: bool },
    Part(Vec<u8>),
}

fn carry_small(from: &TcpStream, to: &TcpStream) -> io::Result<CopyResult> {
    SCRATCH.with_borrow_mut(|scratch| {
        let length = from.try_read(&mut scratch[..])?;
        if length == 0 {
            return Ok(CopyResult::End);
        }
        let written = match to.try_write(&scratch[..length]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok(if written == length {
            CopyResult::All { full: length == SMALL }
        } else {
            CopyResult::Part(scratch[written..length].to_vec())
        })
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves bytes until none are left for the moment; returns whether `from` has ended. If no pipe is available, it moves
/// nothing and the caller continues with the shared buffer.
async fn carry_bulk(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let Some(pipe) = borrow_pipe() else { return Ok(false) };
    let ended = splice_through(&pipe, from, to).await?;
    PIPES.with_borrow_mut(|pipes| {
        if pipes.len() < SPARE_PIPES {
            pipes.push(pipe);
        }
    });
    Ok(ended)
}

async fn splice_through(pipe: &Pipe, from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let taken = from.try_io(Interest::READABLE, || {
            Ok(splice(from.as_fd(), None, pipe.writer.as_fd(), None, pipe.capacity, flags)?)
        });
        let mut inside = match taken {
            Ok(0) => return Ok(true),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        while inside > 0 {
            let given = to.try_io(Interest::WRITABLE, || {
                Ok(splice(pipe.reader.as_fd(), None, to.as_fd(), None, inside, flags)?)
            });
            match given {
                Ok(given) => inside -= given,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        coop::consume_budget().await;
    }
}

fn borrow_pipe() -> Option<Pipe> {
    if let Some(pipe) = PIPES.with_borrow_mut(Vec::pop) {
        return Some(pipe);
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    let capacity = fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap_or(64 * 1024);
    Some(Pipe { reader, writer, capacity })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    /// A client and a server with a relay between them.
    async fn pair() -> (TcpStream, TcpStream) {
        let connect = async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (out, inward) = tokio::join!(TcpStream::connect(address), listener.accept());
            (out.unwrap(), inward.unwrap().0)
        };
        let (client, ours) = connect().await;
        let (theirs, server) = connect().await;
        tokio::spawn(relay(ours, theirs));
        (client, server)
    }

    #[tokio::test]
    async fn a_half_closed_connection_still_answers() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn a_reset_is_passed_on_as_a_reset() {
        let (client, mut server) = pair().await;
        reset(client);
        let error = timeout(Duration::from_secs(5), server.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_reset_after_the_end_is_passed_on_too() {
        let (mut client, mut server) = pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        reset(client);
        let error = timeout(Duration::from_secs(5), server.ready(Interest::ERROR)).await;
        assert!(error.is_ok(), "the server hears nothing of the reset");
    }

    #[tokio::test]
    async fn bulk_arrives_whole_and_in_order_both_ways_at_once() {
        let (client, server) = pair().await;
        let bytes: Vec<u8> = (0..8_000_000u32).map(|index| (index % 251) as u8).collect();
        let exchange = |stream: TcpStream, bytes: Vec<u8>| async move {
            let (mut reader, mut writer) = stream.into_split();
            let writing = async {
                writer.write_all(&bytes).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut read = Vec::new();
            let (_, length) = tokio::join!(writing, reader.read_to_end(&mut read));
            length.unwrap();
            assert!(read == bytes, "what arrived is not what was sent");
        };
        tokio::join!(exchange(client, bytes.clone()), exchange(server, bytes.clone()));
    }
}
