//! Runs over a matrix.

use super::{SPEC, file, text, world};
use crate::junit;
use crate::support::World;

#[test]
fn a_matrix_of_two_with_one_failure_reports_both_and_exits_with_the_worst() {
    let world = world();
    let command = r#"echo "with $PG at $WEB_PORT"; test "$PG" = 15 || exit 3"#;
    let mut arguments =
        vec!["run", "--matrix", "PG=15,16", "--junit", "junit.xml", "--summary", "summary.md"];
    arguments.extend(["--artifacts", "out", "--", "sh", "-c", command]);

    let outcome = world.sandbox(arguments).exits(3);

    let outcome = outcome.prints("PG=15 | with 15 at ").prints("PG=16 | with 16 at ");
    let rows: Vec<_> = outcome.stderr.lines().skip_while(|line| !line.starts_with("ENTRY")).collect();
    assert!(rows[1].starts_with("PG=15") && rows[1].contains("passed"), "{outcome}");
    assert!(rows[2].starts_with("PG=16") && rows[2].contains("failed (3)"), "{outcome}");
    let suites = junit::read(&file(&world, "junit.xml"));
    let names: Vec<_> = suites.iter().map(|suite| suite.attributes["name"].as_str()).collect();
    assert_eq!(names, ["PG=15", "PG=16"]);
    assert_eq!((suites[0].count("failures"), suites[1].count("failures")), (0, 1));
    assert_eq!(suites[1].properties["PG"], "16");
    assert_ne!(suites[0].properties["sandbox"], suites[1].properties["sandbox"]);
    assert!(suites[1].cases.last().unwrap().stdout.starts_with("with 16 at "));
    let summary = text(&world, "summary.md");
    assert!(summary.starts_with("### ❌ sandbox run: 1 of 2 passed"), "{summary}");
    assert!(
        summary.contains("| ✅ | PG=15 | passed |") && summary.contains("| ❌ | PG=16 | failed (3) |"),
        "{summary}"
    );
    assert_eq!(text(&world, "out/PG-15/web/report.txt"), "report of 15\n");
    assert_eq!(text(&world, "out/PG-16/web/report.txt"), "report of 16\n");
    world.engine().is_clean();
}

#[test]
fn entries_run_side_by_side() {
    let world = world();
    // Each waits until the other is there.
    let command = "touch here-$A; for i in $(seq 600); do test -e here-1 -a -e here-2 && exit 0; sleep 0.1; done; exit 1";

    world.sandbox(["run", "--matrix", "A=1,2", "--parallel", "2", "--", "sh", "-c", command]).success();

    world.engine().is_clean();
}

#[test]
fn one_at_a_time_is_one_after_the_other() {
    let world = world();
    let command = "mkdir lock && sleep 0.5 && rmdir lock";

    world.sandbox(["run", "--matrix", "A=1,2", "--parallel", "1", "--", "sh", "-c", command]).success();
}

#[test]
fn several_variables_make_all_combinations_also_in_a_service() {
    let world = world();

    let outcome = world
        .sandbox([
            "run",
            "--matrix",
            "A=1,2",
            "--matrix",
            "B=x",
            "--in",
            "web",
            "--",
            "sh",
            "-c",
            "echo $A and $B",
        ])
        .success();

    outcome.prints("A=1 B=x | 1 and x\n").prints("A=2 B=x | 2 and x\n");
    world.engine().is_clean();
}

#[test]
fn with_json_the_records_are_on_stdout() {
    let world = world();

    let outcome =
        world.sandbox(["run", "--json", "--matrix", "A=1,2", "--", "sh", "-c", "echo hi $A; exit $A"]);

    let records = outcome.exits(2).json();
    assert_eq!(records[0]["variables"][0]["value"], "1");
    assert_eq!(records[1]["end"]["code"], 2);
}

#[test]
fn a_spec_that_is_wrong_for_one_entry_fails_before_any_is_started() {
    let world = World::with_spec(&SPEC.replace("ports: [\"80\"]", "ports: [\"${PORT}\"]"));

    world.sandbox(["run", "--matrix", "PORT=80,none", "--", "touch", "ran"]).exits(2);

    assert!(!file(&world, "ran").exists());
    world.engine().is_clean();
}

#[test]
fn what_is_no_matrix_is_wrong_usage() {
    let world = world();
    world.sandbox(["run", "--matrix", "PG", "--", "true"]).exits(2).says("such as NODE=20,22");
    world.sandbox(["run", "--matrix", "A=1", "--matrix", "A=2", "--", "true"]).exits(2).says("`A` twice");
    world.sandbox(["-f", "-", "run", "--matrix", "A=1", "--", "true"]).exits(2).says("name a file with `-f`");
    world.sandbox(["run", "--attach", "x", "--matrix", "A=1", "--", "true"]).exits(2);
}

#[test]
fn an_entry_whose_process_is_killed_is_an_error_and_nothing_is_left() {
    let world = world();
    let command = "echo $A; test $A = 1 || kill -9 $PPID; sleep 0.2";

    let outcome = world
        .sandbox(["run", "--matrix", "A=1,2", "--junit", "junit.xml", "--", "sh", "-c", command])
        .exits(137);

    outcome.says("killed");
    let suites = junit::read(&file(&world, "junit.xml"));
    assert_eq!((suites[0].count("errors"), suites[1].count("errors")), (0, 1), "{suites:#?}");
    assert!(suites[1].cases.last().unwrap().message().contains("killed"));
    world.engine().becomes_clean();
}
