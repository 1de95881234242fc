//! The files of a release: `fixtures/release/package` makes them, its `install.sh` installs and removes them, and
//! installs nothing that the project did not sign.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Serves the files of a folder by their last path component, as a release's downloads, for as long as the test runs.
fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/releases", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &folder);
        }
    });
    url
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::from("x");
    while !header.trim().is_empty() {
        header.clear();
        reader.read_line(&mut header)?;
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    match fs::read(folder.join(file)) {
        Ok(bytes) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            )?;
            stream.write_all(&bytes)
        }
        Err(_) => {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
    }
}

fn run(script: &str, arguments: &[&OsStr]) {
    let made = Command::new(script)
        .args(arguments)
        // A cargo-deb that happens to be here is not part of this test.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
}

/// The files of a release of the program under test, made once.
fn release() -> &'static Path {
    static RELEASE: OnceLock<TempDir> = OnceLock::new();
    let made = RELEASE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("sandbox-stripped");
        let stripped = Command::new("strip")
            .args(["-o".as_ref(), binary.as_os_str(), env!("CARGO_BIN_EXE_sandbox").as_ref()])
            .status()
            .unwrap();
        assert!(stripped.success());
        let dist = folder.path().join("dist");
        let binary = ["--binary".as_ref(), binary.as_os_str()];
        run("fixtures/release/package", &[binary[0], binary[1], "--out".as_ref(), dist.as_os_str()]);
        let url = ["--url".as_ref(), "http://127.0.0.1:9/releases".as_ref()];
        run("fixtures/release/sign", &[url[0], url[1], "--out".as_ref(), dist.as_os_str()]);
        folder
    });
    made.path()
}

/// A copy of the release that a test may change, and a home to install it into.
struct Installation {
    folder: TempDir,
    url: String,
}

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dist = folder.path().join("dist");
        fs::create_dir(&dist).unwrap();
        for file in fs::read_dir(release().join("dist")).unwrap().flatten() {
            fs::copy(file.path(), dist.join(file.file_name())).unwrap();
        }
        fs::create_dir(folder.path().join("home")).unwrap();
        let url = serve(&dist);
        Self { folder, url }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn file(&self, ending: &str) -> PathBuf {
        let files = fs::read_dir(self.folder.path().join("dist")).unwrap().flatten();
        files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
    }

    fn install(&self, arguments: &[&str]) -> Output {
        Command::new("sh")
            .arg(self.file("install.sh"))
            .args(arguments)
            .env("HOME", self.home())
            .env("SANDBOX_RELEASES", &self.url)
            .output()
            .unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.home()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
            }
        }
        files
    }

    fn is_refused(&self, reason: &str) {
        let refused = self.install(&[]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains(reason), "{said}");
        assert_eq!(self.files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn install_puts_it_in_place_and_uninstall_leaves_nothing() {
    let machine = Installation::new();

    let installed = machine.install(&[]);

    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let binary = machine.home().join(".local/bin/sandbox");
    let version = Command::new(&binary).args(["version", "--short"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), env!("CARGO_PKG_VERSION"));
    let page = fs::read_to_string(machine.home().join(".local/share/man/man1/sandbox-up.1")).unwrap();
    assert!(page.contains(".SH SYNOPSIS"));
    assert!(machine.home().join(".local/share/bash-completion/completions/sandbox").exists());

    // An update is an installation over the old one.
    assert!(machine.install(&["--version", env!("CARGO_PKG_VERSION")]).status.success());
    let removed = machine.install(&["--uninstall"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(machine.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_changed_archive_is_refused() {
    let machine = Installation::new();
    let archive = machine.file(".tar.gz");
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();

    machine.is_refused("the checksum of");
}

#[test]
fn checksums_that_the_project_did_not_sign_are_refused() {
    let machine = Installation::new();
    let sums = machine.file("SHA256SUMS");
    let changed = fs::read_to_string(&sums).unwrap().replacen('a', "b", 1);
    fs::write(&sums, changed).unwrap();

    machine.is_refused("the signature of SHA256SUMS is not the project's");
}

#[test]
fn a_download_that_fails_or_was_cut_installs_nothing() {
    let machine = Installation::new();
    fs::remove_file(machine.file("SHA256SUMS.sig")).unwrap();
    machine.is_refused("cannot download");

    let script = fs::read_to_string(machine.file("install.sh")).unwrap();
    fs::write(machine.file("install.sh"), &script[..script.len() - 20]).unwrap();
    machine.install(&[]);
    assert_eq!(machine.files(), Vec::<PathBuf>::new());
}
