//! Tests of reset, snapshot and fork: the data, and the services that use it.

use std::fs;
use std::time::Duration;

use super::scene_on;
use super::stage::Stage;
use crate::engine::recording::Fault;
use crate::engine::{ContainerState, Engine, ErrorKind};
use crate::session::error::SessionError;
use crate::session::existing::{ExistingSandbox, Retention, SnapshotMode, SnapshotRequest, Target};
use crate::storage::SetPath;

const PATIENCE: Duration = Duration::from_mins(1);

/// A database with seeds and two more volumes, a cache, and a service without data.
const SHOP: &str = r#"
services:
  db:
    image: db:1
    volumes: ["data:/data", "logs:/logs"]
    secrets: [password, key]
    configs: [colour]
    seed: [{ exec: [make, tables] }]
  cache:
    image: db:1
    volumes: ["cached:/data"]
  web:
    image: db:1
volumes: { data: {}, logs: {}, cached: {} }
secrets: { password: { generate: 12 }, key: { file: key.bin } }
configs: { colour: { environment: COLOUR } }
"#;

fn said(error: &SessionError) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

fn snapshot(name: &str) -> SetPath {
    SetPath::snapshot(name).unwrap()
}

async fn reset(existing: &ExistingSandbox, what: &str, to: Option<&str>) -> Result<(), SessionError> {
    let target = match what {
        "" => Target::Everything,
        volume => Target::Volume(volume.to_owned()),
    };
    let to = to.map(snapshot);
    existing.reset(&target, to.as_ref(), PATIENCE).await.map(drop)
}

fn request(mode: SnapshotMode) -> SnapshotRequest {
    SnapshotRequest::new(mode, Retention::UntilRemoved, PATIENCE)
}

async fn take(existing: &ExistingSandbox, name: &str) -> Result<(), SessionError> {
    existing.snapshot(&snapshot(name), request(SnapshotMode::Clean)).await.map(drop)
}

#[test]
fn a_fork_goes_back_to_what_the_sandbox_it_came_from_was_made_from() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        let row = stage.file(&shop, "data", "row");
        fs::write(&row, "changed").unwrap();
        stage.fork(&shop, "second").await.unwrap();
        let second = stage.existing(Some("second")).await;
        let row = stage.file(&second, "data", "row");
        assert_eq!(fs::read_to_string(&row).unwrap(), "changed");

        let of = |existing: &ExistingSandbox, key: &str| {
            let mut volumes = existing.observed().volumes.iter();
            let labels = &volumes.find(|volume| volume.name.ends_with(key)).unwrap().labels;
            labels.get("dev.sandbox.from").cloned()
        };
        assert!(of(&shop, ".data").is_some());
        assert_eq!(of(&second, ".data"), of(&shop, ".data"));
        reset(&second, "", None).await.unwrap();
        assert!(!row.exists());
    });
}

#[test]
fn what_seeds_made_without_a_record_is_not_emptied() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        stage.client.unlabel_volumes("dev.sandbox.from");
        let shop = stage.existing(None).await;
        let row = stage.file(&shop, "data", "row");
        fs::write(&row, "precious").unwrap();
        let error = reset(&shop, "", None).await.unwrap_err();
        assert!(said(&error).contains("`data`, `logs`"), "{}", said(&error));
        assert!(said(&error).contains("--to SNAPSHOT"), "{}", said(&error));
        assert_eq!(fs::read_to_string(&row).unwrap(), "precious");
        // A volume that no seed filled was empty.
        let cached = stage.file(&shop, "cached", "key");
        fs::write(&cached, "x").unwrap();
        reset(&shop, "cached", None).await.unwrap();
        assert!(!cached.exists());
    });
}

