//! Access control: only requests that know the page's address are accepted. Other sites can send requests to loopback,
//! even by a host name of their own, so the guard checks the host, the token and the origin.

use std::net::SocketAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};

/// A header that forms and images of other sites cannot send: a browser would first send a preflight request, which is
/// rejected.
const OURS: &str = "x-sandbox";

/// Checks whether requests are allowed.
pub(super) struct Guard {
    address: SocketAddr,
    token: String,
    nonce: String,
}

impl Guard {
    /// Creates a guard for this address with a new token.
    pub(super) fn new(address: SocketAddr) -> Self {
        let random = || hex::encode(rand::random::<[u8; 16]>());
        Self { address, token: random(), nonce: random() }
    }

    /// The URL of the page.
    pub(super) fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.token)
    }

    /// The nonce that the page's own scripts and styles carry.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Returns the path after the token if the request is allowed.
    pub(super) fn admit<'r, B>(&self, request: &'r Request<B>) -> Result<&'r str, StatusCode> {
        let headers = request.headers();
        let port = self.address.port();
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let host = text(headers, &header::HOST);
        if !host.is_some_and(|host| hosts.iter().any(|ours| ours == host)) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (token, rest) = path.split_once('/').ok_or(StatusCode::NOT_FOUND)?;
        if !same(token, &self.token) {
            return Err(StatusCode::NOT_FOUND);
        }
        let foreign = text(headers, &header::ORIGIN)
            .is_some_and(|origin| !hosts.iter().any(|host| origin == format!("http://{host}")));
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if foreign || (!reads && !headers.contains_key(OURS)) {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(rest)
    }

    /// Sets the security headers of every response.
    pub(super) fn seal(&self, headers: &mut HeaderMap) {
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            self.nonce
        );
        let rules = [
            (header::CONTENT_SECURITY_POLICY, policy.as_str()),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        for (name, rule) in rules {
            if let Ok(rule) = HeaderValue::from_str(rule) {
                headers.insert(name, rule);
            }
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Compares in constant time, so that the duration does not reveal a matching prefix.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard { address: "127.0.0.1:4000".parse().unwrap(), token: "abc".into(), nonce: "n".into() }
    }

    fn admitted(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<String, u16> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        guard().admit(&request).map(str::to_owned).map_err(|status| status.as_u16())
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:4000");

    #[test]
    fn only_the_token_opens_the_page() {
        assert_eq!(admitted("GET", "/abc/", &[HOST]), Ok(String::new()));
        assert_eq!(admitted("GET", "/abc/api/sandboxes", &[HOST]), Ok("api/sandboxes".into()));
        for path in ["/", "/abd/", "/abc", "/ab/", "//abc/"] {
            assert_eq!(admitted("GET", path, &[HOST]), Err(404), "{path}");
        }
    }

    #[test]
    fn a_name_of_another_site_that_leads_here_is_not_answered() {
        for host in ["evil.example:4000", "127.0.0.1:4001", "127.0.0.1"] {
            assert_eq!(admitted("GET", "/abc/", &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(admitted("GET", "/abc/", &[]), Err(421));
    }

    #[test]
    fn another_site_can_change_nothing() {
        let ours = ("x-sandbox", "1");
        assert_eq!(admitted("POST", "/abc/api/down", &[HOST]), Err(403));
        assert_eq!(admitted("POST", "/abc/api/down", &[HOST, ours]), Ok("api/down".into()));
        assert_eq!(
            admitted("POST", "/abc/api/down", &[HOST, ours, ("origin", "http://evil.example")]),
            Err(403)
        );
        assert_eq!(admitted("POST", "/abc/api/down", &[HOST, ours, ("origin", "null")]), Err(403));
        assert_eq!(
            admitted("POST", "/abc/api/down", &[HOST, ours, ("origin", "http://127.0.0.1:4000")]),
            Ok("api/down".into())
        );
    }
}
