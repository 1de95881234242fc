//! The DNS resolver for outside names: the engine's resolver forwards what it cannot resolve itself to this one.
//!
//! DNS queries can carry data out (a DNS tunnel), so only what the policy allows is asked outside: under `allow` a
//! query is forwarded unchanged; a listed name is answered with the gateway's own address, without an outside query;
//! every other name does not exist.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::context::Serving;
use super::forward::listen;
use super::lookup::{a_records, ask, read_framed, write_framed};
use super::policy::NameVerdict;
use super::stats::RefusalKind;

/// The TTL of our own address as an answer, in seconds.
const OUR_TTL: u32 = 30;
/// The most queries that are forwarded at once.
const MOST_OUTSIDE: usize = 256;
/// A TCP client that sends no query for this long is disconnected.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// What fits into a datagram without EDNS, in bytes.
const PLAIN_DATAGRAM: usize = 512;

/// Serves on one of the gateway's addresses. Listed names resolve to `ours` there.
pub async fn serve(serving: Arc<Serving>, ours: Ipv4Addr) -> io::Result<()> {
    let at = SocketAddr::from((ours, 53));
    let socket = Arc::new(UdpSocket::bind(at).await?);
    let listener = listen(at)?;
    let resolver = Arc::new(Resolver { serving, ours, outside: Semaphore::new(MOST_OUTSIDE) });
    tokio::spawn(answer_datagrams(Arc::clone(&resolver), socket));
    tokio::spawn(answer_streams(resolver, listener));
    Ok(())
}

struct Resolver {
    serving: Arc<Serving>,
    ours: Ipv4Addr,
    outside: Semaphore,
}

async fn answer_datagrams(resolver: Arc<Resolver>, socket: Arc<UdpSocket>) {
    let mut question = vec![0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut question).await else { continue };
        let (resolver, socket, question) =
            (Arc::clone(&resolver), Arc::clone(&socket), question[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = resolver.answer(&question, client).await {
                let answer =
                    if answer.len() > most_bytes(&question) { truncated(&question) } else { Some(answer) };
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, client).await;
                }
            }
        });
    }
}

async fn answer_streams(resolver: Arc<Resolver>, listener: TcpListener) {
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move {
            let _ended = resolver.answer_stream(stream, client).await;
        });
    }
}

impl Resolver {
    async fn answer_stream(&self, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        loop {
            let question = timeout(TCP_IDLE, read_framed(&mut stream)).await??;
            let Some(answer) = self.answer(&question, client).await else { return Ok(()) };
            write_framed(&mut stream, &answer).await?;
        }
    }

    /// Returns the answer to one query; `None` if the message is no query.
    async fn answer(&self, question: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let message = Message::from_vec(question).ok()?;
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let [query] = message.queries.as_slice() else {
            return reply(&message, ResponseCode::FormErr, None);
        };
        if message.metadata.op_code != OpCode::Query {
            return reply(&message, ResponseCode::NotImp, None);
        }
        let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        match self.serving.policy.look_up(&name) {
            NameVerdict::Inside => reply(&message, ResponseCode::NXDomain, None),
            NameVerdict::Ours if query.query_type() == RecordType::A => {
                reply(&message, ResponseCode::NoError, Some(self.ours))
            }
            NameVerdict::Ours => reply(&message, ResponseCode::NoError, None),
            NameVerdict::Refused => {
                if !name.ends_with(".arpa") {
                    self.serving.refuse(client, RefusalKind::Name, &name, None, None);
                }
                reply(&message, ResponseCode::NXDomain, None)
            }
            // The gateway forwards no IPv6, so a client that got an IPv6 address would only wait for a timeout.
            NameVerdict::Forward if query.query_type() == RecordType::AAAA => {
                reply(&message, ResponseCode::NoError, None)
            }
            NameVerdict::Forward => self.forward(&message, question, &name, client).await,
        }
    }

    /// Forwards a query and returns its answer, unless that contains an address that no packet may reach.
    async fn forward(
        &self,
        message: &Message,
        question: &[u8],
        name: &str,
        client: SocketAddr,
    ) -> Option<Vec<u8>> {
        let _turn = self.outside.try_acquire().ok()?;
        let Ok(answer) = ask(self.serving.outside_resolver(), question).await else {
            return reply(message, ResponseCode::ServFail, None);
        };
        let parsed = Message::from_vec(&answer).ok()?;
        let inward = a_records(&parsed)
            .into_iter()
            .find(|record| self.serving.policy.never().iter().any(|net| net.contains(&record.address)));
        match inward {
            Some(record) => {
                let reason = format!("resolves to {}, which is never let out", record.address);
                self.serving.refuse(client, RefusalKind::Name, name, None, Some(reason));
                reply(message, ResponseCode::NXDomain, None)
            }
            None => Some(answer),
        }
    }
}

