//! Published ports: forwards TCP connections and UDP datagrams from the edge network to a service.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};

use super::config::{EdgeNetwork, Forward, Protocol};
use super::context::Serving;
use super::relay::{relay, reset};

/// The most connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long to wait for a service to accept.
const CONNECT_FOR: Duration = Duration::from_secs(10);
/// A UDP client is forgotten after this long without a datagram in either direction.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// The most UDP clients at once.
const MOST_UDP_CLIENTS: usize = 1024;
/// The longest datagram, in bytes.
const DATAGRAM_BYTES: usize = 65_535;

thread_local! {
    static DATAGRAM: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_BYTES]);
}

/// Listens on a forward's edge port and serves it. An error means that it cannot listen.
pub async fn serve(serving: Arc<Serving>, address: Ipv4Addr, forward: Forward) -> io::Result<()> {
    let at = SocketAddr::from((address, forward.edge_port));
    match forward.protocol {
        Protocol::Tcp => {
            let listener = listen(at)?;
            tokio::spawn(accept(serving, listener, address, forward));
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(at).await?;
            tokio::spawn(pass_datagrams(serving, Arc::new(socket), address, forward));
        }
    }
    Ok(())
}

/// Creates a listener with a large backlog.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = local_socket()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Creates a socket whose connections stay on this machine's bridges; accepted connections inherit its options.
///
/// There is no network to protect from congestion here, but the host's congestion control may assume one: BBR, a common
/// default, paces by timers and mistakes every wait for a processor for a queue, which costs a third of the throughput.
/// Reno sends what fits; every kernel has it and lets every user select it.
fn local_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    let _ = rustix::net::sockopt::set_tcp_congestion(&socket, "reno");
    Ok(socket)
}

/// Whether a peer is not the engine's machine, for which the ports are published. The machine's proxy and its address
/// translation both use the bridge's address; rootless Podman's proxy may use our `own` address, which the kernel
/// accepts from no other machine. Neither another sandbox's gateway may connect, nor a service that sends to the edge
/// address over a network that it shares with us: the kernel answers for each of our addresses on every network.
fn is_stranger(edge: Option<&EdgeNetwork>, own: Ipv4Addr, peer: IpAddr) -> bool {
    edge.is_some_and(|edge| peer != IpAddr::V4(edge.bridge) && peer != IpAddr::V4(own))
}

async fn accept(serving: Arc<Serving>, listener: TcpListener, own: Ipv4Addr, forward: Forward) {
    let forward = Arc::new(forward);
    loop {
        match listener.accept().await {
            Ok((client, peer)) if is_stranger(serving.config.edge.as_ref(), own, peer.ip()) => reset(client),
            Ok((client, _peer)) => {
                let (serving, forward) = (Arc::clone(&serving), Arc::clone(&forward));
                tokio::spawn(async move {
                    let _use = serving.count_connection();
                    match connect(&serving, &forward).await {
                        Ok(service) => relay(client, service).await,
                        Err(_refused) => reset(client),
                    }
                });
            }
            // Out of descriptors: wait until other connections close.
            Err(_error) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connect(serving: &Serving, forward: &Forward) -> io::Result<TcpStream> {
    let at = locate(serving, forward).await?;
    timeout(CONNECT_FOR, local_socket()?.connect(at)).await?
}

/// Each client gets its own socket towards the service, so that answers can be matched to it.
async fn pass_datagrams(serving: Arc<Serving>, edge: Arc<UdpSocket>, own: Ipv4Addr, forward: Forward) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let (gone_sender, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let mut datagram = vec![0; DATAGRAM_BYTES];
    loop {
        let (length, client) = tokio::select! {
            Some(client) = gone.recv() => {
                clients.remove(&client);
                continue;
            }
            received = edge.recv_from(&mut datagram) => match received {
                Ok(received) => received,
                Err(_unreachable) => continue,
            },
        };
        if is_stranger(serving.config.edge.as_ref(), own, client.ip()) {
            continue;
        }
        let service = match clients.get(&client) {
            Some(service) => Arc::clone(service),
            None if clients.len() >= MOST_UDP_CLIENTS => continue,
            None => match associate(&serving, &forward).await {
                Ok(service) => {
                    let service = Arc::new(service);
                    clients.insert(client, Arc::clone(&service));
                    let (serving, edge, gone) =
                        (Arc::clone(&serving), Arc::clone(&edge), gone_sender.clone());
                    let answering = Arc::clone(&service);
                    tokio::spawn(async move {
                        let _use = serving.count_connection();
                        pass_answers(&answering, &edge, client).await;
                        let _ = gone.send(client);
                    });
                    service
                }
                Err(_not_there) => continue,
            },
        };
        // A datagram that does not fit is lost, as on any network.
        let _ = service.try_send(&datagram[..length]);
    }
}

async fn associate(serving: &Serving, forward: &Forward) -> io::Result<UdpSocket> {
    let at = locate(serving, forward).await?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(at).await?;
    // Before the runtime knows that the socket is writable, `try_send` fails and the first datagram would be lost.
    socket.writable().await?;
    Ok(socket)
}

/// Resolves the current address of a forward's target.
async fn locate(serving: &Serving, forward: &Forward) -> io::Result<SocketAddr> {
    let to = forward.container.as_deref().unwrap_or(&forward.service);
    serving.roster.locate_port(to, forward.network.as_deref(), forward.container_port).await
}

/// Returns when the service has been silent for a while. A service that never answers is resolved again.
async fn pass_answers(service: &UdpSocket, edge: &UdpSocket, client: SocketAddr) {
    let mut until = Instant::now() + UDP_IDLE;
    loop {
        match timeout_at(until, service.readable()).await {
            Err(_) | Ok(Err(_)) => return,
            Ok(Ok(())) => {}
        }
        let passed = DATAGRAM.with_borrow_mut(|datagram| {
            let length = service.try_recv(&mut datagram[..])?;
            edge.try_send_to(&datagram[..length], client)
        });
        // An error means that the service refuses (it does not listen yet) or that a queue is full: the next one may
        // pass.
        if passed.is_ok() {
            until = Instant::now() + UDP_IDLE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engine_s_machine_comes_through_published_ports() {
        let bridge = Ipv4Addr::new(10, 201, 0, 1);
        let edge = EdgeNetwork { subnet: "10.201.0.0/22".parse().unwrap(), bridge };
        let own = Ipv4Addr::new(10, 201, 0, 7);
        for (peer, stranger) in [
            (bridge, false),
            (own, false),
            (Ipv4Addr::new(10, 201, 0, 8), true),
            (Ipv4Addr::new(10, 200, 0, 5), true),
        ] {
            assert_eq!(is_stranger(Some(&edge), own, peer.into()), stranger, "{peer}");
        }
    }

    #[tokio::test]
    async fn no_connection_through_a_published_port_is_paced() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = local_socket().unwrap().connect(listener.local_addr().unwrap());
        let (ours, accepted) = tokio::join!(connecting, listener.accept());
        for stream in [ours.unwrap(), accepted.unwrap().0] {
            assert_eq!(rustix::net::sockopt::tcp_congestion(&stream).unwrap(), "reno");
        }
    }
}