#[test]
fn a_snapshot_without_a_volume_is_no_reason_to_empty_it() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        let (row, key) = (stage.file(&shop, "data", "row"), stage.file(&shop, "cached", "key"));
        fs::write(&row, "one").unwrap();
        take(&shop, "whole").await.unwrap();
        let there = stage.snapshot_folder("whole");
        fs::rename(there.join("cached"), there.parent().unwrap().join("cached")).unwrap();
        fs::write(&row, "two").unwrap();
        fs::write(&key, "x").unwrap();

        let error = reset(&shop, "", Some("whole")).await.unwrap_err();
        assert!(error.to_string().contains("snapshot `whole` has no data of `cached`"), "{error}");
        assert!(said(&error).contains("it has `data`, `logs`"), "{}", said(&error));
        assert_eq!(fs::read_to_string(&row).unwrap(), "two");
        assert_eq!(fs::read_to_string(&key).unwrap(), "x");
        reset(&shop, "data", Some("whole")).await.unwrap();
        assert_eq!(fs::read_to_string(&row).unwrap(), "one");
        assert_eq!(fs::read_to_string(&key).unwrap(), "x");
    });
}

#[test]
fn data_that_belongs_to_another_password_is_refused() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        let row = stage.file(&shop, "data", "row");
        fs::write(&row, "one").unwrap();
        take(&shop, "before").await.unwrap();
        reset(&shop, "", Some("before")).await.unwrap();

        let manifest = stage.snapshot_folder("before").join("manifest.json");
        let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        kept["secrets"]["password"] = "another".into();
        fs::write(&manifest, kept.to_string()).unwrap();
        fs::write(&row, "two").unwrap();
        let error = reset(&shop, "data", Some("before")).await.unwrap_err();
        assert!(error.to_string().contains("secret `password`"), "{error}");
        assert!(said(&error).contains("sandbox up --from before"), "{}", said(&error));
        assert!(!said(&error).contains("another`"), "{}", said(&error));
        assert_eq!(fs::read_to_string(&row).unwrap(), "two");
        // The cache has no password.
        reset(&shop, "cached", Some("before")).await.unwrap();
    });
}

#[test]
fn who_keeps_other_data_has_its_time_to_stop() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        reset(&shop, "data", None).await.unwrap();
        assert_ne!(stage.client.patience_of_stop("sbx-shop.db"), Some(Duration::ZERO));
        reset(&shop, "cached", None).await.unwrap();
        assert_eq!(stage.client.patience_of_stop("sbx-shop.cache"), Some(Duration::ZERO));
        assert_eq!(stage.client.patience_of_stop("sbx-shop.web"), None);
        reset(&shop, "", None).await.unwrap();
        assert_eq!(stage.client.patience_of_stop("sbx-shop.db"), Some(Duration::ZERO));
    });
}

#[test]
fn wherever_a_reset_to_nothing_ends_the_data_is_as_before_or_put_back_and_no_more_is_there() {
    let play = |n: Option<usize>| {
        scene_on(SHOP, move |stage: Stage| async move {
            stage.up().await.unwrap();
            let before = stage.remains().await;
            let shop = stage.existing(None).await;
            let key = stage.file(&shop, "cached", "key");
            fs::write(&key, "x").unwrap();
            stage.client.forget_calls();
            if let Some(n) = n {
                stage.client.fail_at(n, Fault::Refuse(ErrorKind::Other));
            }
            let outcome = reset(&shop, "cached", None).await;
            let calls = stage.client.calls();
            if outcome.is_ok() {
                assert!(!key.exists());
            } else if let Some(n) = n {
                let replaced = calls[..n].iter().any(|call| call.starts_with("stop"));
                assert!(key.exists() || replaced, "at {n}, `{}`: {outcome:?}", calls[n - 1]);
            }
            reset(&shop, "cached", None).await.unwrap();
            assert!(!key.exists());
            assert_eq!(stage.remains().await, before, "at {n:?}");
            calls.len()
        })
    };
    for n in 1..=play(None) {
        play(Some(n));
    }
}

/// A file as the engine returns it.
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes).unwrap();
    archive.into_inner().unwrap()
}

