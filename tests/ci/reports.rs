//! What a single run reports.

use super::{SPEC, file, text, world};
use crate::junit;
use crate::support::World;

const REPORTS: [&str; 5] = ["run", "--junit", "reports/junit.xml", "--summary", "summary.md"];

fn run<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [&REPORTS[..], &["--"], command].concat()
}

#[test]
fn a_run_reports_its_seeds_its_services_and_its_command() {
    let world = world();

    let outcome =
        world.sandbox(run(&["sh", "-c", "echo to stdout; echo '<to> stderr & more' >&2"])).success();

    assert_eq!(outcome.stdout, "to stdout\n");
    outcome.says("<to> stderr & more");
    let suites = junit::read(&file(&world, "reports/junit.xml"));
    let [suite] = &suites[..] else { panic!("{suites:#?}") };
    assert_eq!((suite.count("failures"), suite.count("errors")), (0, 0));
    assert!(suite.properties["sandbox"].ends_with("-run-1"), "{suite:#?}");
    let classes: Vec<_> = suite.cases.iter().map(|case| case.class.rsplit('.').next().unwrap()).collect();
    assert_eq!(classes, ["baseline", "readiness", "seed", "command"], "{suite:#?}");
    let command = suite.cases.last().unwrap();
    assert_eq!((command.status(), command.stdout.trim()), ("passed", "to stdout"));
    assert_eq!(command.stderr.trim(), "<to> stderr & more");
    assert!(suite.case("readiness web").seconds.is_some());
    let summary = text(&world, "summary.md");
    assert!(summary.starts_with("### ✅ sandbox run: passed"), "{summary}");
    assert!(summary.contains("| ✅ | readiness web |"), "{summary}");
    world.engine().is_clean();
}

#[test]
fn a_command_that_fails_is_a_failure_with_its_output_and_the_services_last_lines() {
    let fails = "httpd -p 80 -h /out; until test -e /flag/stop; do sleep 0.1; done
        echo 'FATAL: no space' >&2; touch /flag/stopped; exit 7";
    let spec = SPEC.replace("exec httpd -f -p 80 -h /out", fails);
    let world = World::with_spec(&spec.replace("\"data:/data\"", "\"data:/data\", \"./flag:/flag\""));
    world.file("flag/here", "");
    let command = "echo before; touch flag/stop; until test -e flag/stopped; do sleep 0.05; done; kill -9 $$";

    let outcome = world.sandbox(run(&["sh", "-c", command])).exits(137);

    outcome.says("FATAL: no space");
    let suites = junit::read(&file(&world, "reports/junit.xml"));
    let command = suites[0].cases.last().unwrap();
    assert_eq!(
        (command.status(), command.message()),
        ("failure", "exited with 137 (SIGKILL: killed, or out of memory)")
    );
    assert_eq!(command.stdout.trim(), "before");
    let service = suites[0].case("service web");
    assert_eq!((service.status(), service.message()), ("failure", "exited with 7"));
    assert!(service.stdout.contains("FATAL: no space"), "{service:#?}");
    let summary = text(&world, "summary.md");
    assert!(summary.contains("exited with 137") && summary.contains("FATAL: no space"), "{summary}");
    world.engine().is_clean();
}

#[test]
fn a_service_that_does_not_get_ready_is_a_failure_and_the_command_is_skipped() {
    let world = World::with_spec(&SPEC.replace("ready: { tcp: 80 }", "ready: { tcp: 82 }"));
    let mut arguments = run(&["true"]);
    arguments.splice(1..1, ["--wait-timeout", "2"]);

    world.sandbox(arguments).exits(125);

    let suites = junit::read(&file(&world, "reports/junit.xml"));
    let service = suites[0].case("readiness web");
    assert_eq!(service.status(), "failure");
    assert!(service.message().contains("was not ready after 2."), "{service:#?}");
    assert!(service.stdout.contains("the service says hello"), "{service:#?}");
    assert_eq!(suites[0].case("`true`").status(), "skipped");
    world.engine().is_clean();
}

#[test]
fn a_seed_that_fails_is_a_failure_with_its_output() {
    let world = World::with_spec(&SPEC.replace("echo seeded > /data/word", "echo no such table >&2; exit 4"));

    world.sandbox(run(&["true"])).exits(125);

    let suites = junit::read(&file(&world, "reports/junit.xml"));
    let seed = suites[0].cases.iter().find(|case| case.name.starts_with("seed web")).unwrap();
    assert_eq!(seed.status(), "failure");
    assert!(seed.stdout.contains("no such table"), "{seed:#?}");
    assert_eq!(suites[0].case("`true`").status(), "skipped");
}

#[test]
fn a_command_in_a_service_is_reported_too() {
    let world = world();
    let mut arguments = run(&["sh", "-c", "cat /data/word; exit 3"]);
    arguments.splice(1..1, ["--in", "web"]);

    assert_eq!(world.sandbox(arguments).exits(3).stdout, "seeded\n");

    let suites = junit::read(&file(&world, "reports/junit.xml"));
    let command = suites[0].cases.last().unwrap();
    assert_eq!((command.status(), command.stdout.trim()), ("failure", "seeded"));
}

#[test]
fn artifacts_and_logs_go_to_the_named_directory() {
    let world = world();

    world.sandbox(["run", "--artifacts", "out/one", "--", "true"]).success();

    assert_eq!(text(&world, "out/one/web/report.txt"), "report of no version\n");
    assert!(text(&world, "out/one/web.log").contains("the service says hello"));
    assert!(!file(&world, "sandbox-artifacts").exists());
}

#[test]
fn a_spec_that_is_wrong_is_reported() {
    let world = World::with_spec("services: { web: { image: sbx-test/busybox, prots: [80] } }");

    world.sandbox(run(&["true"])).exits(2);

    let suites = junit::read(&file(&world, "reports/junit.xml"));
    assert_eq!(suites[0].count("failures"), 1, "{suites:#?}");
    assert!(text(&world, "summary.md").contains("prots"));
}

#[test]
fn a_report_that_cannot_be_written_fails_before_anything_is_built() {
    let world = world();
    world.file("taken", "");

    let arguments = ["run", "--junit", "taken/junit.xml", "--", "sh", "-c", "touch ran"];
    world.sandbox(arguments).exits(1).says("cannot write the report `taken/junit.xml`");

    assert!(!file(&world, "ran").exists());
    world.engine().is_clean();
}
