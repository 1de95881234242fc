//! Checks which of the host ports that a spec prefers are taken.
//!
//! Only the engine publishes ports, often with more privileges than ours. So a port counts as taken only if another
//! process has it, never because we may not bind it.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::engine::{Port, Protocol};
use crate::plan::{self, Observed};
use crate::session::error::SessionError;
use crate::session::request::PreferredPort;
use crate::spec::Spec;

/// How long to wait for a connection to a loopback port.
const ANSWER: Duration = Duration::from_millis(200);

/// Whether another process has a loopback port.
pub fn is_taken(port: Port) -> bool {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number));
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(at).map(drop),
        Protocol::Udp => UdpSocket::bind(at).map(drop),
        Protocol::Sctp => return false,
    };
    let answers = || port.protocol == Protocol::Tcp && TcpStream::connect_timeout(&at, ANSWER).is_ok();
    tells_of_another(bound, answers)
}

/// Whether the result of a bind shows that another process has the port. The system may reject a port below 1024 before
/// it checks whether the port is free; then a connection shows whether a process listens there.
fn tells_of_another(bound: io::Result<()>, answers: impl FnOnce() -> bool) -> bool {
    match bound {
        Ok(()) => false,
        Err(error) if error.kind() == ErrorKind::AddrInUse => true,
        Err(_) => answers(),
    }
}

/// With `--strict-ports`, checks that every preferred port is free.
///
/// # Errors
/// [`SessionError::PortBusy`] for the first port that is taken.
pub fn check(spec: &Spec, wish: PreferredPort, observed: &Observed) -> Result<(), SessionError> {
    if wish == PreferredPort::Any {
        return Ok(());
    }
    let published = plan::published(spec, observed);
    let unmet = published.iter().filter_map(|port| {
        port.wanted.filter(|wanted| !port.asked.is_some_and(|number| wanted.contains(number)))
    });
    match unmet.min() {
        Some(wanted) => Err(SessionError::PortBusy { port: wanted.start }),
        None => Ok(()),
    }
}

/// The preferred ports of a spec that are taken, except the sandbox's `own`.
pub fn taken(spec: &Spec, own: &BTreeSet<Port>) -> BTreeSet<Port> {
    plan::wished_ports(spec).into_iter().filter(|port| !own.contains(port) && is_taken(*port)).collect()
}

/// The host ports that the plan requests from the engine.
pub fn asked(spec: &Spec, observed: &Observed) -> BTreeSet<Port> {
    let published = plan::published(spec, observed);
    published
        .iter()
        .filter_map(|port| Some(Port { number: port.asked?, protocol: port.transport() }))
        .collect()
}

/// Which of the requested ports the engine could not bind: the ports that its error names, else those that are taken,
/// else all of them.
pub fn refused(asked: BTreeSet<Port>, words: &str) -> BTreeSet<Port> {
    let those = |known: &dyn Fn(Port) -> bool| -> BTreeSet<Port> {
        asked.iter().copied().filter(|port| known(*port)).collect()
    };
    let named = those(&|port| names(words, port.number));
    if !named.is_empty() {
        return named;
    }
    let taken = those(&is_taken);
    if taken.is_empty() { asked } else { taken }
}

/// Whether an engine's error message names a port of a loopback address, as `127.0.0.1:80`.
fn names(words: &str, port: u16) -> bool {
    let named = |place: &str| {
        words
            .match_indices(place)
            .any(|(at, _)| !words[at + place.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    ["127.0.0.1", "[::1]", "::1"].iter().any(|address| named(&format!("{address}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_for_its_own_protocol_only() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = socket.local_addr().unwrap().port();
        assert!(is_taken(Port::udp(number)));
        assert!(!is_taken(Port::tcp(number)));
    }

    #[test]
    fn a_forbidden_port_counts_as_taken_only_if_it_answers() {
        let refused = || Err(io::Error::from(ErrorKind::PermissionDenied));
        assert!(!tells_of_another(refused(), || false));
        assert!(tells_of_another(refused(), || true));
        assert!(tells_of_another(Err(ErrorKind::AddrInUse.into()), || false));
    }

    #[test]
    fn the_engine_s_words_tell_which_port_it_could_not_have() {
        let asked = BTreeSet::from([Port::tcp(80), Port::tcp(8080), Port::udp(53)]);
        for (words, port) in [
            ("Bind for 127.0.0.1:8080 failed: port is already allocated", Port::tcp(8080)),
            ("listen tcp4 127.0.0.1:80: bind: address already in use", Port::tcp(80)),
            (
                "failed to bind host port 127.0.0.1:53:10.213.0.2:20002/udp: address already in use",
                Port::udp(53),
            ),
        ] {
            assert_eq!(refused(asked.clone(), words), BTreeSet::from([port]), "{words}");
        }
    }

    #[test]
    fn where_nothing_tells_which_port_it_was_each_may_be_it() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let free = Port::udp(socket.local_addr().unwrap().port());
        drop(socket);
        let asked = BTreeSet::from([free]);
        assert_eq!(refused(asked.clone(), "port is already allocated"), asked);
    }
}
