//! The bridges from which nothing is taken in, and what keeps it so.
//!
//! A setting can be undone: by a program that applies the machine's own settings to each interface that is new, or by one
//! that gives every interface an address (from whoever answers it, a service even). The kernel tells of both, and both
//! are taken back: the bridges are a sandbox's, and nobody else has any business with them.

use std::collections::BTreeSet;
use std::io;

use tokio::io::unix::AsyncFd;

use crate::agent::netlink::{self, Change, Interface, Socket};

/// Those of this machine.
pub struct Bridges {
    kernel: Socket,
    changes: AsyncFd<Socket>,
    closed: BTreeSet<Interface>,
}

impl Bridges {
    /// None is closed yet.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            kernel: Socket::route()?,
            changes: Socket::ipv4_changes()?.watched()?,
            closed: BTreeSet::new(),
        })
    }

    /// Takes in nothing from a bridge from now on, and sees to it that it stays so.
    ///
    /// # Errors
    /// When there is none of this name, or somebody has given the machine an address on it.
    pub fn close(&mut self, name: &str) -> io::Result<()> {
        let bridge = netlink::interface_named(&self.kernel, name)?;
        if self.closed.contains(&bridge) {
            return self.close_again(bridge);
        }
        if !netlink::ipv4_addresses(&self.kernel, bridge)?.is_empty() {
            return Err(io::Error::other("the engine's machine has an address on it"));
        }
        netlink::refuse_ingress(&self.kernel, bridge)?;
        self.closed.insert(bridge);
        Ok(())
    }

    /// Waits until something has changed on this machine, and takes back what undoes what was closed.
    pub async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let undone: BTreeSet<Interface> =
            match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
                Ok(Ok(length)) => netlink::changes(&buffer[..length]).filter_map(Change::undoes).collect(),
                // Some were lost.
                Ok(Err(_)) => self.closed.clone(),
                Err(_would_block) => BTreeSet::new(),
            };
        drop(ready);
        for bridge in undone.into_iter().filter(|bridge| self.closed.contains(bridge)).collect::<Vec<_>>() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interface_on_which_the_machine_has_an_address_cannot_be_closed() {
        let mut bridges = Bridges::open().unwrap();
        let refused = bridges.close("lo").unwrap_err().to_string();
        assert!(refused.contains("has an address"), "{refused}");
        assert!(bridges.close("no-such-bridge").is_err());
    }
}
