//! The log of a run, as CI services show it.

use super::{text, world};

#[test]
fn off_a_terminal_a_run_says_only_what_matters() {
    let world = world();

    let outcome = world.sandbox(["run", "--", "echo", "hello"]).success();

    assert_eq!(outcome.stdout, "hello\n");
    assert!(!outcome.stderr.contains("create") && !outcome.stderr.contains("ready after"), "{outcome}");
    outcome.says("is up after");
}

#[test]
fn github_folds_the_log_and_gets_the_summary_and_the_error() {
    let mut world = world();
    let summary = world.project().join("step-summary");
    world.file("step-summary", "# of an earlier command\n");
    world.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary.to_string_lossy());

    let outcome = world.sandbox(["run", "--", "sh", "-c", "echo hello; exit 5"]).exits(5);

    assert_eq!(outcome.stdout, "hello\n");
    let marks: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(marks.len(), 5, "{outcome}");
    assert!(marks[0].starts_with("::group::sandbox ") && marks[1] == "::endgroup::", "{outcome}");
    assert!(marks[2].starts_with("::group::removing ") && marks[3] == "::endgroup::", "{outcome}");
    assert!(marks[4].starts_with("::error title=") && marks[4].ends_with("::exited with 5"), "{outcome}");
    let summary = text(&world, "step-summary");
    assert!(summary.starts_with("# of an earlier command\n### ❌ sandbox run: failed (5)"), "{summary}");
}

#[test]
fn gitlab_gets_sections() {
    let mut world = world();
    world.env("GITLAB_CI", "true");

    let outcome = world.sandbox(["run", "--", "true"]).success();

    let count = |what: &str| outcome.stderr.matches(what).count();
    assert_eq!((count("section_start:"), count("section_end:")), (2, 2), "{outcome}");
}

#[test]
fn a_matrix_is_one_group_for_each_entry() {
    let mut world = world();
    world.env("GITHUB_ACTIONS", "true");

    let outcome =
        world.sandbox(["run", "--matrix", "A=1,2", "--", "sh", "-c", "echo hello $A; exit 0"]).success();

    let outcome = outcome.prints("A=1: started\n").prints("A=2: started\n");
    let lines: Vec<_> =
        outcome.stdout.lines().filter(|line| line.starts_with("::") || line.starts_with("hello")).collect();
    assert_eq!(lines.len(), 6, "{outcome}");
    for group in lines.chunks(3) {
        let entry = group[1].trim_start_matches("hello ");
        assert!(group[0].starts_with(&format!("::group::A={entry}: passed after ")), "{outcome}");
        assert_eq!(group[2], "::endgroup::", "{outcome}");
    }
}
