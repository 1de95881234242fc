//! The bridges from which the machine accepts no packets; keeps their settings in place.
//!
//! Other programs can undo a setting: one that applies the machine's settings to each new interface, or one that
//! requests an address for every interface (any DHCP server can answer, even a service). The kernel reports both, and
//! this module reverts both: the bridges belong to a sandbox, and no other program should configure them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::protocol::Bridge;
use crate::agent::linux::netlink::Socket;
use crate::agent::linux::rtnetlink::{self, Interface};

/// The bridges on this machine.
pub struct Bridges {
    kernel: Socket,
    changes: AsyncFd<Socket>,
    closed: BTreeMap<Interface, String>,
}

impl Bridges {
    /// Starts without any closed bridge.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            kernel: Socket::route()?,
            changes: Socket::ip_changes()?.watched()?,
            closed: BTreeMap::new(),
        })
    }

    /// Stops the machine from accepting packets from a bridge, now and later.
    ///
    /// # Errors
    /// Fails if there is no such bridge, or if the network has IPv6 and the machine's IPv6 cannot be turned off on it.
    pub fn close(&mut self, bridge: &Bridge) -> io::Result<()> {
        let interface = rtnetlink::interface_named(&self.kernel, &bridge.name)?;
        self.closed.insert(interface, bridge.name.clone());
        let ipv6 = turn_ipv6_off(&bridge.name);
        self.refuse(interface)?;
        if bridge.ipv6 { ipv6 } else { Ok(()) }
    }

    /// Whether all closed bridges have been removed.
    pub fn are_gone(&self) -> bool {
        self.closed.values().all(|name| rtnetlink::interface_named(&self.kernel, name).is_err())
    }

    /// Waits for a change on this machine, and restores the settings that it undid.
    pub async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let undone: BTreeSet<Interface> =
            match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
                Ok(Ok(length)) => rtnetlink::reopened(&buffer[..length]).collect(),
                // Some events were lost, so check all bridges.
                Ok(Err(_)) => self.closed.keys().copied().collect(),
                Err(_would_block) => BTreeSet::new(),
            };
        drop(ready);
        for bridge in undone {
            let Some(name) = self.closed.get(&bridge) else { continue };
            // If this fails, the client that requested it has already received the error.
            let _ = turn_ipv6_off(name);
            if self.refuse(bridge).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::NODEV)) {
                // The bridge was removed with its sandbox.
                self.closed.remove(&bridge);
            }
        }
        Ok(())
    }

    /// Refuses IPv4, and removes addresses that other programs gave the machine on the bridge: with an address it could
    /// answer, and so would accept packets.
    fn refuse(&self, bridge: Interface) -> io::Result<()> {
        rtnetlink::refuse_host_firewall(&self.kernel, bridge)?;
        let all = rtnetlink::ipv4_addresses(&self.kernel)?;
        for (_, address) in all.into_iter().filter(|(on, _)| *on == bridge) {
            match rtnetlink::remove_address(&self.kernel, bridge, address) {
                // It was removed together with another address, or by the program that had added it.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

/// Turns IPv6 off on an interface. It is no error if the machine has no IPv6.
fn turn_ipv6_off(interface: &str) -> io::Result<()> {
    let written = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("IPv6 cannot be turned off: {error}"))),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bridge_that_is_not_there_cannot_be_closed() {
        let bridge = Bridge { name: "no-such-bridge".to_owned(), ipv6: false };
        assert!(Bridges::open().unwrap().close(&bridge).is_err());
    }
}
