//! Connects standard input and output to a port of the sandbox, for a client that has no route into it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// How long a connection may take.
const CONNECT_FOR: Duration = Duration::from_secs(10);

/// Connects to `address` and copies both ways until the peer has sent everything.
pub fn carry_stdio(address: &str) -> io::Result<()> {
    let address: SocketAddr =
        address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut from_peer = TcpStream::connect_timeout(&address, CONNECT_FOR)?;
    let mut to_peer = from_peer.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut to_peer);
        // A client that closes its end has exited, so the rest of the peer's data is dropped.
        std::process::exit(0);
    });
    let (mut bytes, mut stdout) = ([0; 16 * 1024], io::stdout().lock());
    loop {
        match from_peer.read(&mut bytes)? {
            0 => return Ok(()),
            length => {
                stdout.write_all(&bytes[..length])?;
                stdout.flush()?;
            }
        }
    }
}
