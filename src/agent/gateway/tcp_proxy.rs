//! Proxies connections to listed names. A listed name resolves to the gateway; the connection itself states its target:
//! the server name of a TLS hello, or the host of each HTTP request. The gateway resolves that name itself, so a forged
//! name leads only to the address of that name, if it is listed at all.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client_hello::{self, Hello};
use super::context::{Caller, Serving};
use super::forward::listen;
use super::http_proxy;
use super::outbound::{self, Wanted};
use super::relay::{relay, reset};
use super::stats::RefusalKind;

/// How long a client has to state its target.
const SPEAK_WITHIN: Duration = Duration::from_secs(10);
/// On a port that only one name can use, a client that is silent for this long is assumed to wait for the server.
const SILENT_FOR: Duration = Duration::from_millis(200);
/// The fatal alert `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// Stands in for the name in statistics if a connection states none.
const NAMELESS: &str = "(no name)";

/// Starts to listen for connections to listed names.
pub fn serve(serving: &Arc<Serving>, ours: Ipv4Addr, port: u16) -> io::Result<()> {
    let listener = listen(SocketAddr::from((ours, port)))?;
    let serving = Arc::clone(serving);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, from)) => {
                    let serving = Arc::clone(&serving);
                    tokio::spawn(async move {
                        let _ended = pass(serving, client, Caller { from, port }).await;
                    });
                }
                Err(_error) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok(())
}

async fn pass(serving: Arc<Serving>, client: TcpStream, caller: Caller) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let only_name = serving.policy.only_name_on(caller.port).map(str::to_owned);
    let mut first = [0; 8];
    let within = if only_name.is_some() { SILENT_FOR } else { SPEAK_WITHIN };
    let spoken = match timeout(within, client.peek(&mut first)).await {
        Ok(length) => length?,
        Err(_silent) => 0,
    };
    match (first[..spoken].first(), only_name) {
        (Some(22), _) => pass_tls(&serving, client, caller).await,
        (Some(_), Some(name)) if !http_proxy::begins_request(&first[..spoken]) => {
            pass_as_it_is(&serving, client, caller, &name, &[], RefusalKind::Tcp).await
        }
        (None, Some(name)) => pass_as_it_is(&serving, client, caller, &name, &[], RefusalKind::Tcp).await,
        (None, None) => Ok(()),
        (Some(_), _) => {
            http_proxy::pass(serving, client, caller).await;
            Ok(())
        }
    }
}

async fn pass_tls(serving: &Arc<Serving>, mut client: TcpStream, caller: Caller) -> io::Result<()> {
    let mut hello = Vec::with_capacity(2048);
    let read = timeout(SPEAK_WITHIN, read_hello(&mut client, &mut hello)).await??;
    let refused = match &read {
        Hello::For(name) if serving.policy.allows_name(name, caller.port) => {
            return pass_as_it_is(serving, client, caller, name, &hello, RefusalKind::Tls).await;
        }
        Hello::For(name) => name.as_str(),
        Hello::Nameless | Hello::Unsound | Hello::Incomplete => NAMELESS,
    };
    serving.refuse(caller.from, RefusalKind::Tls, refused, Some(caller.port), None);
    client.write_all(&UNRECOGNIZED_NAME).await?;
    client.shutdown().await
}

async fn read_hello(client: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<Hello> {
    loop {
        if client.read_buf(hello).await? == 0 || hello.len() > client_hello::MOST_BYTES {
            return Ok(Hello::Unsound);
        }
        match client_hello::read(hello) {
            Hello::Incomplete => {}
            read => return Ok(read),
        }
    }
}

/// Connects to `name` and copies bytes; `said` goes first.
async fn pass_as_it_is(
    serving: &Serving,
    client: TcpStream,
    caller: Caller,
    name: &str,
    said: &[u8],
    kind: RefusalKind,
) -> io::Result<()> {
    match outbound::connect(serving, Wanted { from: caller.from, name, port: caller.port, kind }).await {
        Ok(mut server) => {
            server.write_all(said).await?;
            relay(client, server).await;
        }
        Err(_unreachable) => reset(client),
    }
    Ok(())
}
