//! `sandbox agent connect`: connects an exec in the keeper's container to the keeper's socket.
//!
//! It copies stdin to the socket and the socket to stdout, and exits when either side ends. So when a client dies,
//! which closes the exec's stdin, its connection closes. It uses plain threads: there is one such process per session,
//! and it has to be small.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long to wait for a keeper that is starting.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Connects, and copies in both directions until either side ends.
pub fn run(socket: &Path) -> ExitCode {
    match connect(socket).and_then(|socket| copy_both(&socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot reach the keeper at `{}`: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

fn copy_both(socket: &UnixStream) -> io::Result<()> {
    let mut to_keeper = socket.try_clone()?;
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let _ = copy(&mut io::stdin().lock(), &mut to_keeper);
        // The client has gone, so the connection closes, even if the keeper has more to send.
        let _ = to_keeper.shutdown(std::net::Shutdown::Both);
    })?;
    copy(&mut &*socket, &mut io::stdout().lock())
}

/// Copies and flushes each chunk, so that no message waits for the next one.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => {
                to.write_all(&buffer[..size])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
