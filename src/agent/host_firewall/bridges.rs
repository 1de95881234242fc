//! The bridges from which nothing is taken in, and what keeps it so.
//!
//! A setting can be undone: by a program that applies the machine's own settings to each interface that is new, or by one
//! that gives every interface an address (from whoever answers it, a service even). The kernel tells of both, and both
//! are taken back: the bridges are a sandbox's, and nobody else has any business with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::protocol::Bridge;
use crate::agent::linux::netlink::Socket;
use crate::agent::linux::rtnetlink::{self, Interface};

/// Those of this machine.
pub struct Bridges {
    kernel: Socket,
    changes: AsyncFd<Socket>,
    closed: BTreeMap<Interface, String>,
}

impl Bridges {
    /// None is closed yet.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            kernel: Socket::route()?,
            changes: Socket::ip_changes()?.watched()?,
            closed: BTreeMap::new(),
        })
    }

    /// Takes in nothing from a bridge from now on, and sees to it that it stays so.
    ///
    /// # Errors
    /// When there is none of this name, or services speak IPv6 on it and the machine's cannot be turned off.
    pub fn close(&mut self, bridge: &Bridge) -> io::Result<()> {
        let interface = rtnetlink::interface_named(&self.kernel, &bridge.name)?;
        self.closed.insert(interface, bridge.name.clone());
        let ipv6 = turn_ipv6_off(&bridge.name);
        self.refuse(interface)?;
        if bridge.ipv6 { ipv6 } else { Ok(()) }
    }

    /// Whether none of those that were closed is left.
    pub fn are_gone(&self) -> bool {
        self.closed.values().all(|name| rtnetlink::interface_named(&self.kernel, name).is_err())
    }

    /// Waits until something has changed on this machine, and takes back what undoes what was closed.
    pub async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let undone: BTreeSet<Interface> =
            match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
                Ok(Ok(length)) => rtnetlink::reopened(&buffer[..length]).collect(),
                // Some were lost.
                Ok(Err(_)) => self.closed.keys().copied().collect(),
                Err(_would_block) => BTreeSet::new(),
            };
        drop(ready);
        for bridge in undone {
            let Some(name) = self.closed.get(&bridge) else { continue };
            // Where it cannot be, whoever asked has been told.
            let _ = turn_ipv6_off(name);
            if self.refuse(bridge).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::NODEV)) {
                // It has gone, with its sandbox.
                self.closed.remove(&bridge);
            }
        }
        Ok(())
    }

    /// Takes in nothing of IPv4, and takes away what addresses somebody has given the machine there: with one it could
    /// answer, and so would take in.
    fn refuse(&self, bridge: Interface) -> io::Result<()> {
        rtnetlink::refuse_host_firewall(&self.kernel, bridge)?;
        let all = rtnetlink::ipv4_addresses(&self.kernel)?;
        for (_, address) in all.into_iter().filter(|(on, _)| *on == bridge) {
            match rtnetlink::remove_address(&self.kernel, bridge, address) {
                // It went with another one, or by whoever had given it.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

/// Has this machine speak no IPv6 through an interface, nor take any in. One that it never had is fine.
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
