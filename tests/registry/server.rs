//! A registry on loopback.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{World, eventually};

const PASSWORD: &str = "pa?ss>word~";
/// The password as `htpasswd` writes it.
const HASH: &str = "$2y$04$LKTa67RdniDHYgkvqmsrOelPdYb.mS0kVnwH84V5sqNxkxdC0AMwS";

/// Who may come in, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// `me`, with [`PASSWORD`].
    Password,
    /// With a certificate of its own.
    Tls,
}

/// A registry that ends with the test.
pub struct RegistryServer {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl RegistryServer {
    pub fn start(door: Door) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut http = format!("addr: {address}");
        let mut text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n",
            path("data")
        );
        match door {
            Door::Open => {}
            Door::Password => {
                std::fs::write(path("users"), format!("me:{HASH}\n")).unwrap();
                text += &format!("auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n", path("users"));
            }
            Door::Tls => {
                certify(&path("key"), &path("certificate"));
                http += &format!(", tls: {{ certificate: {}, key: {} }}", path("certificate"), path("key"));
            }
        }
        text += &format!("http: {{ {http} }}\n");
        std::fs::write(path("config.yml"), text).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address, folder };
        eventually("the registry answers", || std::net::TcpStream::connect(&registry.address).is_ok());
        registry
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn certificate(&self) -> String {
        self.folder.path().join("certificate").display().to_string()
    }

    /// Writes the password into the Docker configuration of a world.
    pub fn log_in(&self, world: &mut World) {
        let auth = STANDARD.encode(format!("me:{PASSWORD}"));
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.address);
        let folder = world.home().join("docker");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config).unwrap();
        world.env("DOCKER_CONFIG", &folder.display().to_string());
    }
}

/// Makes a key and a certificate for 127.0.0.1.
fn certify(key: &str, certificate: &str) {
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        key,
        "-out",
        certificate,
    ];
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
