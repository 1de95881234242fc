//! Which engine is meant, and how it is reached: by `DOCKER_HOST`, a context, or TLS. The engine is this machine's, behind
//! a front that counts who comes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use support::{Outcome, World};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

const IDLE: &str = "
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }
";

/// The engine behind TLS on loopback, for those whose certificate its own authority has signed; gone with the value.
struct Front {
    certificates: PathBuf,
    port: u16,
    answered: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    fn open(world: &World) -> Self {
        let certificates = world.home().join("certificates");
        make_certificates(world, &certificates);
        let acceptor = TlsAcceptor::from(Arc::new(configuration(&certificates)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    // A client that is refused says so itself.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut engine = UnixStream::connect(socket()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut engine).await;
                });
            }
        });
        Self { certificates, port, answered, _runtime: runtime }
    }

    fn host(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Whether anybody was let in since the last time.
    fn was_used(&self) -> bool {
        self.answered.swap(0, Ordering::Relaxed) > 0
    }

    /// `sandbox ARGS…` through `DOCKER_HOST` and this front.
    fn sandbox(&self, world: &World, arguments: &[&str], certificates: &Path) -> Outcome {
        world
            .command(arguments.iter().copied())
            .env("DOCKER_HOST", &self.host())
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &certificates.display().to_string())
            .env("SANDBOX_ENGINE_SOCKET", &socket())
            .run()
    }
}

/// The engine's own socket.
fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

/// An authority, a server's certificate for loopback, and a client's, all for this test only.
fn make_certificates(world: &World, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let script = r#"
set -e
curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $curve -keyout ca-key.pem -out ca.pem -subj /CN=authority -days 2
sign() {
    openssl req $curve -keyout "$2.pem" -out "$1.csr" -subj "/CN=$1"
    echo "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out "$4.pem" -days 2 -extfile "$1.ext"
}
sign server server-key subjectAltName=IP:127.0.0.1 server-cert
sign client key extendedKeyUsage=clientAuth cert
"#;
    let script = format!("cd '{}'\n{script}", folder.display());
    world.host("bash", &["-c", &script]).run().success();
}

fn configuration(folder: &Path) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = |name: &str| CertificateDer::from_pem_file(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server-key.pem")).unwrap();
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate("server-cert.pem")], key)
        .unwrap()
}

#[test]
fn a_sandbox_is_built_used_and_destroyed_on_an_engine_behind_tls() {
    let world = World::with_spec(IDLE);
    let front = Front::open(&world);
    let sandbox = |arguments: &[&str]| front.sandbox(&world, arguments, &front.certificates);

    sandbox(&["up", "-d"]).success();
    assert!(world.engine().runs(&world.container("app")));
    assert_eq!(sandbox(&["exec", "app", "echo", "hello"]).success().text(), "hello");
    sandbox(&["down"]).success();

    assert!(front.was_used());
    world.engine().is_clean();
}

#[test]
fn an_engine_whose_certificate_another_authority_has_signed_is_refused_and_the_cause_said() {
    let world = World::with_spec(IDLE);
    let front = Front::open(&world);
    let strange = world.home().join("strange");
    make_certificates(&world, &strange);

    let outcome = front.sandbox(&world, &["ls"], &strange).exits(3);

    assert!(outcome.stderr.contains("certificate"), "{outcome}");
    assert!(outcome.stderr.contains(&front.host()), "{outcome}");
}

#[test]
fn contexts_are_those_of_the_docker_command() {
    let world = World::new();
    let front = Front::open(&world);
    let config = world.home().join(".docker").display().to_string();
    let at = |name: &str| front.certificates.join(name).display().to_string();
    let endpoint =
        format!("host={},ca={},cert={},key={}", front.host(), at("ca.pem"), at("cert.pem"), at("key.pem"));
    world
        .host("docker", &["--config", &config, "context", "create", "far", "--docker", &endpoint])
        .run()
        .success();
    let ls = || world.command(["ls"]).without_env("DOCKER_HOST");

    ls().env("DOCKER_CONTEXT", "far").run().success();
    assert!(front.was_used(), "`DOCKER_CONTEXT` was not followed");

    ls().run().success();
    assert!(!front.was_used(), "the default socket was not used");

    let json = std::fs::read_to_string(format!("{config}/config.json")).unwrap_or_else(|_| "{}".to_owned());
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json["currentContext"] = "far".into();
    std::fs::write(format!("{config}/config.json"), json.to_string()).unwrap();
    ls().run().success();
    assert!(front.was_used(), "the configuration's current context was not followed");

    ls().env("DOCKER_CONTEXT", "default").run().success();
    assert!(!front.was_used(), "`DOCKER_CONTEXT` does not go before the configuration");

    let outcome = ls().env("DOCKER_HOST", "unix:///nowhere/docker.sock").run().exits(3);
    assert!(!front.was_used() && outcome.stderr.contains("/nowhere/docker.sock"), "{outcome}");
}
