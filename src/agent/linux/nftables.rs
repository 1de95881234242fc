//! Builds packet filter rules (nf_tables over netlink) by hand, so that no program of the host is needed. It changes
//! only our own tables.
//!
//! Expression and attribute numbers are those of `linux/netfilter/nf_tables.h`.

use ipnet::Ipv4Net;

use super::netlink::{ACK, APPEND, Attributes, CREATE, EXCLUSIVE, Message, Received, attributes};
use super::rtnetlink::Interface;

/// The protocol number of ICMP.
const ICMP: u8 = 1;
/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;

const SUBSYSTEM: u16 = 10 << 8;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// The point in a packet's path at which a chain sees it.
#[derive(Debug, Clone, Copy)]
pub enum Hook {
    /// The packet was received, before routing.
    PreRouting = 0,
    /// The packet is for this machine.
    Input = 1,
    /// The packet is being forwarded.
    Forward = 2,
    /// The packet is about to leave.
    PostRouting = 4,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction<'a> {
    Drop,
    Accept,
    /// Continue in another chain of the table.
    GoTo(&'a str),
}

/// Wraps messages in a batch, which the kernel applies atomically.
pub fn batch(messages: impl IntoIterator<Item = Message>) -> Vec<Message> {
    let begin = Message::new(BATCH_BEGIN, 0, &[0, 0, 0, 10]);
    let end = Message::new(BATCH_END, 0, &[0, 0, 0, 10]);
    std::iter::once(begin).chain(messages).chain([end]).collect()
}

/// A table of our own, identified by its name.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    name: &'a str,
    family: u8,
}

impl<'a> Table<'a> {
    /// A table for IPv4 packets.
    pub const fn ipv4(name: &'a str) -> Self {
        Self { name, family: IPV4 }
    }

    /// A table for IPv6 packets.
    pub const fn ipv6(name: &'a str) -> Self {
        Self { name, family: IPV6 }
    }

    /// Creates the table. It is no error if it exists.
    pub fn create(self) -> Message {
        Message::new(NEW_TABLE, ACK | CREATE, &self.header()).with(1, &text(self.name))
    }

    /// Creates the table. It is an error if it exists.
    pub fn create_new(self) -> Message {
        Message::new(NEW_TABLE, ACK | CREATE | EXCLUSIVE, &self.header()).with(1, &text(self.name))
    }

    /// Whether a message of [`Socket::filter_changes`](super::netlink::Socket::filter_changes) reports its deletion.
    pub fn was_deleted(self, message: &Received<'_>) -> bool {
        let name = || attributes(message.body.get(4..)?).find(|(kind, _)| *kind == 1);
        message.kind == DELETE_TABLE
            && message.body.first() == Some(&self.family)
            && name().is_some_and(|(_, name)| name == text(self.name))
    }

    /// Deletes the table with everything in it.
    pub fn delete(self) -> Message {
        Message::new(DELETE_TABLE, ACK, &self.header()).with(1, &text(self.name))
    }

    /// Creates a chain that only other chains jump to.
    pub fn chain(self, name: &str) -> Message {
        Message::new(NEW_CHAIN, ACK | CREATE, &self.header()).with(1, &text(self.name)).with(3, &text(name))
    }

    /// Creates a base chain, attached to a hook. `kind` is `filter` or `nat`; chains with a lower `priority` run first.
    pub fn base_chain(
        self,
        name: &str,
        hook: Hook,
        kind: &str,
        priority: i32,
        policy: RuleAction<'_>,
    ) -> Message {
        let at = Attributes::new().with(1, &number(hook as u32)).with(2, &priority.to_be_bytes());
        let policy = u32::from(policy != RuleAction::Drop);
        self.chain(name).with_nested(4, &at).with(5, &number(policy)).with(7, &text(kind))
    }

    /// Starts a rule at the end of a chain.
    pub fn rule(self, chain: &'static str) -> Rule<'a> {
        Rule { table: self, chain, expressions: Attributes::new() }
    }

    pub fn name(self) -> &'a str {
        self.name
    }

    fn header(self) -> [u8; 4] {
        [self.family, 0, 0, 0]
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

const REGISTER: u32 = 1;
/// The bits of the DSCP in its byte.
const CLASS_BITS: u8 = 0xfc;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// If no program listens on the queue, packets pass.
const BYPASS: u16 = 1;

/// One rule under construction: matches first, then an action.
#[derive(Debug)]
#[must_use]
pub struct Rule<'a> {
    table: Table<'a>,
    chain: &'static str,
    expressions: Attributes,
}

impl Rule<'_> {
    fn expression(mut self, name: &str, data: &Attributes) -> Self {
        let element = Attributes::new().with(1, &text(name)).with_nested(2, data);
        self.expressions = self.expressions.with_nested(1, &element);
        self
    }

