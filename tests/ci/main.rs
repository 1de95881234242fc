//! `run` in a CI job: its reports, its matrix, its log, and what it leaves when it is stopped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/junit.rs"]
mod junit;

mod action;
mod expressions;
mod gitlab;
mod guide;
mod log;
mod matrix;
mod reports;
mod schema;
mod stopped;

use std::path::PathBuf;

use support::World;

/// A seeded service that leaves an artifact and fails if its page `/fail` is asked for.
const SPEC: &str = r#"
lifetime: { grace: 2s }
services:
  web:
    image: sbx-test/busybox
    command:
      - sh
      - -c
      - |
        mkdir -p /out
        echo "report of ${PG:-no version}" > /out/report.txt
        echo "the service says hello"
        exec httpd -f -p 80 -h /out
    stop_signal: SIGKILL
    ports: ["80"]
    ready: { tcp: 80 }
    volumes: ["data:/data"]
    seed: [{ exec: [sh, -c, "echo seeded > /data/word"] }]
artifacts: [web:/out/report.txt]
volumes: { data: {} }
"#;

fn world() -> World {
    World::with_spec(SPEC)
}

/// A file of the project.
fn file(world: &World, path: &str) -> PathBuf {
    world.project().join(path)
}

/// The text of a file of the project; empty if it is missing.
fn text(world: &World, path: &str) -> String {
    std::fs::read_to_string(file(world, path)).unwrap_or_default()
}
