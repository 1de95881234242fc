//! A netlink socket: builds messages by hand and waits for their acknowledgements.
//!
//! The contents of the messages are in [`rtnetlink`](crate::agent::linux::rtnetlink) and
//! [`nftables`](crate::agent::linux::nftables).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::{self, SocketAddrNetlink},
    recv, sendto, socket_with, sockopt,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Flag: this is a request.
pub const REQUEST: u16 = 0x1;
/// Flag: request an acknowledgement.
pub const ACK: u16 = 0x4;
/// Flag: return all objects of a kind.
pub const DUMP: u16 = 0x300;
/// Flag: replace an existing object.
pub const REPLACE: u16 = 0x100;
/// Flag: fail if the object exists.
pub const EXCLUSIVE: u16 = 0x200;
/// Flag: create the object if it does not exist.
pub const CREATE: u16 = 0x400;
/// Flag: append after the existing objects.
pub const APPEND: u16 = 0x800;

const NESTED: u16 = 0x8000;
const HEADER_BYTES: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// One message under construction.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Creates a message of a kind, with the family's own header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds a nested attribute.
    #[must_use]
    pub fn with_nested(mut self, kind: u16, inner: &Attributes) -> Self {
        self.put(kind | NESTED, &inner.0);
        self
    }

    /// Adds an attribute that holds a structure followed by attributes, which older parts of the kernel do not mark as
    /// nested.
    fn put(&mut self, kind: u16, value: &[u8]) {
        put_attribute(&mut self.bytes, kind, value);
    }

    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & ACK != 0
    }
}

/// A list of attributes, to be nested.
#[derive(Debug, Default, Clone)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        put_attribute(&mut self.0, kind, value);
        self
    }

    /// Adds a nested attribute.
    #[must_use]
    pub fn with_nested(self, kind: u16, inner: &Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }

    /// Returns the serialized attributes.
    #[cfg(test)]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn put_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Parses the attributes in `bytes`.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [low, high, kind_low, kind_high, ..] = *bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([kind_low, kind_high]) & !NESTED, value))
    })
}

/// A received message.
#[derive(Debug)]
pub struct Received<'a> {
    /// The message type.
    pub kind: u16,
    /// The payload after the header.
    pub body: &'a [u8],
}

/// Splits a datagram into its messages.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received { kind, body })
    })
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::os::fd::AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

impl Socket {
    /// Opens a socket to rtnetlink (addresses, routes, queues).
    pub fn route() -> io::Result<Self> {
        Self::open(None, 0)
    }

    /// Opens a socket that receives an event for every interface that is added, removed or changed.
    pub fn links() -> io::Result<Self> {
        const LINKS: u32 = 1;
        Self::open(None, LINKS)
    }

    /// Opens a socket that receives an event for every changed address, for every interface on which IPv6 starts or
    /// stops, and for every change of an interface's IPv4 settings.
    pub fn ip_changes() -> io::Result<Self> {
        const ADDRESSES: u32 = 1 << (5 - 1);
        const IPV6_ADDRESSES: u32 = 1 << (9 - 1);
        const IPV6_INTERFACES: u32 = 1 << (12 - 1);
        const SETTINGS: u32 = 1 << (24 - 1);
        Self::open(None, ADDRESSES | IPV6_ADDRESSES | IPV6_INTERFACES | SETTINGS)
    }

    /// Opens a socket to netfilter.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), 0)
    }

    /// Opens a socket that receives an event for every nftables table that is added, removed or changed.
    pub fn filter_changes() -> io::Result<Self> {
        const TABLES: u32 = 1 << (7 - 1);
        Self::open(Some(netlink::NETFILTER), TABLES)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd })
    }

    /// Registers the socket with the async runtime.
    #[expect(deprecated, reason = "the socket is owned by the `AsyncFd` for as long as that lives")]
    pub fn watched(self) -> io::Result<AsyncFd<Self>> {
        AsyncFd::with_interest(self, Interest::READABLE)
    }

    /// Enlarges the receive buffer to this many bytes, as far as the kernel allows.
    pub fn give_room(&self, bytes: usize) {
        let _ = sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes);
    }

    /// Sends messages in one datagram and waits for all requested acknowledgements; returns the first error.
    pub fn request(&self, messages_to_send: Vec<Message>) -> io::Result<()> {
        let mut awaited = messages_to_send.iter().filter(|message| message.wants_ack()).count();
        let bytes: Vec<u8> =
            (1..).zip(messages_to_send).flat_map(|(sequence, message)| message.finish(sequence)).collect();
        self.send(&bytes)?;
        let mut buffer = vec![0; 32 * 1024];
        while awaited > 0 {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]).filter(|message| message.kind == ERROR) {
                let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                awaited = awaited.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Sends one request and calls `each` with the body of every message of the reply.
    pub fn dump(&self, message: Message, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(&message.finish(1))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    _ => each(message.body),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        sendto(&self.fd, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// Receives one datagram without blocking.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = recv(&self.fd, buffer, RecvFlags::DONTWAIT)?;
        Ok(length)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = recv(&self.fd, buffer, RecvFlags::empty())?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let inner = Attributes::new().with(1, b"abc").with(2, &7u32.to_ne_bytes());
        let outer = Attributes::new().with_nested(4, &inner).with(5, b"");
        assert_eq!(outer.0.as_slice().len() % 4, 0);
        let read: Vec<_> = attributes(outer.0.as_slice()).collect();
        assert_eq!(read[0], (4, inner.0.as_slice()));
        assert_eq!(read[1], (5, &b""[..]));
        let inside: Vec<_> = attributes(read[0].1).collect();
        assert_eq!(inside, [(1, &b"abc"[..]), (2, &7u32.to_ne_bytes()[..])]);
    }
}
