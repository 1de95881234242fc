//! Rules of the kernel's packet filter (nf_tables over netlink), built by hand: no binary of the host's is needed, and
//! no table is touched but our own.
//!
//! Expression and attribute numbers are those of `linux/netfilter/nf_tables.h`.

use ipnet::Ipv4Net;

use super::netlink::{ACK, APPEND, Attributes, CREATE, EXCLUSIVE, Message, Received, attributes};
use super::rtnetlink::Interface;

/// ICMP's number among protocols.
const ICMP: u8 = 1;
/// TCP's number among protocols.
pub const TCP: u8 = 6;
/// UDP's number among protocols.
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

/// Where a packet is when a chain sees it.
#[derive(Debug, Clone, Copy)]
pub enum Hook {
    /// It has just come.
    PreRouting = 0,
    /// It is for us.
    Input = 1,
    /// It passes through.
    Forward = 2,
    /// It is about to leave.
    PostRouting = 4,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction<'a> {
    /// Gone.
    Drop,
    /// On its way.
    Accept,
    /// Another chain of the table says.
    GoTo(&'a str),
}

/// The messages between a beginning and an end, which the kernel performs all or none.
pub fn batch(messages: impl IntoIterator<Item = Message>) -> Vec<Message> {
    let begin = Message::new(BATCH_BEGIN, 0, &[0, 0, 0, 10]);
    let end = Message::new(BATCH_END, 0, &[0, 0, 0, 10]);
    std::iter::once(begin).chain(messages).chain([end]).collect()
}

/// A table of our own, by its name.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    name: &'a str,
    family: u8,
}

impl<'a> Table<'a> {
    /// One that sees packets of IPv4.
    pub const fn ipv4(name: &'a str) -> Self {
        Self { name, family: IPV4 }
    }

    /// One that sees packets of IPv6.
    pub const fn ipv6(name: &'a str) -> Self {
        Self { name, family: IPV6 }
    }

    /// Makes it. One that is there already is fine.
    pub fn create(self) -> Message {
        Message::new(NEW_TABLE, ACK | CREATE, &self.header()).with(1, &text(self.name))
    }

    /// Makes it. One that is there already is an error.
    pub fn create_new(self) -> Message {
        Message::new(NEW_TABLE, ACK | CREATE | EXCLUSIVE, &self.header()).with(1, &text(self.name))
    }

    /// Whether a message of [`Socket::filter_changes`](super::netlink::Socket::filter_changes) tells that it was deleted.
    pub fn was_deleted(self, message: &Received<'_>) -> bool {
        let name = || attributes(message.body.get(4..)?).find(|(kind, _)| *kind == 1);
        message.kind == DELETE_TABLE
            && message.body.first() == Some(&self.family)
            && name().is_some_and(|(_, name)| name == text(self.name))
    }

    /// Deletes it with all that is in it.
    pub fn delete(self) -> Message {
        Message::new(DELETE_TABLE, ACK, &self.header()).with(1, &text(self.name))
    }

    /// Makes a chain that only other chains lead to.
    pub fn chain(self, name: &str) -> Message {
        Message::new(NEW_CHAIN, ACK | CREATE, &self.header()).with(1, &text(self.name)).with(3, &text(name))
    }

    /// Makes a chain that the kernel leads packets to. `kind` is `filter` or `nat`; the lower `priority` comes first.
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

