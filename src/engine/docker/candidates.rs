//! Finds the engine if no setting selects one: products put their sockets in different places, and a socket file may be
//! left over from a product that is not running, or belong to another user.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dial::Dial;
use super::{FIRST_WORD, Reached};
use crate::engine::{EngineError, ErrorKind, Location, ObjectKind, Result};

/// How long each socket may take to answer, while there are others to try.
const EACH: Duration = Duration::from_secs(3);

/// The sockets of Docker, rootless Docker, Docker Desktop and similar products, and Podman, in order of preference.
pub(super) fn default_sockets(home: Option<&Path>, runtime: Option<&str>) -> Vec<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = runtime.map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock"), runtime.join("docker.sock")];
    let of_products = [
        ".docker/run/docker.sock",
        ".docker/desktop/docker.sock",
        ".colima/default/docker.sock",
        ".config/colima/default/docker.sock",
        ".colima/docker.sock",
        ".lima/docker/sock/docker.sock",
        ".lima/default/sock/docker.sock",
        ".rd/docker.sock",
        ".orbstack/run/docker.sock",
    ];
    sockets.extend(home.iter().flat_map(|home| of_products.iter().map(|path| home.join(path))));
    sockets.extend([runtime.join("podman/podman.sock"), PathBuf::from("/run/podman/podman.sock")]);
    let machine = ".local/share/containers/podman/machine/podman.sock";
    sockets.extend(home.map(|home| home.join(machine)));
    sockets
}

/// Connects to the first of these sockets behind which an engine answers.
pub(super) async fn first_that_answers(sockets: &[PathBuf]) -> Result<Reached> {
    // If none exists, the error names the most common one.
    let there: Vec<&PathBuf> = sockets.iter().filter(|path| path.exists()).collect();
    let there = if there.is_empty() { sockets.iter().take(1).collect() } else { there };
    if let [only] = there[..] {
        return reach(only, FIRST_WORD).await;
    }
    let mut failures = Vec::new();
    for path in &there {
        match reach(path, EACH).await {
            Ok(reached) => return Ok(reached),
            Err(error) => failures.push((*path, error)),
        }
    }
    // A busy engine may take longer than the time for each.
    for (path, failure) in &mut failures {
        if failure.kind == ErrorKind::Timeout {
            match reach(path, FIRST_WORD).await {
                Ok(reached) => return Ok(reached),
                Err(error) => *failure = error,
            }
        }
    }
    Err(none(&failures))
}

async fn reach(path: &Path, patience: Duration) -> Result<Reached> {
    Reached::at(Location::Unix(path.to_owned()), Dial::Unix(path.to_owned()), patience).await
}

/// The error for sockets that were all tried in vain.
fn none(failures: &[(&PathBuf, EngineError)]) -> EngineError {
    // A user who may not use Docker's own socket has to hear that, whatever the others are.
    let kind =
        failures.iter().map(|(_, error)| error.kind).min_by_key(|kind| *kind != ErrorKind::Unauthorized);
    let causes: Vec<String> =
        failures.iter().map(|(path, error)| format!("`{}`: {}", path.display(), error.cause)).collect();
    let cause = match failures {
        [] => "there is no socket to try".to_owned(),
        _ => format!("no engine answers at any socket ({})", causes.join("; ")),
    };
    EngineError::new("connect to", ObjectKind::Engine, "", kind.unwrap_or(ErrorKind::Invalid), cause)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::super::{ConnectRequest, Docker};
    use super::*;

    /// Answers every request on a socket with these bytes.
    fn serve(path: &Path, answer: &'static str) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }

    const ENGINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 43\r\nConnection: close\r\n\r\n\
                          {\"ApiVersion\":\"1.41\",\"Version\":\"20.10.24\" }";

    async fn found(sockets: Vec<PathBuf>) -> std::result::Result<String, EngineError> {
        let request = ConnectRequest { sockets, ..ConnectRequest::default() };
        let (location, _) = Docker::find(&request).await.map(|reached| (reached.location, reached.wire))?;
        Ok(location.to_string())
    }

    #[tokio::test]
    async fn dead_and_foreign_sockets_are_skipped_until_one_answers() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        drop(UnixListener::bind(at("dead")).unwrap());
        std::fs::write(at("file"), "").unwrap();
        serve(&at("web"), "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnone");
        serve(&at("other"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        serve(&at("mail"), "220 ready\r\n");
        serve(&at("engine"), ENGINE);
        let names = ["missing", "dead", "file", "web", "other", "mail", "engine"];
        let all: Vec<PathBuf> = names.map(at).into();
        assert_eq!(found(all.clone()).await.unwrap(), format!("unix://{}", at("engine").display()));

        let error = found(all[..6].to_vec()).await.unwrap_err();
        for name in ["dead", "file", "web", "other", "mail"] {
            assert!(error.cause.0.contains(&format!("`{}`", at(name).display())), "{name}: {}", error.cause);
        }
        assert!(!error.cause.0.contains("missing"), "{}", error.cause);
    }

    #[tokio::test]
    async fn a_silent_socket_only_costs_time() {
        let folder = tempfile::tempdir().unwrap();
        let (silent, engine) = (folder.path().join("silent"), folder.path().join("engine"));
        let _listener = UnixListener::bind(&silent).unwrap();
        serve(&engine, ENGINE);
        let begin = std::time::Instant::now();
        assert_eq!(
            found(vec![silent, engine.clone()]).await.unwrap(),
            format!("unix://{}", engine.display())
        );
        assert!(begin.elapsed() < FIRST_WORD / 2);
    }

    #[tokio::test]
    async fn a_host_or_a_context_is_never_replaced_by_another_socket() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, engine) = (folder.path().join("dead"), folder.path().join("engine"));
        drop(UnixListener::bind(&dead).unwrap());
        serve(&engine, ENGINE);
        let chosen = ConnectRequest {
            host: Some(format!("unix://{}", dead.display())),
            sockets: vec![engine.clone()],
            ..ConnectRequest::default()
        };
        let error = Docker::find(&chosen).await.err().unwrap();
        assert!(error.to_string().contains("dead"), "{error}");
        let default = ConnectRequest {
            context: Some("default".to_owned()),
            sockets: vec![dead, engine],
            ..ConnectRequest::default()
        };
        let error = Docker::find(&default).await.err().unwrap();
        assert!(error.to_string().contains("dead"), "{error}");
    }
}
