//! Our own top-level keys for the people who use a sandbox: what it requires, which pages it opens, and the variables
//! that commands on this machine get.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{At, SecretName, ServiceName};

/// What the machine must have, checked before anything is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// Memory of the engine's machine, in bytes.
    pub memory: Option<u64>,
    /// Free disk space of the engine, in bytes.
    pub disk: Option<u64>,
    /// The engine's version.
    pub engine: Option<EngineVersion>,
    /// Programs on this machine's `PATH`.
    pub commands: Vec<String>,
}

/// A requirement on the engine's version, in Cargo's notation: `>=24`, `>=20.10, <29`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EngineVersion(semver::VersionReq);

impl EngineVersion {
    /// Whether a version that an engine reports, such as `20.10.24+dfsg1`, meets the requirement. A version without a
    /// number does not.
    pub fn is_met_by(&self, version: &str) -> bool {
        numbers(version).is_some_and(|version| self.0.matches(&version))
    }
}

/// The numbers of a version; Docker's may be fewer than three, and have leading zeros.
fn numbers(version: &str) -> Option<semver::Version> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let mut next = || parts.next().flatten().unwrap_or(0);
    Some(semver::Version::new(major, next(), next()))
}

impl FromStr for EngineVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A bare version means at least that one; Cargo's meaning, "compatible with", fits no engine.
        let bare = text.trim().starts_with(|c: char| c.is_ascii_digit());
        let text = if bare { format!(">={}", text.trim()) } else { text.to_owned() };
        semver::VersionReq::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for EngineVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<EngineVersion> for String {
    fn from(version: EngineVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page that `sandbox open` opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// `http` or `https`.
    pub scheme: String,
    /// A service, whose address takes its place, or a host.
    pub host: String,
    /// The port in the service, or of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path, query and fragment; begins with `/`, `?` or `#`, or is empty.
    #[serde(default)]
    pub rest: String,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

impl FromStr for Page {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, &'static str> {
        let (scheme, after) = url.split_once("://").ok_or("it is not a URL such as `https://web/`")?;
        if !matches!(scheme, "http" | "https") {
            return Err("it begins with neither `http://` nor `https://`");
        }
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| "its port is not a number from 1 to 65535")?))
            }
            _ => (authority, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-[]:".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err("its host is not a name or an address");
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it has spaces; write them as `%20`");
        }
        let (scheme, host, rest) = (scheme.to_owned(), host.to_owned(), rest.to_owned());
        Ok(Self { scheme, host, port, rest, at: At::default() })
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, rest, .. } = self;
        match port {
            Some(port) => write!(f, "{scheme}://{host}:{port}{rest}"),
            None => write!(f, "{scheme}://{host}{rest}"),
        }
    }
}

/// The value of a variable for commands on this machine, with placeholders for what only a running sandbox knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostVariable {
    /// Text and placeholders, in order.
    pub parts: Vec<HostValue>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// A part of a [`HostVariable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostValue {
    /// Text as it stands.
    Text(String),
    /// `${secret:NAME}`: the value of a secret.
    Secret(SecretName),
    /// `${host:SERVICE}`: the address that the service's ports are published at.
    Host(ServiceName),
    /// `${port:SERVICE:PORT}`: the host port that the service's port is published at.
    Port(ServiceName, u16),
}

/// Around a placeholder while a spec is read; characters for private use, which no spec has a use for.
pub(in crate::spec) const OPEN: char = '\u{e0f2}';
pub(in crate::spec) const CLOSE: char = '\u{e0f3}';

impl HostValue {
    /// Reads the inner part of `${…}`; `None` if it is no placeholder, but a variable.
    pub fn placeholder(inner: &str) -> Option<Self> {
        let (kind, name) = inner.split_once(':')?;
        match kind {
            "secret" => SecretName::new(name).ok().map(Self::Secret),
            "host" => ServiceName::new(name).ok().map(Self::Host),
            "port" => {
                let (service, port) = name.rsplit_once(':')?;
                Some(Self::Port(ServiceName::new(service).ok()?, port.parse().ok()?))
            }
            _ => None,
        }
    }
}

impl HostVariable {
    /// Reads a value after its interpolation, where placeholders stand between [`OPEN`] and [`CLOSE`], or are text if
    /// they were written with a doubled dollar sign: Compose would refuse a single one in a file that it reads, too.
    pub(in crate::spec) fn of_marked(text: &str, at: At) -> Self {
        let text = marked_escapes(text);
        let mut parts = Vec::new();
        let mut pieces = text.split(OPEN);
        let mut add = |text: &str| {
            if !text.is_empty() {
                parts.push(HostValue::Text(text.to_owned()));
            }
        };
        add(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (inner, rest) = piece.split_once(CLOSE).unwrap_or((piece, ""));
            match HostValue::placeholder(inner) {
                Some(placeholder) => parts.push(placeholder),
                None => parts.push(HostValue::Text(inner.to_owned())),
            }
            if !rest.is_empty() {
                parts.push(HostValue::Text(rest.to_owned()));
            }
        }
        Self { parts, at }
    }

    /// The text that [`HostVariable::of_marked`] reads.
    pub(in crate::spec) fn marked(&self) -> String {
        self.parts.iter().map(HostValue::marked).collect()
    }
}

fn marked_escapes(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}') {
            Some((inner, left)) if HostValue::placeholder(inner).is_some() => {
                out.extend([OPEN.to_string().as_str(), inner, CLOSE.to_string().as_str()]);
                rest = left;
            }
            _ => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out + rest
}

impl HostValue {
    fn marked(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Secret(name) => format!("{OPEN}secret:{name}{CLOSE}"),
            Self::Host(service) => format!("{OPEN}host:{service}{CLOSE}"),
            Self::Port(service, port) => format!("{OPEN}port:{service}:{port}{CLOSE}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_s_version_is_compared_by_its_numbers() {
        let met = |wanted: &str, version: &str| wanted.parse::<EngineVersion>().unwrap().is_met_by(version);
        assert!(met(">=24", "26.1.5+dfsg1"));
        assert!(!met(">=24", "20.10.24+dfsg1"));
        assert!(met("20.10", "29.0.1-rc.2"), "a bare version is the least one");
        assert!(met(">=20.10, <29", "28.05"));
        assert!(!met(">=1", "unknown"));
        assert!("soon".parse::<EngineVersion>().is_err());
    }

    #[test]
    fn a_page_is_a_url_with_its_parts_apart() {
        let page = |url: &str| url.parse::<Page>();
        let web = page("https://my_web:8080/#/login?x=1").unwrap();
        assert_eq!((web.host.as_str(), web.port, web.rest.as_str()), ("my_web", Some(8080), "/#/login?x=1"));
        assert_eq!(web.to_string(), "https://my_web:8080/#/login?x=1");
        assert_eq!(page("http://[::1]/x").unwrap().host, "[::1]");
        for wrong in [
            "web",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://",
            "https://a@b/",
            "http://a:x/",
            "http://a/b c",
        ] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_the_same_after_it_was_marked() {
        let text =
            format!("postgres://app:{OPEN}secret:pw{CLOSE}@{OPEN}host:db{CLOSE}:{OPEN}port:db:5432{CLOSE}/x");
        let value = HostVariable::of_marked(&text, At::default());
        assert_eq!(value.parts.len(), 7);
        assert_eq!(value.parts[5], HostValue::Port("db".parse().unwrap(), 5432));
        assert_eq!(value.marked(), text);
    }
}
