//! Receives every packet of this network namespace from the kernel, except loopback, and releases or drops each one.
//!
//! Message and attribute numbers are those of `linux/netfilter/nfnetlink_queue.h`.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
};

use super::Fault;
use super::link::{Line, Way};
use crate::agent::linux::netlink::{ACK, Message, Socket, attributes, messages};
use crate::agent::linux::nftables::{self, Hook, RuleAction, Table};
use crate::agent::linux::rtnetlink::{Interface, interfaces};

const IPV4: Table<'static> = Table::ipv4("sandbox_fault");
const IPV6: Table<'static> = Table::ipv6("sandbox_fault");
const QUEUE: u16 = 0;
/// The priority of the chains: before connection tracking, so that a dropped packet leaves no trace.
const FIRST: i32 = -400;
const LOOPBACK: Interface = Interface(1);

const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIG: u16 = SUBSYSTEM | 2;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const PAYLOAD: u16 = 10;
/// Bytes that are copied of each packet: enough to read its length.
const COPIED: u32 = 20;
/// The length of the IPv6 header, which the length field does not include.
const IPV6_HEADER: u32 = 40;
/// The most packets that may wait at once.
const MOST_WAITING: u32 = 65_536;
/// The receive buffer, for bursts while the process is busy.
const SOCKET_BYTES: usize = 8 * 1024 * 1024;

/// Applies a fault until SIGTERM, or until the network namespace has no interface left. Calls `begun` once it is
/// active.
pub async fn carry_out(fault: Fault, begun: impl FnOnce()) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let links = Socket::links()?.watched()?;
    let mut queue = Queue::open(fault)?;
    lead_packets_here()?;
    begun();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        queue.release(Instant::now())?;
        let next = queue.next_release();
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ready = links.readable() => {
                let _ = ready?.try_io(|links| links.get_ref().try_receive(&mut buffer));
                if interfaces(&Socket::route()?)?.iter().all(|one| *one == LOOPBACK) {
                    break;
                }
            }
            ready = queue.socket.readable() => {
                let received = ready?.try_io(|socket| socket.get_ref().try_receive(&mut buffer));
                // An error means that some packets were lost; that is acceptable, and the others are still queued.
                if let Ok(Ok(length)) = received {
                    queue.take(&buffer[..length])?;
                }
            }
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
    // Without IPv6 there is no such table.
    let _ = Socket::netfilter()?.request(nftables::batch([IPV6.delete()]));
    Socket::netfilter()?.request(nftables::batch([IPV4.delete()]))
}

/// Installs the rules for IPv4 and IPv6; those for IPv6 may fail if the namespace has no IPv6.
fn lead_packets_here() -> io::Result<()> {
    let lacks = lacking("a rule that queues packets (nft_queue, or xt_NFQUEUE with nft_compat)");
    match lead_packets_of(IPV6) {
        Err(error) if speaks_ipv6() => return Err(lacks(error)),
        _ => {}
    }
    lead_packets_of(IPV4).map_err(lacks)
}

/// Tries the nftables queue expression first, then the older one, for kernels that have only that.
fn lead_packets_of(table: Table<'static>) -> io::Result<()> {
    let rules = |queues: fn(nftables::Rule<'static>, u16) -> Message| {
        nftables::batch([
            table.create(),
            table.delete(),
            table.create(),
            table.base_chain("in", Hook::PreRouting, "filter", FIRST, RuleAction::Accept),
            table.base_chain("out", Hook::PostRouting, "filter", FIRST, RuleAction::Accept),
            queues(table.rule("in").enters_not_by(LOOPBACK), QUEUE),
            queues(table.rule("out").leaves_not_by(LOOPBACK), QUEUE),
        ])
    };
    let filter = Socket::netfilter()?;
    filter
        .request(rules(nftables::Rule::queues))
        .or_else(|_unknown| Socket::netfilter()?.request(rules(nftables::Rule::queues_the_old_way)))
}

/// Whether an interface of this namespace has an IPv6 address, loopback excluded.
fn speaks_ipv6() -> bool {
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| line.split_whitespace().last() != Some("lo"))
}

fn lacking(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("the engine's kernel has not {what}: {error}"))
}

