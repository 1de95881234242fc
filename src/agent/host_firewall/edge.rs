//! What gateways may send to the engine's machine itself, over the edge network.
//!
//! A gateway knows the machine's addresses from when it was made, and where the client is another machine it knows none. The
//! machine's kernel always knows its own. So a table of the machine's filter, one per scope, decides: what comes by the
//! edge's bridge and is for the machine itself, or for what the machine passes on under an address of its own (a port
//! that somebody else publishes), is refused. Three things pass: answers, what the gateway itself asks a resolver that
//! is the machine, and what a gateway marks because a rule of its list names the very address.
//!
//! The mark is the packet's code point for differentiated services: it survives the way from one network namespace to
//! another, which the kernel's own mark does not. A gateway takes it from every packet of a service that has it
//! ([`crate::agent::gateway`]).

use std::io;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::agent::linux::netlink::{Message, Socket, messages};
use crate::agent::linux::nftables::{self, Hook, Rule, RuleAction, TCP, Table, UDP};

/// The code point of what a gateway lets out to the machine on purpose (RFC 2474, for local use).
pub const LET_OUT: u8 = 0b1010_1100;
/// The code point of what a service asks at a resolver's port past its gateway's resolver (RFC 2474, for local use).
pub const NOT_THE_GATEWAYS: u8 = 0b0101_1100;
/// The port of resolvers.
pub const DNS: u16 = 53;

const INPUT: &str = "input";
const FORWARD: &str = "forward";
/// The last byte of a rejection: a reset for TCP, "administratively prohibited" for the rest.
const RESET: (u32, u8) = (1, 0);
const PROHIBITED: (u32, u8) = (0, 13);

/// The table of one edge network.
pub(super) struct Edge {
    kernel: Socket,
    changes: AsyncFd<Socket>,
    /// The bridge's name, which is the table's as well.
    bridge: String,
}

impl Edge {
    /// Puts the table in place, anew if it is there.
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

    /// The bridge that it is about.
    pub(super) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Takes the table away.
    pub(super) fn open(self) -> io::Result<()> {
        self.kernel.request(nftables::batch([self.table().create(), self.table().delete()]))
    }

    /// Waits until something has changed in the machine's filter, and puts the table back where it was taken away.
    pub(super) async fn heed(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut ready = self.changes.readable().await?;
        let table = self.table();
        let taken_away = match ready.try_io(|changes| changes.get_ref().try_receive(&mut buffer)) {
            Ok(Ok(length)) => messages(&buffer[..length]).any(|message| table.was_deleted(&message)),
            // Some were lost.
            Ok(Err(_)) => true,
            Err(_would_block) => false,
        };
        drop(ready);
        if !taken_away {
            return Ok(());
        }
        match self.kernel.request(nftables::batch(rules(self.table()))) {
            // It is there: what was told of was its own replacement.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(()),
            put_back => put_back,
        }
    }

    fn table(&self) -> Table<'_> {
        Table::ipv4(&self.bridge)
    }
}

/// The table with all that is in it, all or nothing. The table's name is the bridge's.
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
