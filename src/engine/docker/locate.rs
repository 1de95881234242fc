//! Finds the engine's address: from `DOCKER_HOST`, the Docker context, or the default sockets.
//!
//! The order is the Docker CLI's: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the configuration's `currentContext`. An
//! address that the user gave is the only one that is tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};

use super::candidates::default_sockets;
use super::dial::{Dial, Ssh, Tls};
use crate::engine::{EngineError, ErrorKind, Location, ObjectKind, Result};

/// The settings that select an engine, most of them environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`, by default `~/.docker`.
    pub config: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set and not empty.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`, by default the configuration's folder.
    pub certificates: Option<PathBuf>,
    /// Sockets to try if no other setting selects an engine, in order of preference.
    pub sockets: Vec<PathBuf>,
    /// Whether `DOCKER_BUILDKIT` is `0`, which selects the classic builder.
    pub classic_builder: bool,
    /// How long the engine's first answer may take; `None`: as long as a log-in by `ssh` may take.
    pub patience: Option<Duration>,
}

/// What a request selects.
pub(super) enum Selection {
    /// An address that the user gave.
    Given(Location, Dial),
    /// The first of these sockets behind which an engine answers.
    FirstThatAnswers(Vec<PathBuf>),
}

impl ConnectRequest {
    /// Reads the settings from this process's environment.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = std::env::home_dir();
        let config =
            variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home.clone()?.join(".docker")));
        Self {
            host: variable("DOCKER_HOST"),
            context: variable("DOCKER_CONTEXT"),
            config,
            tls: variable("DOCKER_TLS_VERIFY").is_some(),
            certificates: variable("DOCKER_CERT_PATH").map(PathBuf::from),
            sockets: default_sockets(home.as_deref(), variable("XDG_RUNTIME_DIR").as_deref()),
            classic_builder: variable("DOCKER_BUILDKIT").as_deref() == Some("0"),
            patience: None,
        }
    }

    /// Selects the engine behind a local socket, with the other settings of this process's environment.
    pub fn at_socket(path: &str) -> Self {
        Self { host: Some(format!("unix://{path}")), ..Self::from_env() }
    }

    pub(super) fn select(&self) -> Result<Selection> {
        let (location, dial) = if let Some(host) = &self.host {
            let certificates =
                self.tls.then(|| self.certificates.clone().or_else(|| self.config.clone())).flatten();
            self.reach(host, certificates.as_deref())?
        } else {
            match self.current_context().as_deref() {
                None => return Ok(Selection::FirstThatAnswers(self.sockets.clone())),
                Some("default") => self.default_socket()?,
                Some(name) => {
                    let context = self.read_context(name)?;
                    self.reach(&context.host, context.certificates.as_deref())?
                }
            }
        };
        Ok(Selection::Given(location, dial))
    }

    fn current_context(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Config {
            #[serde(rename = "currentContext", default)]
            current_context: String,
        }
        if self.context.is_some() {
            return self.context.clone();
        }
        let text = fs::read(self.config.as_ref()?.join("config.json")).ok()?;
        let config: Config = serde_json::from_slice(&text).ok()?;
        Some(config.current_context).filter(|name| !name.is_empty())
    }

    fn read_context(&self, name: &str) -> Result<Context> {
        let refuse = |why: String| refusal(format!("the context `{name}`"), why);
        let store = self.config.clone().unwrap_or_default().join("contexts");
        let digest = hex::encode(Sha256::digest(name.as_bytes()));
        let file = store.join("meta").join(&digest).join("meta.json");
        let text = fs::read(&file).map_err(|error| refuse(format!("{}: {error}", file.display())))?;
        let meta: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let endpoint = &meta["Endpoints"]["docker"];
        if endpoint["SkipTLSVerify"].as_bool() == Some(true) {
            return Err(refuse("it skips the check of certificates, which is not supported".into()));
        }
        let host = endpoint["Host"].as_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse("it names no host".into()))?.to_owned();
        let tls = store.join("tls").join(&digest).join("docker");
        Ok(Context { host, certificates: tls.join("ca.pem").exists().then_some(tls) })
    }

    /// Docker's own socket, which the context `default` means.
    fn default_socket(&self) -> Result<(Location, Dial)> {
        match self.sockets.first() {
            Some(path) => Ok((Location::Unix(path.clone()), Dial::Unix(path.clone()))),
            None => Err(refusal("an engine", "there is no socket to try".into())),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as a step of `resolve`")]
    fn reach(&self, host: &str, certificates: Option<&Path>) -> Result<(Location, Dial)> {
        let refuse = |why: &str| refusal(host, why.into());
        let (scheme, rest) = host
            .split_once("://")
            .ok_or_else(|| refuse("it has no scheme (`unix://`, `tcp://`, `ssh://`)"))?;
        match scheme {
            "unix" => {
                let path = PathBuf::from(rest);
                Ok((Location::Unix(path.clone()), Dial::Unix(path)))
            }
            "tcp" | "http" | "https" => {
                let secure = scheme == "https" || certificates.is_some();
                let address = with_port(rest.trim_end_matches('/'), if secure { 2376 } else { 2375 });
                let location = Location::Tcp(address.clone());
                if !secure {
                    return Ok((location, Dial::Tcp(address)));
                }
                let tls = tls(&address, certificates).map_err(|why| refuse(&why))?;
                Ok((location, Dial::Tls(Box::new(tls))))
            }
            "ssh" => {
                let ssh = parse_ssh(rest).ok_or_else(|| refuse("it is not `ssh://USER@HOST:PORT`"))?;
                Ok((Location::Ssh(rest.to_owned()), Dial::Ssh(ssh)))
            }
            _ => Err(refuse("its scheme is none of `unix`, `tcp`, `http`, `https`, `ssh`")),
        }
    }
}

