//! The harness itself: what the other tests rely on when they say that nothing is left.

mod support;

use std::time::Duration;

use support::{BUSYBOX, World};

#[test]
fn a_world_removes_what_its_test_left_behind_even_after_a_panic() {
    let world = World::new();
    let (engine, scope) = (world.engine(), world.name().to_owned());
    let label = format!("--label=dev.sandbox.scope={scope}");
    let name = format!("sbx-{scope}.left");
    engine.docker(&["volume", "create", &label, &format!("sbx-{scope}.data")]).success();
    engine
        .docker(&["network", "create", &label, "--subnet", "10.215.255.0/29", &format!("sbx-{scope}.net")])
        .success();
    let mount = format!("sbx-{scope}.data:/data");
    let run = ["run", "-d", &label, "--name", &name, "-v", &mount, BUSYBOX, "sleep", "1000"];
    engine.docker(&run).success();
    assert_eq!(engine.remains().len(), 3);

    let failing = std::thread::spawn(move || panic!("the test of {} fails", world.name()));
    assert!(failing.join().is_err());

    engine.is_clean();
}

#[test]
fn a_terminal_carries_ctrl_c_to_what_runs_on_it() {
    let world = World::new();
    let mut terminal =
        world.on_terminal("sh", &["-c", "trap 'echo caught; exit 130' INT; echo ready; read line"]);

    terminal.shows("ready").ctrl_c().shows("caught");

    assert_eq!(terminal.wait(Duration::from_secs(10)).code, Some(130));
}

#[test]
fn a_command_that_does_not_end_fails_its_test() {
    let hung = std::panic::catch_unwind(|| {
        let world = World::new();
        world.host("sleep", &["1000"]).limit(Duration::from_millis(200)).run();
    });

    assert!(hung.is_err());
}