    /// A rule at the end of a chain.
    pub fn rule(self, chain: &'static str) -> Rule<'a> {
        Rule { table: self, chain, expressions: Attributes::new() }
    }

    /// Its name.
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
/// The bits of a code point for differentiated services, in its byte.
const CLASS_BITS: u8 = 0xfc;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// Without a listener, packets pass.
const BYPASS: u16 = 1;

/// One rule under construction: conditions first, then what it does.
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

    /// What was loaded, with only the bits of `mask` kept and those of `set` flipped.
    fn rewritten(self, mask: &[u8], set: &[u8]) -> Self {
        let data = Attributes::new()
            .with(1, &number(REGISTER))
            .with(2, &number(REGISTER))
            .with(3, &number(u32::try_from(mask.len()).unwrap_or_default()))
            .with_nested(4, &Attributes::new().with(1, mask))
            .with_nested(5, &Attributes::new().with(1, set));
        self.expression("bitwise", &data)
    }

    /// It came by this interface.
    pub fn enters_by(self, interface: Interface) -> Self {
        self.meta(4).compare(EQUAL, &interface.0.to_ne_bytes())
    }

    /// It came by the interface of this name, whether or not there is one now.
    pub fn enters_by_name(self, name: &str) -> Self {
        let mut padded = [0; 16];
        let length = name.len().min(padded.len() - 1);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.meta(6).compare(EQUAL, &padded)
    }

    /// Its code point for differentiated services (RFC 2474), in the upper six bits.
    pub fn has_service_class(self, class: u8) -> Self {
        self.payload(1, 1, 1).mask(&[CLASS_BITS]).compare(EQUAL, &[class & CLASS_BITS])
    }

    /// It gets this code point. Two bytes are written, since the header's checksum is one of two.
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

    /// It was meant for another address: one of this machine's, from which it is passed on.
    pub fn is_translated(self) -> Self {
        const STATUS: u32 = 2;
        const DESTINATION_TRANSLATED: u32 = 1 << 5;
        let status = Attributes::new().with(1, &number(REGISTER)).with(2, &number(STATUS));
        self.expression("ct", &status)
            .mask(&DESTINATION_TRANSLATED.to_ne_bytes())
            .compare(NOT_EQUAL, &0u32.to_ne_bytes())
    }

    /// It leaves by this interface.
    pub fn leaves_by(self, interface: Interface) -> Self {
        self.meta(5).compare(EQUAL, &interface.0.to_ne_bytes())
    }

    /// It leaves by another interface.
    pub fn leaves_not_by(self, interface: Interface) -> Self {
        self.meta(5).compare(NOT_EQUAL, &interface.0.to_ne_bytes())
    }

    /// It is for an address of this network.
    pub fn goes_to(self, net: Ipv4Net) -> Self {
        self.has_address(16, net)
    }

    /// It is from an address of this network.
    pub fn comes_from(self, net: Ipv4Net) -> Self {
        self.has_address(12, net)
    }

    /// The address at this place of its header is of this network.
    fn has_address(self, offset: u32, net: Ipv4Net) -> Self {
        let address = self.payload(1, offset, 4);
        let masked = if net.prefix_len() == 32 { address } else { address.mask(&net.netmask().octets()) };
        masked.compare(EQUAL, &net.network().octets())
    }

    /// It is of this protocol.
    pub fn of_protocol(self, protocol: u8) -> Self {
        self.meta(16).compare(EQUAL, &[protocol])
    }

    /// It may pass so many more hops.
    pub fn lives_for(self, hops: u8) -> Self {
        self.payload(1, 8, 1).compare(EQUAL, &[hops])
    }

    /// It is the answer to a ping.
    pub fn is_echo_reply(self) -> Self {
        self.of_protocol(ICMP).payload(2, 0, 1).compare(EQUAL, &[0])
    }

    /// It is for this port.
    pub fn to_port(self, protocol: u8, port: u16) -> Self {
        self.of_protocol(protocol).payload(2, 2, 2).compare(EQUAL, &port.to_be_bytes())
    }

    /// Part of a conversation that was let through.
    pub fn answers(self) -> Self {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        let state = Attributes::new().with(1, &number(REGISTER)).with(2, &number(0));
        self.expression("ct", &state)
            .mask(&ESTABLISHED_OR_RELATED.to_ne_bytes())
            .compare(NOT_EQUAL, &0u32.to_ne_bytes())
    }

    /// There were no more than so many of them in this second.
    pub fn at_most_a_second(self, packets: u64) -> Self {
        let data = Attributes::new()
            .with(1, &packets.to_be_bytes())
            .with(2, &1u64.to_be_bytes())
            .with(3, &number(100))
            .with(4, &number(0));
        self.expression("limit", &data)
    }

    /// Packets are told to a log group, the first 64 bytes of each.
    pub fn told(self, group: u16) -> Message {
        let data = Attributes::new().with(1, &group.to_be_bytes()).with(3, &number(64));
        self.expression("log", &data).finish()
    }

    /// The sender is told: with a message of ICMP (kind 0) or a reset (kind 1).
    pub fn rejects(self, kind: u32, code: u8) -> Message {
        self.expression("reject", &Attributes::new().with(1, &number(kind)).with(2, &[code])).finish()
    }

    /// It leaves under the address of the interface.
    pub fn masquerades(self) -> Message {
        self.expression("masq", &Attributes::new()).finish()
    }

    /// It came by another interface.
    pub fn enters_not_by(self, interface: Interface) -> Self {
        self.meta(4).compare(NOT_EQUAL, &interface.0.to_ne_bytes())
    }

    /// A program decides; it passes while none listens.
    pub fn queues(self, queue: u16) -> Message {
        let data = Attributes::new()
            .with(1, &queue.to_be_bytes())
            .with(2, &1u16.to_be_bytes())
            .with(3, &BYPASS.to_be_bytes());
        self.expression("queue", &data).finish()
    }

    /// The same by the older filter's `NFQUEUE` (`struct xt_NFQ_info_v3`), for kernels that were built without the
    /// newer filter's own expression.
    pub fn queues_the_old_way(self, queue: u16) -> Message {
        let [queue, total, flags] = [queue, 1, BYPASS].map(u16::to_ne_bytes);
        let info = [queue, total, flags, [0; 2]].concat();
        let data = Attributes::new().with(1, &text("NFQUEUE")).with(2, &number(3)).with(3, &info);
        self.expression("target", &data).finish()
    }

    /// What becomes of it.
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
