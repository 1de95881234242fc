//! A small DNS client: asks a resolver for the IPv4 addresses of a name.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::config::is_label;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one attempt may take.
const TRY_FOR: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// Large enough for any answer over UDP, in bytes.
const MOST_BYTES: usize = 4096;

/// A resolved address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The address.
    pub address: Ipv4Addr,
    /// How long it is valid, in seconds.
    pub ttl: u32,
}

/// Returns the IPv4 addresses of `name`; none if the name does not exist.
pub async fn addresses(server: SocketAddr, name: &str) -> io::Result<Vec<Resolved>> {
    if !name.trim_end_matches('.').split('.').all(is_label) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is not a name")));
    }
    let mut name = Name::from_ascii(name).map_err(io::Error::other)?;
    name.set_fqdn(true);
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::A));
    let answer = ask(server, &question.to_vec().map_err(io::Error::other)?).await?;
    let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(a_records(&answer)),
        ResponseCode::NXDomain => Ok(Vec::new()),
        code => Err(io::Error::other(format!("the resolver answered {code}"))),
    }
}

/// Returns the IPv4 addresses in an answer, including those behind a CNAME.
pub fn a_records(answer: &Message) -> Vec<Resolved> {
    let address = |record: &hickory_proto::rr::Record| match &record.data {
        RData::A(address) => Some(Resolved { address: address.0, ttl: record.ttl }),
        _ => None,
    };
    answer.answers.iter().filter_map(address).collect()
}

/// Sends a query unchanged and returns the answer unchanged, over TCP if it does not fit into a datagram.
pub async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
    for _ in 0..TRIES {
        match timeout(TRY_FOR, ask_by_datagram(server, question)).await {
            Ok(Ok(answer)) if is_truncated(&answer) => return ask_by_stream(server, question).await,
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => {}
        }
    }
    Err(last)
}

fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

async fn ask_by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MOST_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        write_framed(&mut stream, question).await?;
        read_framed(&mut stream).await
    };
    timeout(TRY_FOR, exchange).await?
}

/// Reads one message of the TCP framing: two bytes of length, then the message.
pub async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message in the TCP framing.
pub async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}