/// The waiting packets, each with the time of its release.
struct Queue {
    socket: AsyncFd<Socket>,
    line: Line,
    waiting: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Queue {
    fn open(fault: Fault) -> io::Result<Self> {
        const BIND: u8 = 1;
        const COPY_PACKET: u8 = 2;
        let socket = Socket::netfilter()?;
        socket.give_room(SOCKET_BYTES);
        let copied = [&COPIED.to_be_bytes()[..], &[COPY_PACKET]].concat();
        socket
            .request(vec![config().with(1, &[BIND, 0, 0, 0])])
            .and_then(|()| {
                socket.request(vec![config().with(2, &copied).with(3, &MOST_WAITING.to_be_bytes())])
            })
            .map_err(lacking("a queue of packets (nfnetlink_queue)"))?;
        Ok(Self {
            socket: socket.watched()?,
            line: Line::new(fault, Instant::now()),
            waiting: BinaryHeap::new(),
        })
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        for packet in
            messages(bytes).filter(|message| message.kind == PACKET).filter_map(|it| Packet::read(it.body))
        {
            match self.line.send(now, packet.way, packet.bytes, rand::random) {
                Some(at) if at > now => self.waiting.push(Reverse((at, packet.id))),
                Some(_) => self.decide(packet.id, true)?,
                None => self.decide(packet.id, false)?,
            }
        }
        Ok(())
    }

    fn next_release(&self) -> Instant {
        self.waiting.peek().map_or_else(|| Instant::now() + Duration::from_hours(1), |Reverse((at, _))| *at)
    }

    fn release(&mut self, now: Instant) -> io::Result<()> {
        while let Some(Reverse((at, id))) = self.waiting.peek().copied() {
            if at > now {
                break;
            }
            self.waiting.pop();
            self.decide(id, true)?;
        }
        Ok(())
    }

    fn decide(&self, id: u32, passes: bool) -> io::Result<()> {
        let verdict = [u32::from(passes).to_be_bytes(), id.to_be_bytes()].concat();
        let message = Message::new(VERDICT, 0, &header()).with(VERDICT_HEADER, &verdict);
        self.socket.get_ref().request(vec![message])
    }
}

fn header() -> [u8; 4] {
    let queue = QUEUE.to_be_bytes();
    [0, 0, queue[0], queue[1]]
}

fn config() -> Message {
    Message::new(CONFIG, ACK, &header())
}

/// The fields of a packet that decide what happens to it.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    id: u32,
    way: Way,
    bytes: u32,
}

impl Packet {
    fn read(body: &[u8]) -> Option<Self> {
        let content = body.get(4..)?;
        let of = |wanted| attributes(content).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let header = of(PACKET_HEADER)?;
        let id = u32::from_be_bytes(*header.first_chunk()?);
        let way = match header.get(6)? {
            0 => Way::Inward,
            _ => Way::Outward,
        };
        Some(Self { id, way, bytes: of(PAYLOAD).and_then(length).unwrap_or_default() })
    }
}

/// Returns the length of a packet, from its header, in bytes.
fn length(header: &[u8]) -> Option<u32> {
    let at = |offset| Some(u32::from(u16::from_be_bytes(*header.get(offset..)?.first_chunk()?)));
    if header.first()? >> 4 == 6 { Some(at(4)? + IPV6_HEADER) } else { at(2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::linux::netlink::Attributes;

    #[test]
    fn a_packet_is_read_for_its_number_its_way_and_its_length() {
        let header = [0, 0, 0, 7, 8, 0, 4];
        let mut ip = [0; 20];
        ip[..4].copy_from_slice(&[0x45, 0, 5, 220]);
        let attributes = Attributes::new().with(PACKET_HEADER, &header).with(PAYLOAD, &ip);
        let body = [&[2, 0, 0, 0][..], attributes.bytes()].concat();
        assert_eq!(Packet::read(&body), Some(Packet { id: 7, way: Way::Outward, bytes: 1500 }));
        assert_eq!(Packet::read(&[2, 0, 0, 0]), None);
        assert_eq!(length(&[0x60, 0, 0, 0, 5, 180, 6, 64]), Some(1500));
        assert_eq!(length(&[0x60, 0]), None);
    }
}
