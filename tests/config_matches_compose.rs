//! What we read is what `docker compose` reads: for every fixture, `docker compose config --format json` and ours
//! are the same document, but for the differences listed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::spec::{HostAccess, LoadRequest, Refusals, load, to_compose_json};
use serde_json::Value as Json;

/// Where we differ on purpose: a fixture, a path in the document, and why.
const DIFFERENCES: [(&str, &str, &str); 5] = [
    ("profiles", "services.app.depends_on", "a dependency that is not active and need not be is dropped"),
    ("x-sandbox", "volumes.data.x-sandbox", "Compose's JSON leaves free keys of volumes out"),
    ("x-sandbox", "secrets.password", "a secret that is generated has no file"),
    ("x-sandbox", "x-sandbox", "our words are written out in full"),
    ("x-sandbox", "services.db.x-sandbox", "Compose's JSON leaves free keys of services out"),
];

fn peer(folder: &Path) -> Result<Json, String> {
    let output = Command::new("docker")
        .args(["compose", "config", "--format", "json"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", std::env::var_os("HOME").unwrap_or_default())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn ours(folder: &Path) -> Json {
    let env =
        ["PATH", "HOME"].iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let request = LoadRequest {
        folder: folder.to_owned(),
        env: env.collect::<BTreeMap<_, _>>(),
        allow_host_access: HostAccess::Allowed,
        refusals: Refusals::Warn,
        ..LoadRequest::default()
    };
    let loaded = load(&request).unwrap_or_else(|problems| panic!("{}:\n{problems}", folder.display()));
    to_compose_json(&loaded.spec)
}

/// Every path at which two documents differ.
fn differences(peer: &Json, ours: &Json, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (peer, ours) {
        (Json::Object(a), Json::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => differences(value, other, &below(key), found),
                    None => found.push(format!("{}: only Compose has {value}", below(key))),
                }
            }
            found.extend(
                b.iter()
                    .filter(|(key, _)| !a.contains_key(*key))
                    .map(|(key, value)| format!("{}: only we have {value}", below(key))),
            );
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (n, (one, other)) in a.iter().zip(b).enumerate() {
                differences(one, other, &format!("{path}[{n}]"), found);
            }
        }
        (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: Compose has {a}, we have {b}")),
    }
}

#[test]
fn our_config_is_that_of_compose() {
    let version = Command::new("docker").args(["compose", "version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: `docker compose` is not installed");
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specs/valid");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(fixtures).expect("fixtures").map(|entry| entry.expect("entry").path()).collect();
    folders.sort();
    let mut wrong = Vec::new();
    for folder in &folders {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let peer = match peer(folder) {
            Ok(peer) => peer,
            Err(error) => {
                wrong.push(format!("{name}: Compose refuses it: {error}"));
                continue;
            }
        };
        let mut found = Vec::new();
        differences(&peer, &ours(folder), "", &mut found);
        let meant = |line: &str| {
            DIFFERENCES.iter().any(|(fixture, path, _)| *fixture == name && line.starts_with(path))
        };
        wrong.extend(found.into_iter().filter(|line| !meant(line)).map(|line| format!("{name}: {line}")));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