    fn finish(self) -> Message {
        Message::new(NEW_RULE, ACK | CREATE | APPEND, &self.table.header())
            .with(1, &text(self.table.name))
            .with(2, &text(self.chain))
            .with_nested(4, &self.expressions)
    }

    fn meta(self, key: u32) -> Self {
        self.expression("meta", &Attributes::new().with(1, &number(REGISTER)).with(2, &number(key)))
    }

    fn compare(self, operation: u32, value: &[u8]) -> Self {
        let value = Attributes::new().with(1, value);
        let data =
            Attributes::new().with(1, &number(REGISTER)).with(2, &number(operation)).with_nested(3, &value);
        self.expression("cmp", &data)
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let data = Attributes::new()
            .with(1, &number(REGISTER))
            .with(2, &number(base))
            .with(3, &number(offset))
            .with(4, &number(length));
        self.expression("payload", &data)
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.rewritten(mask, &vec![0; mask.len()])
    }

    /// Applies `mask` to the loaded value and then flips the bits in `set`.
    fn rewritten(self, mask: &[u8], set: &[u8]) -> Self {
        let data = Attributes::new()
            .with(1, &number(REGISTER))
            .with(2, &number(REGISTER))
            .with(3, &number(u32::try_from(mask.len()).unwrap_or_default()))
            .with_nested(4, &Attributes::new().with(1, mask))
            .with_nested(5, &Attributes::new().with(1, set));
        self.expression("bitwise", &data)
    }

    /// Matches packets that came by this interface.
    pub fn enters_by(self, interface: Interface) -> Self {
        self.meta(4).compare(EQUAL, &interface.0.to_ne_bytes())
    }

    /// Matches packets that came by the interface of this name, which need not exist.
    pub fn enters_by_name(self, name: &str) -> Self {
        let mut padded = [0; 16];
        let length = name.len().min(padded.len() - 1);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.meta(6).compare(EQUAL, &padded)
    }

    /// Matches the DSCP (RFC 2474), given in the upper six bits.
    pub fn has_service_class(self, class: u8) -> Self {
        self.payload(1, 1, 1).mask(&[CLASS_BITS]).compare(EQUAL, &[class & CLASS_BITS])
    }

    /// Sets the DSCP. It writes two bytes, because the header's checksum covers 16-bit words.
    pub fn set_service_class(self, class: u8) -> Message {
        const INTERNET_CHECKSUM: u32 = 1;
        const CHECKSUM_OFFSET: u32 = 10;
        let data = Attributes::new()
            .with(5, &number(REGISTER))
            .with(2, &number(1))
            .with(3, &number(0))
            .with(4, &number(2))
            .with(6, &number(INTERNET_CHECKSUM))
            .with(7, &number(CHECKSUM_OFFSET));
        self.payload(1, 0, 2)
            .rewritten(&[0xff, !CLASS_BITS], &[0, class & CLASS_BITS])
            .expression("payload", &data)
            .finish()
    }

    /// Matches packets whose destination was translated: they were sent to an address of this machine that is
    /// forwarded.
    pub fn is_translated(self) -> Self {
        const STATUS: u32 = 2;
        const DESTINATION_TRANSLATED: u32 = 1 << 5;
        let status = Attributes::new().with(1, &number(REGISTER)).with(2, &number(STATUS));
        self.expression("ct", &status)
            .mask(&DESTINATION_TRANSLATED.to_ne_bytes())
            .compare(NOT_EQUAL, &0u32.to_ne_bytes())
    }

    /// Matches packets that leave by this interface.
    pub fn leaves_by(self, interface: Interface) -> Self {
        self.meta(5).compare(EQUAL, &interface.0.to_ne_bytes())
    }

    /// Matches packets that leave by another interface.
    pub fn leaves_not_by(self, interface: Interface) -> Self {
        self.meta(5).compare(NOT_EQUAL, &interface.0.to_ne_bytes())
    }

    /// Matches packets to an address of this network.
    pub fn goes_to(self, net: Ipv4Net) -> Self {
        self.has_address(16, net)
    }

