//! What `egress` tells of what was refused, and how a failure is explained by it.

mod support;

use support::{World, eventually};

const ASKING: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "sleep infinity"]
    stop_signal: SIGKILL
"#;

#[test]
fn what_was_refused_is_shown_with_the_line_that_would_let_it_out() {
    let world = World::with_spec(ASKING);
    world.up();
    assert!(world.sandbox(["egress"]).success().stderr.contains("no name was refused"));

    world.in_container("app", &["nslookup", "api.example.com"]);

    eventually("it is told", || {
        let told = world.sandbox(["egress"]).success().stdout;
        told.contains("app") && told.contains(r#"egress: ["api.example.com"]"#)
    });
    let told = world.sandbox(["egress", "--json"]).success().json();
    assert_eq!(told[0]["service"], "app");
    assert_eq!(told[0]["target"], "api.example.com");
}

#[test]
fn what_is_refused_is_told_as_it_happens() {
    let world = World::with_spec(ASKING);
    world.up();
    let mut following = world.spawn(["egress", "--follow"]);

    world.in_container("app", &["nslookup", "later.example.com"]);

    following.says("app asked for later.example.com (");
    following.says(r#"); to let it out: egress: ["later.example.com"]"#);
}

#[test]
fn a_refused_address_is_shown_with_its_port_and_the_line_that_would_let_it_out() {
    let world = World::with_spec(&format!("egress: ['198.19.0.1:4000']{ASKING}"));
    world.up();
    let mut following = world.spawn(["egress", "--follow"]);

    world.in_container("app", &["timeout", "2", "nc", "198.19.0.1", "25"]);
    world.in_container("app", &["timeout", "2", "nc", "198.19.0.2", "4000"]);

    following.says("app asked for 198.19.0.1:25 (");
    eventually("both are told", || {
        let told = world.sandbox(["egress"]).success().stdout;
        told.contains(r#"egress: ["198.19.0.1:25"]"#) && told.contains(r#"egress: ["198.19.0.2:4000"]"#)
    });
    let told = world.sandbox(["egress", "--json"]).success().json();
    assert_eq!((&told[0]["service"], &told[0]["target"]), (&"app".into(), &"198.19.0.1".into()), "{told}");
    assert_eq!(told[0]["port"], 25, "{told}");
}

#[test]
fn a_service_that_fails_after_a_refusal_is_explained_by_it() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "until nslookup licence.example.com | grep NXDOMAIN; do sleep 0.1; done; exit 3"]
    ready: { tcp: 80 }
"#,
    );

    let failed = world.sandbox(["up", "-d"]).exits(1);

    assert!(failed.stderr.contains("service `app` exited with code 3"), "{failed}");
    assert!(failed.stderr.contains("`licence.example.com`"), "{failed}");
    assert!(failed.stderr.contains(r#"`egress: ["licence.example.com"]` lets it out"#), "{failed}");
}

#[test]
fn a_service_that_is_never_ready_after_a_refusal_is_explained_by_it() {
    let world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "while :; do nslookup db.example.com; sleep 1; done"]
    stop_signal: SIGKILL
    ready: { tcp: 5432 }
"#,
    );

    let failed = world.sandbox(["up", "-d", "--wait-timeout", "4"]).exits(1);

    assert!(failed.stderr.contains("connection refused"), "{failed}");
    assert!(failed.stderr.contains(r#"`egress: ["db.example.com"]` lets it out"#), "{failed}");
}