/// The content of a file uploaded to a container.
fn put_into(stage: &Stage, container: &str, file: &str) -> Option<Vec<u8>> {
    let uploads = stage.client.uploads();
    let of = uploads.iter().rev().filter(|(into, ..)| into == container);
    of.into_iter().find_map(|(_, _, bytes)| {
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut files = archive.entries().unwrap().map(Result::unwrap);
        let mut found = files.find(|entry| entry.path().unwrap().ends_with(file))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut found, &mut bytes).unwrap();
        Some(bytes)
    })
}

#[test]
fn a_fork_has_the_secrets_as_they_are_held_or_else_as_they_were_given() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        let large: Vec<u8> = (0..(2 << 20)).map(|n: u32| n.to_le_bytes()[0] | 0x80).collect();
        stage.client.add_download("sbx-shop", "/secrets/db/key", archive("key", &large));
        stage.fork(&shop, "second").await.unwrap();
        assert!(put_into(&stage, "sbx-second", "key") == Some(large));
        assert_eq!(put_into(&stage, "sbx-second.db", "colour"), Some(b"blue".to_vec()));
        let password = put_into(&stage, "sbx-shop", "password").unwrap();
        assert_eq!(password.len(), 12);
        assert_eq!(put_into(&stage, "sbx-second", "password"), Some(password));
        // After a reboot no gateway holds it.
        let second = stage.existing(Some("second")).await;
        stage.fork(&second, "third").await.unwrap();
        assert_eq!(put_into(&stage, "sbx-third", "key"), Some(vec![0xff, 0]));
        fs::remove_file(stage.beside("key.bin")).unwrap();
        let error = stage.fork(&second, "fourth").await.unwrap_err();
        assert!(error.to_string().contains("`key`"), "{error}");
    });
}

#[test]
fn a_snapshot_does_not_ask_for_what_configs_are_made_of() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        fs::remove_file(stage.beside(".env")).unwrap();
        let shop = stage.existing(None).await;
        take(&shop, "one").await.unwrap();
        let error = stage.fork(&shop, "second").await.unwrap_err();
        assert!(said(&error).contains("`COLOUR` is not set"), "{}", said(&error));
    });
}

async fn state(stage: &Stage, container: &str) -> ContainerState {
    stage.client.container(container).await.unwrap().unwrap().state
}

#[test]
fn what_was_frozen_before_a_snapshot_stays_frozen() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.existing(None).await;
        stage.client.pause_container("sbx-shop.db").await.unwrap();
        shop.snapshot(&snapshot("one"), request(SnapshotMode::Crash)).await.unwrap();
        assert_eq!(state(&stage, "sbx-shop.db").await, ContainerState::Paused);
        assert_eq!(state(&stage, "sbx-shop.web").await, ContainerState::Running);
        // A container that the user pauses at the same moment is not ours to resume.
        stage.client.fail_when("pause container sbx-shop.cache", 1, Fault::Refuse(ErrorKind::Conflict));
        let error = shop.snapshot(&snapshot("two"), request(SnapshotMode::Crash)).await;
        assert!(error.is_err());
        assert_eq!(state(&stage, "sbx-shop.web").await, ContainerState::Running);
    });
}

#[test]
fn of_two_commands_on_the_data_of_one_sandbox_the_second_is_refused() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let (one, other) = (stage.existing(None).await, stage.existing(None).await);
        let row = stage.file(&one, "data", "row");
        fs::write(&row, "one").unwrap();
        // The first one is stopped in the middle, while every service is quiesced.
        stage.client.fail_when("start container sbx-shop.db", 1, Fault::Stall);
        let first = take(&one, "whole");
        tokio::pin!(first);
        let stalled = tokio::time::timeout(Duration::from_secs(5), &mut first).await;
        assert!(stalled.is_err());
        let manner = SnapshotMode::Crash;
        for refused in [
            reset(&other, "", None).await,
            take(&other, "second").await,
            other.snapshot(&snapshot("second"), request(manner)).await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains("another command is working on"), "{error}");
        }
        assert_eq!(fs::read_to_string(&row).unwrap(), "one");
    });
}
