//! Ingress filtering: the engine's machine takes in nothing that services send to it past their gateway.
//!
//! The machine has no address on a sandbox's networks, but its kernel would take in what comes from their bridges all
//! the same: a datagram to any of its addresses from a service that names its interface or shuns routers
//! (`SO_BINDTODEVICE`, `IP_PKTINFO`, `SO_DONTROUTE`), a broadcast, a multicast. None of these needs a capability, and an
//! engine's own isolation is of what is passed on, not of what is taken in. With reverse path filtering (`rp_filter`:
//! RFC 3704, Linux's ip-sysctl) the kernel drops what it could not answer the way it came, and through an interface on
//! which it has no address it can answer nothing. The setting is the bridge's, and goes with it.
//!
//! `sandbox agent ingress` makes that setting, in the network of the engine's machine and with no power but that one
//! ([`container`]). The keeper tells it of which bridges on its stdin, and its end is the process's end.

pub mod container;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::netlink;

/// What the process is asked for: one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    /// The names of the bridges from which nothing is to be taken in.
    bridges: Vec<String>,
}

/// What it answers, one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// Nothing is taken in from them.
    Filtered,
    /// From one of them something may be, for this reason.
    Refused(String),
}

/// `sandbox agent ingress`: does what it is asked for until the end of stdin.
pub fn run() -> ExitCode {
    match serve(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(requests: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    for line in requests.lines() {
        let Request { bridges } = serde_json::from_str(&line?)?;
        let answer = match bridges.iter().try_for_each(|bridge| filter(bridge)) {
            Ok(()) => Answer::Filtered,
            Err(error) => Answer::Refused(error.to_string()),
        };
        writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
        answers.flush()?;
    }
    Ok(())
}

fn filter(bridge: &str) -> io::Result<()> {
    let about = |error: io::Error| io::Error::new(error.kind(), format!("`{bridge}`: {error}"));
    let socket = netlink::Socket::route().map_err(about)?;
    let interface = netlink::interface_named(&socket, bridge).map_err(about)?;
    if netlink::has_ipv4(&socket, interface).map_err(about)? {
        return Err(about(io::Error::other("the engine's machine has an address on it")));
    }
    netlink::filter_reverse_paths(&socket, interface).map_err(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_answered_and_the_end_of_the_lines_is_the_end() {
        let mut answers = Vec::new();
        serve(&b"{\"bridges\":[]}\n{\"bridges\":[\"no-such-bridge\"]}\n"[..], &mut answers).unwrap();
        let answers: Vec<Answer> =
            answers.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!(answers[0], Answer::Filtered);
        assert!(
            matches!(&answers[1], Answer::Refused(why) if why.contains("`no-such-bridge`")),
            "{answers:?}"
        );
        assert!(serve(&b"nonsense\n"[..], Vec::new()).is_err());
    }

    #[test]
    fn an_interface_on_which_the_machine_has_an_address_cannot_be_closed() {
        let refused = filter("lo").unwrap_err().to_string();
        assert!(refused.contains("has an address"), "{refused}");
    }
}
