//! Proxies HTTP to listed names. It parses every request of a connection completely and builds a new one from it, so
//! that neither a later request nor a smuggled one reaches a host that is not listed.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1 as client_side,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    server::conn::http1 as server_side,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::context::{Caller, Serving};
use super::outbound::{self, Wanted};
use super::stats::RefusalKind;

type Body = BoxBody<Bytes, hyper::Error>;

/// The methods that a request line may begin with. On a port for one name, anything else is another protocol.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];

/// Whether a connection that begins like this is HTTP.
pub fn begins_request(first: &[u8]) -> bool {
    METHODS.iter().any(|method| first.starts_with(&method[..method.len().min(8)]))
}

/// Serves one connection.
pub async fn pass(serving: Arc<Serving>, client: TcpStream, caller: Caller) {
    let answer = service_fn(move |request| {
        let serving = Arc::clone(&serving);
        async move { Ok::<_, hyper::Error>(answer(&serving, request, caller).await) }
    });
    let _ended = server_side::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(client), answer)
        .with_upgrades()
        .await;
}

async fn answer(serving: &Serving, request: Request<Incoming>, caller: Caller) -> Response<Body> {
    let name = match host(request.uri(), request.headers(), caller.port) {
        Ok(name) => name,
        Err(refused) => {
            return plain(StatusCode::BAD_REQUEST, format!("sandbox: {refused}\n"));
        }
    };
    if request.method() == hyper::Method::CONNECT || !serving.policy.allows_name(&name, caller.port) {
        serving.refuse(caller.from, RefusalKind::Http, &name, Some(caller.port), None);
        return plain(StatusCode::FORBIDDEN, format!("sandbox: `{name}` is not on the egress list\n"));
    }
    let wanted = Wanted { from: caller.from, name: &name, port: caller.port, kind: RefusalKind::Http };
    match outbound::connect(serving, wanted).await {
        Ok(server) => ask(server, request)
            .await
            .unwrap_or_else(|error| plain(StatusCode::BAD_GATEWAY, format!("sandbox: `{name}`: {error}\n"))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            plain(StatusCode::FORBIDDEN, format!("sandbox: `{name}`: {error}\n"))
        }
        Err(error) => plain(StatusCode::BAD_GATEWAY, format!("sandbox: `{name}`: {error}\n")),
    }
}

/// Returns the one host of a request: that of the target if it has one, else the header's (RFC 9112, section 3.2).
fn host(uri: &Uri, headers: &HeaderMap, port: u16) -> Result<String, &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (header, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err("more than one host in the request");
    }
    let header = header.map(HeaderValue::to_str).transpose().map_err(|_not_text| "an unreadable host")?;
    let written = match (uri.authority(), header) {
        (Some(authority), Some(header)) if !authority.as_str().eq_ignore_ascii_case(header) => {
            return Err("two different hosts in the request");
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(header)) => header,
        (None, None) => return Err("no host in the request"),
    };
    let (name, written_port) = match written.rsplit_once(':') {
        Some((name, written_port)) => {
            (name, written_port.parse().map_err(|_no_number| "an unreadable port")?)
        }
        None => (written, 80),
    };
    if written_port != port {
        return Err("the port in the host is not the one connected to");
    }
    Ok(name.trim_end_matches('.').to_ascii_lowercase())
}

async fn ask(server: TcpStream, mut request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let _ = server.set_nodelay(true);
    let (mut sender, connection) = client_side::handshake(TokioIo::new(server)).await?;
    tokio::spawn(connection.with_upgrades());
    let upgrading = request.headers().contains_key(header::UPGRADE);
    let client_upgrade = upgrading.then(|| hyper::upgrade::on(&mut request));
    rewrite(&mut request, upgrading);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(client_upgrade) = client_upgrade {
            tokio::spawn(carry_upgraded(client_upgrade, hyper::upgrade::on(&mut response)));
        }
    } else {
        remove_hop_by_hop(response.headers_mut());
    }
    Ok(response.map(BodyExt::boxed))
}

/// Rewrites the target to its origin form, with the host in `Host`, and removes `Expect` and hop-by-hop headers.
fn rewrite(request: &mut Request<Incoming>, upgrading: bool) {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority.and_then(|authority| HeaderValue::from_str(&authority).ok()) {
        request.headers_mut().insert(header::HOST, authority);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(path) = path.parse() {
        *request.uri_mut() = path;
    }
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    remove_hop_by_hop(request.headers_mut());
    request.headers_mut().remove(header::EXPECT);
    if let (true, Some(upgrade)) = (upgrading, upgrade) {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, upgrade);
    }
    *request.version_mut() = hyper::Version::HTTP_11;
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

async fn carry_upgraded(client: OnUpgrade, server: OnUpgrade) {
    if let Ok((client, server)) = tokio::try_join!(client, server) {
        let _ended =
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(target: &str, hosts: &[&str], port: u16) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        host(&target.parse().unwrap(), &headers, port)
    }

    #[test]
    fn a_request_means_one_host_or_none() {
        assert_eq!(means("/", &["API.example.com."], 80).unwrap(), "api.example.com");
        assert_eq!(means("/", &["api.example.com:8080"], 8080).unwrap(), "api.example.com");
        assert_eq!(means("http://a.example/x", &["a.example"], 80).unwrap(), "a.example");
        assert!(means("http://b.example/x", &["a.example"], 80).is_err());
        assert!(means("/", &["a.example", "b.example"], 80).is_err());
        assert!(means("/", &["a.example:81"], 80).is_err());
        assert!(means("/", &["a.example"], 8080).is_err());
        assert!(means("/", &[], 80).is_err());
    }

    #[test]
    fn a_request_is_told_from_another_protocol_by_its_method() {
        assert!(begins_request(b"GET / HT") && begins_request(b"OPTIONS ") && begins_request(b"CONNECT "));
        assert!(!begins_request(b"PING\r\n") && !begins_request(b"*1\r\n$4") && !begins_request(b""));
    }
}
