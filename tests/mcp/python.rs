//! The official Python SDK as the client, of both generations of the protocol.

use std::path::PathBuf;
use std::time::Duration;

use super::support::{World, python, repository};

/// The interpreter with an SDK of this generation; `None` where it cannot be had, which fails where everything must be
/// tested.
fn interpreter(generation: &str) -> Option<PathBuf> {
    python(&format!("fixtures/mcp/requirements-{generation}.txt"))
}

/// An ordinary Compose project.
fn project() -> World {
    let world = World::new();
    world.file("compose.yaml", include_str!("project/compose.yaml"));
    world.file("init/shop.sql", include_str!("project/shop.sql"));
    world
}

/// Lets an agent do its work, which ends in a kill of the server, and looks that nothing is left.
fn works(generation: &str) {
    let Some(python) = interpreter(generation) else { return };
    let world = project();
    let story = repository().join("tests/mcp/story.py");
    let program = env!("CARGO_BIN_EXE_sandbox");
    let home = world.home();
    let arguments = [story.to_str().unwrap(), program, home.to_str().unwrap(), world.name()];

    let outcome = world.host(python.to_str().unwrap(), &arguments).limit(Duration::from_mins(5)).run();

    outcome.success().prints("the agent is done");
    world.engine().becomes_clean();
    super::support::eventually("its snapshots are deleted", || world.engine().stored("snapshot").is_empty());
}

#[test]
fn an_agent_with_the_older_sdk_works_and_leaves_nothing_when_it_is_killed() {
    works("1");
}

#[test]
fn an_agent_with_the_newer_sdk_works_and_leaves_nothing_when_it_is_killed() {
    works("2");
}
