//! Host firewall: stops the engine's machine from accepting packets that services send to it past their gateway.
//!
//! The machine has no address on a sandbox's networks, but its kernel would still accept packets from their bridges: a
//! datagram to any of its addresses from a service that binds to an interface or bypasses routing (`SO_BINDTODEVICE`,
//! `IP_PKTINFO`, `SO_DONTROUTE`), a broadcast, a multicast. None of these needs a capability, and an engine's own
//! isolation covers only forwarded packets. With reverse path filtering (`rp_filter`: RFC 3704, Linux's ip-sysctl) the
//! kernel drops packets that it could not answer on the same interface, and it can answer none through an interface
//! without an address. With `arp_ignore` it answers no ARP request there either. IPv6 has no such filter, and on a
//! network with IPv6 the engine gives the machine an address, so IPv6 is turned off on the bridge. All of these are
//! settings of the bridge and disappear with it.
//!
//! Packets that pass a gateway arrive by the edge network, on which the machine has an address; those that are for the
//! machine itself are refused there ([`edge`]).
//!
//! `sandbox agent host-firewall` applies the settings and restores them when they change ([`bridges`]). It runs in the
//! network namespace of the engine's machine ([`container`]). The keeper sends it the bridges on stdin; it exits when
//! stdin closes.

mod bridges;
pub mod container;
pub mod edge;
mod protocol;

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use bridges::Bridges;
use edge::Edge;
use protocol::{FilterReply, Request};

/// `sandbox agent host-firewall`: answers requests until stdin ends.
pub fn run() -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let served = runtime
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .and_then(|runtime| runtime.block_on(serve(BufReader::new(tokio::io::stdin()), io::stdout())));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(requests: impl AsyncBufRead + Unpin, mut answers: impl Write) -> io::Result<()> {
    let mut bridges = Bridges::open()?;
    let mut edge = None;
    let mut requests = requests.lines();
    loop {
        tokio::select! {
            line = requests.next_line() => {
                let Some(line) = line? else {
                    // The keeper has gone. The filter stays active, except on an edge network that no sandbox uses.
                    return match edge {
                        Some(edge) if bridges.are_gone() => edge.open(),
                        _ => Ok(()),
                    };
                };
                let request = serde_json::from_str(&line)?;
                let answer = answer(&mut bridges, &mut edge, &request);
                writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
                answers.flush()?;
            }
            heeded = bridges.heed() => heeded?,
            heeded = heed(&mut edge) => heeded?,
        }
    }
}

async fn heed(edge: &mut Option<Edge>) -> io::Result<()> {
    match edge {
        Some(edge) => edge.heed().await,
        None => std::future::pending().await,
    }
}

fn answer(bridges: &mut Bridges, edge: &mut Option<Edge>, request: &Request) -> FilterReply {
    let closed = filter_edge(edge, &request.edge);
    let refused: Vec<String> = closed
        .err()
        .map(|error| format!("the edge network: {error}"))
        .into_iter()
        .chain(
            request
                .bridges
                .iter()
                .filter_map(|bridge| Some(format!("`{}`: {}", bridge.name, bridges.close(bridge).err()?))),
        )
        .collect();
    if refused.is_empty() { FilterReply::Filtered } else { FilterReply::Refused(refused.join("; ")) }
}

/// Filters the edge network, if it is not filtered already.
fn filter_edge(edge: &mut Option<Edge>, wanted: &protocol::Edge) -> io::Result<()> {
    match wanted {
        protocol::Edge::Filtered(bridge) => {
            if edge.as_ref().is_none_or(|edge| edge.bridge() != bridge) {
                *edge = Some(Edge::close(bridge)?);
            }
            Ok(())
        }
        protocol::Edge::Released => edge.take().map_or(Ok(()), Edge::open),
    }
}

#[cfg(test)]
mod tests {
    use super::protocol::Bridge;
    use super::*;

    #[tokio::test]
    async fn each_line_is_answered_and_the_end_of_the_lines_is_the_end() {
        let mut answers = Vec::new();
        let named = |name: &str| Bridge { name: name.to_owned(), ipv6: false };
        let asked = [vec![], vec![named("no-such-bridge"), named("nor-this")]]
            .map(|bridges| Request { edge: protocol::Edge::Released, bridges })
            .map(|request| serde_json::to_string(&request).unwrap() + "\n")
            .concat();
        serve(asked.as_bytes(), &mut answers).await.unwrap();
        let text = String::from_utf8(answers).unwrap();
        let answers: Vec<FilterReply> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers[0], FilterReply::Filtered);
        let FilterReply::Refused(why) = &answers[1] else { panic!("{answers:?}") };
        assert!(why.contains("`no-such-bridge`") && why.contains("; `nor-this`: "), "{why}");
        assert!(serve(&b"nonsense\n"[..], Vec::new()).await.is_err());
    }
}
