//! Connects to listed names: the gateway resolves them itself and never connects to internal addresses.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::context::Serving;
use super::lookup::{self};
use super::stats::RefusalKind;
use crate::agent::host_firewall::edge::LET_OUT;

/// How long to wait for one address to accept.
const CONNECT_FOR: Duration = Duration::from_secs(10);

/// An outbound connection that a service asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The service's address.
    pub from: SocketAddr,
    /// The name, which is on the list.
    pub name: &'a str,
    /// The port.
    pub port: u16,
    /// The kind of request, for the statistics.
    pub kind: RefusalKind,
}

/// Connects to a listed name, at an address that the policy permits. Internal addresses are counted as refused.
pub async fn connect(serving: &Serving, wanted: Wanted<'_>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no such name: `{}`", wanted.name));
    for address in resolve(serving, wanted.name).await? {
        if let Err(refusal) = serving.policy.permits_resolved(address, wanted.port) {
            let reason = format!("{refusal}: {address}");
            serving.refuse(wanted.from, wanted.kind, wanted.name, Some(wanted.port), Some(reason));
            last = io::Error::new(io::ErrorKind::PermissionDenied, refusal);
            continue;
        }
        let socket = socket(serving.policy.names_address(address, wanted.port))?;
        let at = SocketAddr::from((address, wanted.port));
        match timeout(CONNECT_FOR, socket.connect(at)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

/// Creates an outbound socket. It reaches the engine's machine only if a rule `names` the machine's address.
fn socket(names: bool) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    if names {
        rustix::net::sockopt::set_ip_tos(&socket, LET_OUT)?;
    }
    Ok(socket)
}

async fn resolve(serving: &Serving, name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let now = Instant::now();
    if let Some(addresses) = serving.answers.lock().get(name, now) {
        return Ok(addresses);
    }
    let answers = lookup::addresses(serving.outside_resolver(), name).await?;
    serving.answers.lock().put(name, &answers, now);
    Ok(answers.into_iter().map(|answer| answer.address).collect())
}
