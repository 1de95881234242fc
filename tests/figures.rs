//! Keeps the costs that the benchmark `compare` measures: calls to the engine, and `up` beside the same objects made by
//! bare calls, as a ratio within one run. Absolute times are not compared: they say more about the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../benches/compare/call_counter.rs"]
mod call_counter;
#[path = "../benches/compare/engine_api.rs"]
mod engine_api;
#[path = "../benches/compare/shop.rs"]
mod shop;
mod support;

use std::time::Duration;

use call_counter::CallCounter;
use engine_api::Floor;
use shop::{SeededData, shop};
use support::World;

const ONE: &str =
    "services:\n  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL }\n";

/// Calls of a client to the engine, beside a keeper that runs. More than these is a regression.
const CALLS: [(&[&str], usize); 4] = [
    (&["up", "-d", "--progress", "quiet"], 36),
    (&["up", "-d", "--progress", "quiet"], 21),
    (&["ls"], 11),
    (&["down"], 12),
];

/// A warm `up` of this build (not optimised) beside bare calls, and the noise that a busy machine with two processors adds.
const UP_RATIO: f64 = 1.45;
const NOISE: f64 = 1.5;
const ROUNDS: usize = 3;

#[test]
fn the_engine_is_called_no_more_often_than_before() {
    let world = World::with_spec(ONE);
    world.up();
    world.sandbox(["down"]).success();
    let folder = tempfile::tempdir().unwrap();
    let counter = CallCounter::new(folder.path());
    let counted = CALLS.map(|(arguments, most)| {
        let _ = counter.take();
        world.command(arguments).env("DOCKER_HOST", &counter.address()).run().success();
        (arguments, counter.take(), most)
    });
    let holds = counted.iter().all(|(_, calls, most)| (1..=*most).contains(calls));
    assert!(holds, "arguments, calls, calls before: {counted:#?}");
}

#[test]
fn a_warm_up_is_as_near_to_bare_calls_as_before() {
    let world = shop();
    world.up();
    let floor = Floor::new(world.name());
    let seeded = SeededData::of(&world);
    world.sandbox(["down"]).success();
    let (mut ours, mut bare) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(world.sandbox(["up", "-d"]).success().took);
        world.sandbox(["down"]).success();
        seeded.give_to(&floor);
        bare.push(floor.up());
        floor.down();
    }
    let least = |times: &[Duration]| times.iter().min().unwrap().as_secs_f64();
    let ratio = least(&ours) / least(&bare);
    assert!(ratio <= UP_RATIO * NOISE, "{ratio:.2} of bare calls, {UP_RATIO} before: {ours:?} / {bare:?}");
}