fn reply(question: &Message, code: ResponseCode, address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(question.queries.iter().cloned());
    if let (Some(address), Some(query)) = (address, question.queries.first()) {
        answer.add_answer(Record::from_rdata(query.name().clone(), OUR_TTL, RData::A(A(address))));
    }
    answer.to_vec().ok()
}

fn most_bytes(question: &[u8]) -> usize {
    Message::from_vec(question)
        .map_or(PLAIN_DATAGRAM, |message| usize::from(message.max_payload()).max(PLAIN_DATAGRAM))
}

fn truncated(question: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(question).ok()?;
    let mut answer = Message::response(message.metadata.id, message.metadata.op_code);
    answer.metadata.truncation = true;
    answer.add_queries(message.queries.iter().cloned());
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::{op::Query, rr::Name};

    use super::*;
    use crate::agent::gateway::config::{GatewayConfig, GatewayNetwork};

    fn resolver(egress: &str, upstream: SocketAddr) -> Resolver {
        let network = GatewayNetwork {
            name: "default".into(),
            subnet: "10.200.0.0/27".parse().unwrap(),
            address: Ipv4Addr::new(10, 200, 0, 2),
            adopt: None,
            internal: true,
        };
        let config = GatewayConfig {
            sandbox: "t".into(),
            networks: vec![network],
            edge: None,
            forwards: vec![],
            egress: serde_json::from_str(egress).unwrap(),
            services: vec![],
            forbidden: vec![],
            resolver: Some(upstream),
        };
        Resolver {
            serving: Serving::new(config),
            ours: Ipv4Addr::new(10, 200, 0, 2),
            outside: Semaphore::new(1),
        }
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    async fn answered(resolver: &Resolver, name: &str, kind: RecordType) -> (ResponseCode, Vec<Ipv4Addr>) {
        let answer =
            resolver.answer(&question(name, kind), "10.200.0.5:1000".parse().unwrap()).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, 7);
        (answer.metadata.response_code, a_records(&answer).iter().map(|record| record.address).collect())
    }

    /// An upstream that answers every query with `address`.
    async fn upstream(address: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            loop {
                let (length, client) = socket.recv_from(&mut bytes).await.unwrap();
                let question = Message::from_vec(&bytes[..length]).unwrap();
                let answer = reply(&question, ResponseCode::NoError, Some(address)).unwrap();
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        at
    }

    fn nowhere() -> SocketAddr {
        "127.0.0.1:1".parse().unwrap()
    }

    #[tokio::test]
    async fn under_deny_an_outside_name_does_not_exist_and_is_counted() {
        let resolver = resolver(r#""deny""#, nowhere());
        for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            assert_eq!(answered(&resolver, "x.example.com.", kind).await, (ResponseCode::NXDomain, vec![]));
        }
        assert_eq!(answered(&resolver, "db.", RecordType::A).await.0, ResponseCode::NXDomain);
        let refusals = resolver.serving.ledger.lock().refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!((refusals[0].key.target.as_str(), refusals[0].count), ("x.example.com", 3));
    }

    #[tokio::test]
    async fn a_listed_name_is_answered_without_a_query() {
        let resolver = resolver(r#"["*.example.com"]"#, nowhere());
        let ours = (ResponseCode::NoError, vec![Ipv4Addr::new(10, 200, 0, 2)]);
        assert_eq!(answered(&resolver, "API.example.com.", RecordType::A).await, ours);
        for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS] {
            assert_eq!(answered(&resolver, "api.example.com.", kind).await, (ResponseCode::NoError, vec![]));
        }
        assert_eq!(answered(&resolver, "example.org.", RecordType::A).await.0, ResponseCode::NXDomain);
    }

    #[tokio::test]
    async fn under_allow_the_outside_answers_unless_it_leads_back_in() {
        let public = Ipv4Addr::new(203, 0, 113, 9);
        let resolver_out = resolver(r#""allow""#, upstream(public).await);
        assert_eq!(
            answered(&resolver_out, "x.example.com.", RecordType::A).await,
            (ResponseCode::NoError, vec![public])
        );
        let resolver_in = resolver(r#""allow""#, upstream(Ipv4Addr::new(169, 254, 169, 254)).await);
        assert_eq!(answered(&resolver_in, "x.example.com.", RecordType::A).await.0, ResponseCode::NXDomain);
    }

    #[tokio::test]
    async fn what_is_no_question_gets_no_answer() {
        let resolver = resolver(r#""deny""#, nowhere());
        assert_eq!(resolver.answer(b"junk", "10.200.0.5:1".parse().unwrap()).await, None);
    }
}
