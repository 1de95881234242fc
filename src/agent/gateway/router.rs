//! Router mode: the gateway takes the addresses that services use as their gateway, forwards what the policy allows
//! from its own edge address, and receives the packets that the kernel refused.
//!
//! All of it is set up while the gateway still has `NET_ADMIN`; afterwards the kernel works without it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use super::config::{EdgeNetwork, EgressPolicy, EgressRule, GatewayConfig};
use super::context::Serving;
use super::packet_filter::{Filter, LOG_GROUP, Verdict};
use super::policy::Policy;
use super::stats::RefusalKind;
use crate::agent::linux::netlink::{ACK, Message, Socket, attributes, messages};
use crate::agent::linux::rtnetlink::{add_address, interface_of, set_default_route};

const LOG_CONFIG: u16 = 4 << 8 | 1;
const LOG_PACKET: u16 = 4 << 8;
const PAYLOAD: u16 = 9;

/// The netlink socket on which the kernel reports refused packets.
#[derive(Debug)]
pub struct Refusals(Socket);

/// Sets up the router. `edge_address` is the gateway's own address on the edge network.
pub fn set_up(
    config: &GatewayConfig,
    policy: &Policy,
    edge: &EdgeNetwork,
    edge_address: Ipv4Addr,
) -> io::Result<Refusals> {
    let route = Socket::route()?;
    let edge_interface = interface_of(&route, edge_address)?;
    let mut inner = Vec::new();
    for network in &config.networks {
        let interface = interface_of(&route, network.address)?;
        let mut addresses = vec![network.address];
        if let Some(adopt) = network.adopt {
            addresses.push(adopt);
        }
        inner.push((interface, addresses));
    }
    let filter = Filter {
        edge: edge_interface,
        inner: inner.clone(),
        never: policy.never().to_vec(),
        listed: listed(policy.egress()),
        rest: if *policy.egress() == EgressPolicy::Allow { Verdict::Accept } else { Verdict::Refuse },
    };
    let netfilter = Socket::netfilter()?;
    netfilter.request(filter.messages())?;
    let refusals = listen_to_refusals()?;
    // The default route comes last, so that no packet arrives before the filter is in place.
    set_default_route(&route, edge_interface, edge.bridge)?;
    for (network, (interface, _)) in config.networks.iter().zip(&inner) {
        if let Some(adopt) = network.adopt {
            add_address(&route, *interface, adopt, network.subnet.prefix_len())?;
        }
    }
    Ok(refusals)
}

fn listed(egress: &EgressPolicy) -> Vec<(ipnet::Ipv4Net, Option<u16>)> {
    let net = |rule: &EgressRule| match rule {
        EgressRule::Net { net, port } => Some((*net, *port)),
        EgressRule::Name { .. } => None,
    };
    egress.rules().iter().filter_map(net).collect()
}

fn listen_to_refusals() -> io::Result<Refusals> {
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    let group = LOG_GROUP.to_be_bytes();
    let header = [0, 0, group[0], group[1]];
    let copied = [&64u32.to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
    let socket = Socket::netfilter()?;
    socket.request(vec![Message::new(LOG_CONFIG, ACK, &header).with(1, &[BIND])])?;
    // The kernel flushes its log after at most a tenth of a second.
    let mode = Message::new(LOG_CONFIG, ACK, &header).with(2, &copied).with(4, &10u32.to_be_bytes());
    socket.request(vec![mode])?;
    Ok(Refusals(socket))
}

/// Starts counting what the kernel refuses.
pub fn serve(serving: Arc<Serving>, refusals: Refusals) -> io::Result<()> {
    let socket = refusals.0.watched()?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 8 * 1024];
        loop {
            let Ok(mut ready) = socket.readable().await else { return };
            let received = ready.try_io(|socket| socket.get_ref().try_receive(&mut buffer));
            // An error means that some reports were lost, which only makes a count too low.
            let Ok(Ok(length)) = received else { continue };
            for message in messages(&buffer[..length]).filter(|message| message.kind == LOG_PACKET) {
                let content = message.body.get(4..).unwrap_or_default();
                let packet = attributes(content).find(|(kind, _)| *kind == PAYLOAD);
                if let Some(packet) = packet.and_then(|(_, bytes)| Packet::read(bytes)) {
                    let from = SocketAddrV4::new(packet.from, 0).into();
                    let reason = serving.policy.never_out(packet.to).map(str::to_owned);
                    serving.refuse(from, packet.kind, &packet.to.to_string(), packet.port, reason);
                }
            }
        }
    });
    Ok(())
}

/// The fields of a packet by which it is counted.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    from: Ipv4Addr,
    to: Ipv4Addr,
    kind: RefusalKind,
    port: Option<u16>,
}

impl Packet {
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        if first >> 4 != 4 {
            return None;
        }
        let octets =
            |at: usize| bytes.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        let kind = match *bytes.get(9)? {
            1 => RefusalKind::Icmp,
            6 => RefusalKind::Tcp,
            17 => RefusalKind::Udp,
            _ => RefusalKind::Other,
        };
        let after_header = usize::from(first & 0x0f) * 4;
        let port = matches!(kind, RefusalKind::Tcp | RefusalKind::Udp)
            .then(|| {
                bytes
                    .get(after_header + 2..after_header + 4)?
                    .first_chunk()
                    .map(|port| u16::from_be_bytes(*port))
            })
            .flatten();
        Some(Self { from: octets(12)?, to: octets(16)?, kind, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_packet_is_read_for_who_and_where() {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 5, 203, 0, 113, 9];
        bytes.extend([0x80, 0, 0x15, 0x38]);
        let expected = Packet {
            from: Ipv4Addr::new(10, 0, 0, 5),
            to: Ipv4Addr::new(203, 0, 113, 9),
            kind: RefusalKind::Tcp,
            port: Some(5432),
        };
        assert_eq!(Packet::read(&bytes), Some(expected));
        bytes[9] = 1;
        assert_eq!(
            Packet::read(&bytes).map(|packet| (packet.kind, packet.port)),
            Some((RefusalKind::Icmp, None))
        );
        assert_eq!(Packet::read(&bytes[..15]), None);
        assert_eq!(Packet::read(&[0x60]), None);
    }
}
