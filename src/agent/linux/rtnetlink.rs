//! Interfaces, addresses, routes and their settings (rtnetlink), as far as the router, the fault injector and the host
//! firewall need them.
//!
//! Message and attribute numbers are those of `linux/rtnetlink.h`, `linux/if_addr.h`, `linux/if_link.h` and
//! `linux/netconf.h`.

use std::{io, net::Ipv4Addr};

use ipnet::Ipv4Net;
use rustix::net::netdevice;

use super::netlink::{ACK, Attributes, CREATE, DUMP, Message, REPLACE, Socket, attributes, messages};

const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
/// Attribute of an address message: the peer's address, or the machine's own unless the link is point-to-point.
const ADDRESS: u16 = 1;
/// Attribute of an address message: the machine's own address.
const LOCAL: u16 = 2;
const IPV4: u8 = 2;

/// An interface, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(pub u32);

/// Returns the interface that a message about links or addresses refers to.
fn index(body: &[u8]) -> Option<Interface> {
    body.get(4..8)?.first_chunk().map(|index| Interface(u32::from_ne_bytes(*index)))
}

/// Lists all interfaces.
pub fn interfaces(socket: &Socket) -> io::Result<Vec<Interface>> {
    const GET_LINK: u16 = 18;
    let mut found = Vec::new();
    socket.dump(Message::new(GET_LINK, DUMP, &[0; 16]), |body| {
        found.extend(index(body));
    })?;
    Ok(found)
}

/// Returns the interface that has this address.
pub fn interface_of(socket: &Socket, address: Ipv4Addr) -> io::Result<Interface> {
    let all = ipv4_addresses(socket)?;
    let found = all.into_iter().find_map(|(on, own)| (own.addr() == address).then_some(on));
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface has {address}")))
}

/// Returns the interface with this name.
pub fn interface_named(socket: &Socket, name: &str) -> io::Result<Interface> {
    // The socket only selects the network namespace.
    Ok(Interface(netdevice::name_to_index(socket, name)?))
}

/// Lists this machine's IPv4 addresses, each with its prefix length and interface.
pub fn ipv4_addresses(socket: &Socket) -> io::Result<Vec<(Interface, Ipv4Net)>> {
    let mut found = Vec::new();
    socket.dump(Message::new(GET_ADDRESS, DUMP, &[IPV4, 0, 0, 0, 0, 0, 0, 0]), |body| {
        let read = || {
            let (_, own) = attributes(body.get(8..)?).find(|(kind, _)| *kind == LOCAL)?;
            let own = Ipv4Addr::from(*own.first_chunk::<4>()?);
            Some((index(body)?, Ipv4Net::new(own, *body.get(1)?).ok()?))
        };
        found.extend(read());
    })?;
    Ok(found)
}

/// Removes an address from an interface.
pub fn remove_address(socket: &Socket, on: Interface, address: Ipv4Net) -> io::Result<()> {
    const DELETE_ADDRESS: u16 = 21;
    let mut header = vec![IPV4, address.prefix_len(), 0, 0];
    header.extend(on.0.to_ne_bytes());
    let message = Message::new(DELETE_ADDRESS, ACK, &header).with(LOCAL, &address.addr().octets());
    socket.request(vec![message])
}

/// Makes the kernel accept from an interface only packets that it would answer through it (`rp_filter=1`), and ignore
/// all ARP requests there (`arp_ignore=8`).
pub fn refuse_host_firewall(socket: &Socket, on: Interface) -> io::Result<()> {
    const SET_LINK: u16 = 19;
    const PER_FAMILY: u16 = 26;
    const SETTINGS: u16 = 1;
    const RP_FILTER: u16 = 8;
    const ARP_IGNORE: u16 = 19;
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&on.0.to_ne_bytes());
    let settings =
        Attributes::new().with(RP_FILTER, &1u32.to_ne_bytes()).with(ARP_IGNORE, &8u32.to_ne_bytes());
    let ipv4 = Attributes::new().with_nested(SETTINGS, &settings);
    let families = Attributes::new().with_nested(IPV4.into(), &ipv4);
    socket.request(vec![Message::new(SET_LINK, ACK, &header).with_nested(PER_FAMILY, &families)])
}

/// Returns the interfaces for which an event of [`Socket::ip_changes`] undoes [`refuse_host_firewall`], or may undo it:
/// a new address, a changed `rp_filter`, or IPv6 that starts or stops.
pub fn reopened(bytes: &[u8]) -> impl Iterator<Item = Interface> {
    const NEW_LINK: u16 = 16;
    const NEW_SETTINGS: u16 = 80;
    const INTERFACE: u16 = 1;
    const RP_FILTER: u16 = 3;
    messages(bytes).filter_map(|message| match message.kind {
        NEW_ADDRESS | NEW_LINK => index(message.body),
        NEW_SETTINGS => {
            // The header is one byte, with padding.
            let number = |wanted| {
                let mut all = attributes(message.body.get(4..)?);
                let (_, value) = all.find(|(kind, _)| *kind == wanted)?;
                value.first_chunk().map(|value| u32::from_ne_bytes(*value))
            };
            (number(RP_FILTER)? != 1).then_some(Interface(number(INTERFACE)?))
        }
        _ => None,
    })
}

/// Adds an address to an interface. It is no error if it exists.
pub fn add_address(socket: &Socket, on: Interface, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut header = vec![IPV4, prefix, 0, 0];
    header.extend(on.0.to_ne_bytes());
    let message = Message::new(NEW_ADDRESS, ACK | CREATE | REPLACE, &header)
        .with(ADDRESS, &address.octets())
        .with(LOCAL, &address.octets());
    socket.request(vec![message])
}

/// Sets the default route to `via` on an interface, and replaces an existing one.
pub fn set_default_route(socket: &Socket, on: Interface, via: Ipv4Addr) -> io::Result<()> {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    let header = [IPV4, 0, 0, 0, MAIN_TABLE, STATIC, 0, UNICAST, 0, 0, 0, 0];
    let message = Message::new(NEW_ROUTE, ACK | CREATE | REPLACE, &header)
        .with(5, &via.octets())
        .with(4, &on.0.to_ne_bytes());
    socket.request(vec![message])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_what_is_none_is_left_alone() {
        let settings = Attributes::new().with(1, &7u32.to_ne_bytes()).with(3, &0u32.to_ne_bytes());
        let mut header = vec![IPV4, 0, 0, 0];
        header.extend(settings.bytes());
        let mut bytes = Message::new(80, 0, &header).finish(1);
        bytes.extend(Message::new(NEW_ADDRESS, 0, &[IPV4, 24, 0, 0, 9, 0, 0, 0]).finish(2));
        bytes.extend(Message::new(NEW_ROUTE, 0, &[0; 12]).finish(3));
        assert_eq!(reopened(&bytes).collect::<Vec<_>>(), [Interface(7), Interface(9)]);
        assert!(reopened(&bytes[..20]).next().is_none());

        let strict = Attributes::new().with(1, &7u32.to_ne_bytes()).with(3, &1u32.to_ne_bytes());
        let bytes = Message::new(80, 0, &[&[IPV4, 0, 0, 0], strict.bytes()].concat()).finish(1);
        assert!(reopened(&bytes).next().is_none());
    }

    #[test]
    fn the_kernel_tells_which_interface_has_the_loopback_address() {
        let socket = Socket::route().unwrap();
        assert_eq!(interface_of(&socket, Ipv4Addr::LOCALHOST).unwrap(), Interface(1));
        let absent = interface_of(&socket, Ipv4Addr::new(203, 0, 113, 254)).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }
}
