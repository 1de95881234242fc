//! Filters what gateways may send to the engine's machine itself over the edge network.
//!
//! A gateway knows only the addresses that the machine had when the gateway was created, and none if the client runs on
//! another machine. The machine's kernel always knows its own addresses. So an nftables table on the machine, one per
//! scope, decides: it refuses packets from the edge bridge that are for the machine itself, or for a port that another
//! program publishes on one of the machine's addresses. Three kinds of packets pass: answers, DNS queries that the
//! gateway itself sends to a resolver on the machine, and packets that a gateway marks because a rule of its list names
//! exactly this address.
//!
//! The mark is the packet's DSCP: unlike the kernel's own mark, it survives the way from one network namespace to
//! another. A gateway removes it from every packet of a service ([`crate::agent::gateway`]).

use std::io;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::agent::linux::netlink::{Message, Socket, messages};
use crate::agent::linux::nftables::{self, Hook, Rule, RuleAction, TCP, Table, UDP};

/// The DSCP of packets that a gateway sends to the machine on purpose (RFC 2474, for local use).
pub const LET_OUT: u8 = 0b1010_1100;
/// The DSCP of DNS packets that a service sends past its gateway's resolver (RFC 2474, for local use).
pub const NOT_THE_GATEWAYS: u8 = 0b0101_1100;
/// The DNS port.
pub const DNS: u16 = 53;

const INPUT: &str = "input";
const FORWARD: &str = "forward";
/// The kind and code of a rejection: a reset for TCP, "administratively prohibited" for the rest.
const RESET: (u32, u8) = (1, 0);
const PROHIBITED: (u32, u8) = (0, 13);

/// The nftables table of one edge network.
pub(super) struct Edge {
    kernel: Socket,
    changes: AsyncFd<Socket>,
    /// The bridge's name, which is also the table's.
    bridge: String,
}

impl Edge {
    /// Installs the table; replaces an existing one.
    pub(super) fn close(bridge: &str) -> io::Result<Self> {
        let edge = Self {
            kernel: Socket::netfilter()?,
            changes: Socket::filter_changes()?.watched()?,
            bridge: bridge.to_owned(),
        };
        let table = edge.table();
        let anew = [table.create(), table.delete()].into_iter().chain(rules(table));
        edge.kernel.request(nftables::batch(anew))?;
        Ok(edge)
    }

    /// Returns the name of the bridge.
    pub(super) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Removes the table.
    pub(super) fn open(self) -> io::Result<()> {
        self.kernel.request(nftables::batch([self.table().create(), self.table().delete()]))
    }

    /// Waits until a table of the machine's packet filter changes, and restores ours if it was removed.
    pub(super) async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let table = self.table();
        let taken_away = match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
            Ok(Ok(length)) => messages(&buffer[..length]).any(|message| table.was_deleted(&message)),
            // Some events were lost.
            Ok(Err(_)) => true,
            Err(_would_block) => false,
        };
        drop(ready);
        if !taken_away {
            return Ok(());
        }
        match self.kernel.request(nftables::batch(rules(self.table()))) {
            // It still exists: the event was about its own replacement.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(()),
            put_back => put_back,
        }
    }

    fn table(&self) -> Table<'_> {
        Table::ipv4(&self.bridge)
    }
}

/// Builds the table with all its rules, as one batch. The table's name is the bridge's.
fn rules(table: Table<'_>) -> Vec<Message> {
    let from_edge = |chain: &'static str| -> Rule<'_> { table.rule(chain).enters_by_name(table.name()) };
    let mut messages = vec![
        table.create_new(),
        table.base_chain(INPUT, Hook::Input, "filter", -10, RuleAction::Accept),
        table.base_chain(FORWARD, Hook::Forward, "filter", -10, RuleAction::Accept),
    ];
    for chain in [INPUT, FORWARD] {
        messages.push(from_edge(chain).answers().does(RuleAction::Accept));
        messages.push(from_edge(chain).has_service_class(LET_OUT).does(RuleAction::Accept));
    }
    for protocol in [UDP, TCP] {
        let asks = from_edge(INPUT).to_port(protocol, DNS).has_service_class(0);
        messages.push(asks.does(RuleAction::Accept));
    }
    messages.push(from_edge(INPUT).of_protocol(TCP).rejects(RESET.0, RESET.1));
    messages.push(from_edge(INPUT).rejects(PROHIBITED.0, PROHIBITED.1));
    messages.push(from_edge(FORWARD).is_translated().of_protocol(TCP).rejects(RESET.0, RESET.1));
    messages.push(from_edge(FORWARD).is_translated().rejects(PROHIBITED.0, PROHIBITED.1));
    messages
}
