//! What is left of a run that its runner stops: the artifacts and the reports, and nothing on the engine.

use std::time::Duration;

use super::{SPEC, file, text, world};
use crate::junit;
use crate::support::{World, eventually};

const A_WHILE: Duration = Duration::from_mins(1);

/// A service that does not end when it is asked to.
fn stubborn() -> String {
    let spec = SPEC.replace(
        "exec httpd -f -p 80 -h /out",
        "httpd -p 80 -h /out; trap '' TERM; while :; do sleep 1; done",
    );
    // Without a seed: the bake would wait for its end, too.
    let spec = spec.replace("    seed: [{ exec: [sh, -c, \"echo seeded > /data/word\"] }]\n", "");
    spec.replace("stop_signal: SIGKILL", "stop_grace_period: 120s")
}

const RUN: [&str; 9] =
    ["run", "--junit", "junit.xml", "--summary", "summary.md", "--artifacts", "out", "--", "sh"];

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..7], more, &["--", "sh", "-c", "echo started; exec sleep 300"]].concat()
}

#[test]
fn sigterm_leaves_artifacts_and_reports() {
    let world = world();
    let mut session = world.spawn(run(&[]));
    session.says("started");

    session.signal(libc::SIGTERM);

    session.wait(A_WHILE).exits(143);
    assert_eq!(text(&world, "out/web/report.txt"), "report of no version\n");
    let suites = junit::read(&file(&world, "junit.xml"));
    let command = suites[0].cases.last().unwrap();
    assert_eq!((command.status(), command.message()), ("error", "interrupted: terminated by a signal"));
    assert_eq!(command.stdout.trim(), "started");
    assert!(text(&world, "summary.md").starts_with("### ❌ sandbox run: stopped (143)"));
    world.engine().is_clean();
}

#[test]
fn sigkill_soon_after_sigterm_leaves_artifacts_and_reports_and_nothing_on_the_engine() {
    let world = World::with_spec(&stubborn());
    let mut session = world.spawn(run(&[]));
    session.says("started");

    session.signal(libc::SIGTERM);
    eventually("the artifact and the report are there", || {
        text(&world, "out/web/report.txt") == "report of no version\n"
            && text(&world, "junit.xml").contains("interrupted: terminated by a signal")
    });
    assert!(session.is_running(), "it did not wait for the service");
    session.kill();

    assert!(text(&world, "summary.md").contains("interrupted: terminated by a signal"));
    world.engine().becomes_clean();
}

/// GitHub's runner sends SIGINT, SIGTERM after 7.5 s and SIGKILL after 2.5 s more.
#[test]
fn sigterm_after_sigint_cuts_the_stop_short() {
    let world = World::with_spec(&stubborn());
    let mut session = world.spawn(run(&[]));
    session.says("started");

    session.signal(libc::SIGINT);
    eventually("the artifact is there", || file(&world, "out/web/report.txt").exists());
    session.signal(libc::SIGTERM);

    session.wait(Duration::from_secs(30)).exits(130);
    assert_eq!(junit::read(&file(&world, "junit.xml"))[0].count("errors"), 1);
    world.engine().becomes_clean();
}

#[test]
fn sigkill_leaves_a_report_of_what_ran() {
    let world = world();
    let mut session = world.spawn(run(&[]));
    session.says("started");

    session.kill();

    let suites = junit::read(&file(&world, "junit.xml"));
    assert_eq!(suites[0].case("readiness web").status(), "passed");
    let command = suites[0].cases.last().unwrap();
    assert_eq!(command.status(), "error");
    assert!(command.message().contains("killed before this ended"), "{command:#?}");
    world.engine().becomes_clean();
}

#[test]
fn sigterm_of_a_matrix_ends_all_its_entries() {
    let world = world();
    let mut session = world.spawn(run(&["--matrix", "A=1,2,3", "--parallel", "2"]));
    session.says("A=1 | started").says("A=2 | started");

    session.signal(libc::SIGTERM);

    session.wait(A_WHILE).exits(143).says("not run");
    let suites = junit::read(&file(&world, "junit.xml"));
    let ends: Vec<_> = suites.iter().map(|suite| suite.cases.last().unwrap().status()).collect();
    assert_eq!(ends, ["error", "error", "skipped"], "{suites:#?}");
    for entry in ["A-1", "A-2"] {
        assert_eq!(text(&world, &format!("out/{entry}/web/report.txt")), "report of no version\n");
    }
    world.engine().is_clean();
}

#[test]
fn a_matrix_that_is_killed_takes_its_entries_with_it() {
    let world = world();
    let mut session = world.spawn(run(&["--matrix", "A=1,2", "--parallel", "2"]));
    session.says("A=1 | started").says("A=2 | started");
    eventually("the report has both", || text(&world, "junit.xml").matches("killed before").count() == 2);

    session.kill();

    world.engine().becomes_clean();
    eventually("the artifacts are there", || file(&world, "out/A-2/web/report.txt").exists());
}