    /// Matches packets from an address of this network.
    pub fn comes_from(self, net: Ipv4Net) -> Self {
        self.has_address(12, net)
    }

    /// Matches the address at this offset in the header.
    fn has_address(self, offset: u32, net: Ipv4Net) -> Self {
        let address = self.payload(1, offset, 4);
        let masked = if net.prefix_len() == 32 { address } else { address.mask(&net.netmask().octets()) };
        masked.compare(EQUAL, &net.network().octets())
    }

    /// Matches packets of this protocol.
    pub fn of_protocol(self, protocol: u8) -> Self {
        self.meta(16).compare(EQUAL, &[protocol])
    }

    /// Matches packets with this TTL.
    pub fn lives_for(self, hops: u8) -> Self {
        self.payload(1, 8, 1).compare(EQUAL, &[hops])
    }

    /// Matches replies to a ping.
    pub fn is_echo_reply(self) -> Self {
        self.of_protocol(ICMP).payload(2, 0, 1).compare(EQUAL, &[0])
    }

    /// Matches packets to this port.
    pub fn to_port(self, protocol: u8, port: u16) -> Self {
        self.of_protocol(protocol).payload(2, 2, 2).compare(EQUAL, &port.to_be_bytes())
    }

    /// Matches packets of a connection that was accepted before.
    pub fn answers(self) -> Self {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        let state = Attributes::new().with(1, &number(REGISTER)).with(2, &number(0));
        self.expression("ct", &state)
            .mask(&ESTABLISHED_OR_RELATED.to_ne_bytes())
            .compare(NOT_EQUAL, &0u32.to_ne_bytes())
    }

    /// Matches up to this many packets per second.
    pub fn at_most_a_second(self, packets: u64) -> Self {
        let data = Attributes::new()
            .with(1, &packets.to_be_bytes())
            .with(2, &1u64.to_be_bytes())
            .with(3, &number(100))
            .with(4, &number(0));
        self.expression("limit", &data)
    }

    /// Logs packets to a log group, the first 64 bytes of each.
    pub fn told(self, group: u16) -> Message {
        let data = Attributes::new().with(1, &group.to_be_bytes()).with(3, &number(64));
        self.expression("log", &data).finish()
    }

    /// Rejects packets: with an ICMP message (kind 0) or a reset (kind 1).
    pub fn rejects(self, kind: u32, code: u8) -> Message {
        self.expression("reject", &Attributes::new().with(1, &number(kind)).with(2, &[code])).finish()
    }

    /// Masquerades packets: they leave with the address of the interface.
    pub fn masquerades(self) -> Message {
        self.expression("masq", &Attributes::new()).finish()
    }

    /// Matches packets that came by another interface.
    pub fn enters_not_by(self, interface: Interface) -> Self {
        self.meta(4).compare(NOT_EQUAL, &interface.0.to_ne_bytes())
    }

    /// Passes packets to a queue, where a program decides; they pass while none listens.
    pub fn queues(self, queue: u16) -> Message {
        let data = Attributes::new()
            .with(1, &queue.to_be_bytes())
            .with(2, &1u16.to_be_bytes())
            .with(3, &BYPASS.to_be_bytes());
        self.expression("queue", &data).finish()
    }

    /// As [`Rule::queues`], by the older xtables target `NFQUEUE` (`struct xt_NFQ_info_v3`), for kernels that were
    /// built without the nftables expression.
    pub fn queues_the_old_way(self, queue: u16) -> Message {
        let [queue, total, flags] = [queue, 1, BYPASS].map(u16::to_ne_bytes);
        let info = [queue, total, flags, [0; 2]].concat();
        let data = Attributes::new().with(1, &text("NFQUEUE")).with(2, &number(3)).with(3, &info);
        self.expression("target", &data).finish()
    }

    /// Ends the rule with this action.
    pub fn does(self, fate: RuleAction<'_>) -> Message {
        const GOTO: u32 = 4u32.wrapping_neg();
        let verdict = match fate {
            RuleAction::Drop => Attributes::new().with(1, &number(0)),
            RuleAction::Accept => Attributes::new().with(1, &number(1)),
            RuleAction::GoTo(chain) => Attributes::new().with(1, &number(GOTO)).with(2, &text(chain)),
        };
        let data = Attributes::new().with_nested(2, &verdict);
        self.expression("immediate", &Attributes::new().with(1, &number(0)).with_nested(2, &data)).finish()
    }
}
