//! What becomes of data that is put back, kept and lent, and of the services that use it.

use std::fs;
use std::time::Duration;

use super::scene_on;
use super::stage::Stage;
use crate::engine::ErrorKind;
use crate::engine::recording::Fault;
use crate::pool::SetPath;
use crate::session::error::SessionError;
use crate::session::present::{Manner, Present, Target};

const PATIENCE: Duration = Duration::from_mins(1);

/// A database with seeds and two more volumes, a cache and a service without data.
const SHOP: &str = r#"
services:
  db:
    image: db:1
    volumes: ["data:/data", "logs:/logs"]
    secrets: [password]
    seed: [{ exec: [make, tables] }]
  cache:
    image: db:1
    volumes: ["cached:/data"]
  web:
    image: db:1
volumes: { data: {}, logs: {}, cached: {} }
secrets: { password: { generate: 12 } }
"#;

fn said(error: &SessionError) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

fn snapshot(name: &str) -> SetPath {
    SetPath::snapshot(name).unwrap()
}

async fn reset(present: &Present, what: &str, to: Option<&str>) -> Result<(), SessionError> {
    let target = match what {
        "" => Target::Everything,
        volume => Target::Volume(volume.to_owned()),
    };
    let to = to.map(snapshot);
    present.reset(&target, to.as_ref(), PATIENCE).await.map(drop)
}

async fn take(present: &Present, name: &str) -> Result<(), SessionError> {
    present.snapshot(&snapshot(name), Manner::Clean, None, PATIENCE).await.map(drop)
}

#[test]
fn a_fork_goes_back_to_what_the_sandbox_it_came_from_was_made_from() {
    scene_on(SHOP, |stage: Stage| async move {
        stage.up().await.unwrap();
        let shop = stage.present(None).await;
        let row = stage.file(&shop, "data", "row");
        fs::write(&row, "changed").unwrap();
        stage.fork(&shop, "second").await.unwrap();
        let second = stage.present(Some("second")).await;
        let row = stage.file(&second, "data", "row");
        assert_eq!(fs::read_to_string(&row).unwrap(), "changed");

        let of = |present: &Present, key: &str| {
            let mut volumes = present.sighting().volumes.iter();
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
        let shop = stage.present(None).await;
        let row = stage.file(&shop, "data", "row");
        fs::write(&row, "precious").unwrap();
        let error = reset(&shop, "", None).await.unwrap_err();
        assert!(said(&error).contains("`data`, `logs`"), "{}", said(&error));
        assert!(said(&error).contains("--to SNAPSHOT"), "{}", said(&error));
        assert_eq!(fs::read_to_string(&row).unwrap(), "precious");
        // What no seed has made was empty.
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
        let shop = stage.present(None).await;
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
        let shop = stage.present(None).await;
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
        let shop = stage.present(None).await;
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
            let shop = stage.present(None).await;
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
