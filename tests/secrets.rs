//! Secrets reach the services that ask for them, as they ask for them, and nothing else.
//!
//! Needs root, to read the engine's volumes.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::World;

const FROM_FILE: &str = "file-4c1d9e77b0a2";
const FROM_ENVIRONMENT: &str = "environment-9a3f5c0e18d4";

const SPEC: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [httpd, -f, -p, "80"]
    stop_signal: SIGKILL
    ports: ["80"]
    volumes: ["data:/data"]
    secrets:
      - { source: made, uid: "1000", gid: "1001", mode: 0400 }
      - { source: read, target: other-name }
      - { source: given, target: /etc/given }
  broken:
    image: sbx-test/busybox
    command: [sh, -c, "cat /run/secrets/read > /dev/null; nslookup leak.example.com; exit 3"]
    stop_signal: SIGKILL
    secrets: [read, given, made]
    ready: { tcp: 81 }
    profiles: [broken]
volumes: { data: {} }
secrets:
  made: { generate: 32 }
  read: { file: secret.txt }
  given: { environment: GIVEN }
"#;

fn world() -> World {
    let mut world = World::with_spec(SPEC);
    world.file("secret.txt", FROM_FILE);
    // Plain files, so that what is in them can be read.
    world.env("GIVEN", FROM_ENVIRONMENT).env("SANDBOX_STORAGE", "copy");
    world
}

fn read(world: &World, path: &str) -> String {
    world.in_container("app", &["cat", path]).success().stdout
}

/// Larger files are the pool and its reserve, which are set aside and have nothing in them where data is plain files.
const LARGE: u64 = 16 << 20;

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() && entry.metadata().is_ok_and(|about| about.len() < LARGE) => {
                found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
            }
            _ => {}
        }
    }
}

/// All that the engine shows and keeps of a world, by place.
fn on_the_engine(world: &World) -> Vec<(String, Vec<u8>)> {
    let engine = world.engine();
    let mut found = Vec::new();
    for object in engine.containers().into_iter().chain(engine.networks()).chain(engine.volumes()) {
        found.push((format!("inspect {object}"), engine.docker(&["inspect", &object]).stdout.into_bytes()));
    }
    for container in engine.containers() {
        let logs = engine.docker(&["logs", &container]);
        found.push((format!("logs {container}"), (logs.stdout + &logs.stderr).into_bytes()));
    }
    for volume in engine.volumes().into_iter().filter(|volume| !volume.ends_with(".secrets")) {
        let place = engine.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
        files(Path::new(place.text()), &mut found);
    }
    let scope = format!("label=dev.sandbox.scope={}", engine.scope());
    let events = ["events", "--since", "10m", "--until", "0s", "--format", "{{json .}}", "--filter", &scope];
    found.push(("the engine's events".to_owned(), engine.docker(&events).stdout.into_bytes()));
    found
}

/// What each verb that looks prints.
fn in_print(world: &World) -> Vec<(String, Vec<u8>)> {
    let verbs: [&[&str]; 14] = [
        &["up", "--dry-run"],
        &["config"],
        &["config", "--json"],
        &["ps", "--json"],
        &["ps"],
        &["ls", "--json"],
        &["logs"],
        &["graph"],
        &["timeline", "--json"],
        &["port", "app", "80", "--json"],
        &["egress", "--json"],
        &["env", "--json"],
        &["doctor", "--json"],
        &["artifacts", "--json"],
    ];
    let run = |verb: &&[&str]| {
        let said = world.sandbox(verb.iter().copied());
        (format!("sandbox {}", verb.join(" ")), (said.stdout + &said.stderr).into_bytes())
    };
    verbs.iter().map(run).collect()
}

/// Whether a place is the manifest of a sandbox's own data.
fn is_kept_with_data(place: &str) -> bool {
    place.contains("/store/live/") && place.ends_with("/manifest.json")
}

#[track_caller]
fn are_nowhere(secrets: &[&str], places: &[(String, Vec<u8>)]) {
    for (place, bytes) in places {
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret stands in {place}");
        }
    }
}

#[test]
fn a_secret_is_in_memory_with_the_owner_and_mode_that_were_asked_for() {
    let world = world();

    world.up();

    assert_eq!(read(&world, "/run/secrets/other-name"), FROM_FILE);
    assert_eq!(read(&world, "/etc/given"), FROM_ENVIRONMENT);
    assert_eq!(read(&world, "/run/secrets/made").len(), 32);
    let about = world.in_container("app", &["stat", "-c", "%u %g %a", "/run/secrets/made"]);
    assert_eq!(about.text(), "1000 1001 400");
    let mounts = read(&world, "/proc/mounts");
    let mount = mounts.lines().find(|line| line.contains(" /run/secrets ")).unwrap();
    assert!(mount.starts_with("tmpfs "), "{mount}");
}

#[test]
fn a_secret_stands_in_no_label_log_event_output_or_volume() {
    let world = world();
    let up = world.sandbox(["up", "-d", "--progress", "json"]).success();
    let made = read(&world, "/run/secrets/made");

    let mut places = in_print(&world);
    places.push(("up's own output".to_owned(), (up.stdout + &up.stderr).into_bytes()));
    places.extend(on_the_engine(&world));

    // What was generated belongs to the data and is kept beside it, for root alone: a reboot must not forget it.
    let (kept, places): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|(place, _)| is_kept_with_data(place));
    are_nowhere(&[FROM_FILE, FROM_ENVIRONMENT, &made], &places);
    are_nowhere(&[FROM_FILE, FROM_ENVIRONMENT], &kept);
    for (place, _) in kept {
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600, "{place}");
    }
}

#[test]
fn a_secret_stands_in_no_error_message() {
    let world = world();

    for how in ["plain", "json"] {
        let failed = world.sandbox(["--progress", how, "up", "--profile", "broken"]).exits(1);
        are_nowhere(
            &[FROM_FILE, FROM_ENVIRONMENT],
            &[("the error".to_owned(), (failed.stdout + &failed.stderr).into_bytes())],
        );
    }
    are_nowhere(&[FROM_FILE, FROM_ENVIRONMENT], &on_the_engine(&world));
}

#[test]
fn a_snapshot_and_its_file_have_no_secret_but_those_that_were_generated() {
    let world = world();
    world.up();
    world.sandbox(["snapshot", "create", "kept"]).success();

    let file = world.project().join("kept.sandbox.tar.zst");
    world.sandbox(["snapshot", "export", "kept", &file.display().to_string()]).success();

    let inspected = world.sandbox(["snapshot", "inspect", "kept", "--json"]).success();
    let mut places = on_the_engine(&world);
    places.push(("the snapshot file".to_owned(), zstd::decode_all(fs::File::open(&file).unwrap()).unwrap()));
    places.push(("snapshot inspect".to_owned(), inspected.stdout.into_bytes()));
    are_nowhere(&[FROM_FILE, FROM_ENVIRONMENT], &places);
}
