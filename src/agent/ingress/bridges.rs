//! The bridges from which nothing is taken in, and what keeps it so.
//!
//! A setting can be undone: by a program that applies the machine's own settings to each interface that is new, or by one
//! that gives every interface an address (from whoever answers it, a service even). The kernel tells of both, and both
//! are taken back: the bridges are a sandbox's, and nobody else has any business with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use tokio::io::unix::AsyncFd;

use super::Bridge;
use crate::agent::netlink::{self, Change, Interface, Socket};

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
    /// When there is none of this name, somebody has given the machine an address on it, or services speak IPv6 on it and
    /// the machine's cannot be turned off.
    pub fn close(&mut self, bridge: &Bridge) -> io::Result<()> {
        let interface = netlink::interface_named(&self.kernel, &bridge.name)?;
        if self.closed.contains_key(&interface) {
            self.close_again(interface)?;
        } else if netlink::ipv4_addresses(&self.kernel, interface)?.is_empty() {
            netlink::refuse_ingress(&self.kernel, interface)?;
            self.closed.insert(interface, bridge.name.clone());
        } else {
            return Err(io::Error::other("the engine's machine has an address on it"));
        }
        let ipv6 = turn_ipv6_off(&bridge.name);
        if bridge.ipv6 { ipv6 } else { Ok(()) }
    }

    /// Waits until something has changed on this machine, and takes back what undoes what was closed.
    pub async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let undone: BTreeSet<Interface> =
            match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
                Ok(Ok(length)) => netlink::changes(&buffer[..length]).filter_map(Change::undoes).collect(),
                // Some were lost.
                Ok(Err(_)) => self.closed.keys().copied().collect(),
                Err(_would_block) => BTreeSet::new(),
            };
        drop(ready);
        for bridge in undone {
            let Some(name) = self.closed.get(&bridge) else { continue };
            // Where it cannot be, whoever asked has been told.
            let _ = turn_ipv6_off(name);
            if self.close_again(bridge).is_err() {
                // It has gone, with its sandbox.
                self.closed.remove(&bridge);
            }
        }
        Ok(())
    }

    fn close_again(&self, bridge: Interface) -> io::Result<()> {
        netlink::refuse_ingress(&self.kernel, bridge)?;
        for address in netlink::ipv4_addresses(&self.kernel, bridge)? {
            netlink::remove_address(&self.kernel, bridge, address)?;
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

    fn named(name: &str) -> Bridge {
        Bridge { name: name.to_owned(), ipv6: false }
    }

    #[tokio::test]
    async fn an_interface_on_which_the_machine_has_an_address_cannot_be_closed() {
        let mut bridges = Bridges::open().unwrap();
        let refused = bridges.close(&named("lo")).unwrap_err().to_string();
        assert!(refused.contains("has an address"), "{refused}");
        assert!(bridges.close(&named("no-such-bridge")).is_err());
    }
}