struct Context {
    host: String,
    certificates: Option<PathBuf>,
}

fn refusal(name: impl Into<String>, why: String) -> EngineError {
    EngineError::new("connect to", ObjectKind::Engine, name, ErrorKind::Invalid, why)
}

fn with_port(address: &str, port: u16) -> String {
    let has_port = match address.rsplit_once(':') {
        Some((before, digits)) => {
            !digits.is_empty()
                && digits.bytes().all(|c| c.is_ascii_digit())
                && (!before.contains(':') || before.ends_with(']'))
        }
        None => false,
    };
    if has_port { address.to_owned() } else { format!("{address}:{port}") }
}

fn parse_ssh(rest: &str) -> Option<Ssh> {
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user.to_owned()).filter(|user| !user.is_empty()), address),
        None => (None, authority),
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (address, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    // A host or user that `ssh` would parse as an option is an injection attempt.
    if host.is_empty() || host.starts_with('-') || user.as_deref().is_some_and(|user| user.starts_with('-')) {
        return None;
    }
    let socket = Some(format!("/{path}")).filter(|path| path != "/");
    // It becomes an argument in a remote shell.
    if socket
        .as_deref()
        .is_some_and(|path| !path.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c)))
    {
        return None;
    }
    Some(Ssh { user, host, port, socket })
}

fn tls(address: &str, folder: Option<&Path>) -> std::result::Result<Tls, String> {
    let mut roots = rustls::RootCertStore::empty();
    let custom = folder.map(|folder| folder.join("ca.pem")).filter(|path| path.exists());
    let authorities = match &custom {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(authorities);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let own = folder.map(|folder| (folder.join("cert.pem"), folder.join("key.pem")));
    let config = match own.filter(|(cert, key)| cert.exists() && key.exists()) {
        Some((cert, key)) => {
            let key =
                PrivateKeyDer::from_pem_file(&key).map_err(|error| format!("{}: {error}", key.display()))?;
            builder.with_client_auth_cert(certificates(&cert)?, key).map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    Ok(Tls { address: address.to_owned(), name, config: Arc::new(config) })
}

fn certificates(path: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let say = |error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    CertificateDer::pem_file_iter(path).map_err(say)?.collect::<std::result::Result<_, _>>().map_err(say)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(request: &ConnectRequest) -> String {
        match request.select() {
            Ok(Selection::Given(location, _)) => location.to_string(),
            Ok(Selection::FirstThatAnswers(sockets)) => format!("one of {}", sockets.len()),
            Err(error) => format!("{error}: {}", error.cause),
        }
    }

    fn host(host: &str) -> ConnectRequest {
        ConnectRequest { host: Some(host.into()), ..ConnectRequest::default() }
    }

    #[test]
    fn docker_host_decides_before_anything_else() {
        assert_eq!(located(&host("unix:///tmp/d.sock")), "unix:///tmp/d.sock");
        assert_eq!(located(&host("tcp://build:2377")), "tcp://build:2377");
        assert_eq!(located(&host("tcp://build")), "tcp://build:2375");
        assert_eq!(located(&host("ssh://me@far:2222")), "ssh://me@far:2222");
        assert!(located(&host("gopher://x")).contains("scheme"));
        assert!(located(&host("ssh://-oProxyCommand=x")).contains("cannot connect"));
    }

    #[test]
    fn a_context_is_read_from_the_configurations_store() {
        let folder = tempfile::tempdir().unwrap();
        let digest = hex::encode(Sha256::digest(b"far"));
        let meta = folder.path().join("contexts/meta").join(digest);
        fs::create_dir_all(&meta).unwrap();
        fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"ssh://me@far","SkipTLSVerify":false}}}"#,
        )
        .unwrap();
        fs::write(folder.path().join("config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let mut request = ConnectRequest {
            config: Some(folder.path().into()),
            sockets: vec!["/x.sock".into()],
            ..ConnectRequest::default()
        };
        assert_eq!(located(&request), "ssh://me@far");
        request.context = Some("default".into());
        assert_eq!(located(&request), "unix:///x.sock");
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        request.context = None;
        assert_eq!(located(&request), "one of 1");
        request.context = Some("gone".into());
        assert!(located(&request).contains("the context `gone`"));
    }

    #[test]
    fn ssh_is_told_nothing_but_names() {
        let ssh = parse_ssh("me@far:2222/run/d.sock").unwrap();
        assert_eq!(
            ssh.arguments()[7..],
            [
                "-l",
                "me",
                "-p",
                "2222",
                "--",
                "far",
                "docker",
                "--host=unix:///run/d.sock",
                "system",
                "dial-stdio"
            ]
        );
        assert!(parse_ssh("far/$(id)").is_none());
    }

    #[test]
    fn a_missing_port_is_the_usual_one() {
        assert_eq!(with_port("a", 1), "a:1");
        assert_eq!(with_port("a:2", 1), "a:2");
        assert_eq!(with_port("[::1]", 1), "[::1]:1");
        assert_eq!(with_port("[::1]:2", 1), "[::1]:2");
    }
}
