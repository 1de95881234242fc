//! Files of the machine: what a service can have replaced by a link is never followed, read or written through, and
//! somebody else's spec runs nothing here.

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;

use support::{World, eventually};

/// A service that replaces what it mounts by a link to the whole machine, and ends.
const REPLACING: &str = r#"
services:
  thief:
    image: sbx-test/busybox
    command:
      - sh
      - -c
      - |
        echo life >> /src/lives
        ls /data > /src/seen
        [ -h /src/data ] || { mv /src/data /src/moved; ln -s / /src/data; }
        sleep "$${LIFE:-5}"
    environment: { LIFE: "${LIFE:-}" }
    restart: always
    volumes: [".:/src", "./data:/data"]
  watcher:
    image: sbx-test/busybox
    command: [sleep, infinity]
    stop_signal: SIGKILL
"#;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_bind_that_a_service_replaced_by_a_link_is_not_mounted_at_the_next_start() {
    let world = World::with_spec(REPLACING);
    world.file("data/mine", "").file("seen", "");

    world.up();

    let keeper = format!("sandbox-keeper-{}", world.name());
    eventually("the keeper refuses", || {
        let said = world.engine().docker(&["logs", &keeper]);
        (said.stdout + &said.stderr).contains("is a symbolic link")
    });
    assert_eq!(read(&world.project().join("seen")), "mine\n");
    assert_eq!(read(&world.project().join("lives")), "life\n");

    // Nor when the user asks for a start, nor when the sandbox is built anew.
    world.sandbox(["restart", "thief"]).exits(1).says("is a symbolic link").says("thief");
    world.sandbox(["down"]).success();
    world.sandbox(["up", "-d"]).exits(2).says("is a symbolic link");
    assert_eq!(read(&world.project().join("seen")), "mine\n");
}

#[test]
fn up_ends_when_a_service_may_not_start_again() {
    let world = World::with_spec(REPLACING);
    world.file("data/mine", "").file("seen", "");

    let failed = world.command(["up", "-d"]).env("LIFE", "0.1").run();

    failed.exits(1).says("is a symbolic link").says("thief");
    assert_eq!(read(&world.project().join("seen")), "mine\n");
    world.engine().becomes_clean();
}

#[test]
fn a_service_that_can_write_the_folder_does_not_choose_what_another_one_mounts() {
    let world = World::with_spec(
        r#"
services:
  thief:
    image: sbx-test/busybox
    command: [sh, -c, "mv /src/inner /src/moved; ln -s /etc /src/inner; sleep 1000"]
    stop_signal: SIGKILL
    ready: { exec: [test, -h, /src/inner] }
    volumes: [".:/src"]
  other:
    image: sbx-test/busybox
    command: [sh, -c, "cat /conf; sleep 1000"]
    stop_signal: SIGKILL
    depends_on: { thief: { condition: service_healthy } }
    volumes: ["./inner/passwd:/conf:ro"]
"#,
    );
    world.file("inner/passwd", "mine");

    let failed = world.sandbox(["up", "-d"]).exits(1);

    assert!(failed.stderr.contains("inner` is a symbolic link"), "{failed}");
    assert!(failed.stderr.contains("service `thief`"), "{failed}");
    world.engine().becomes_clean();
}

#[test]
fn what_a_service_put_in_place_of_the_project_s_files_is_not_read_at_the_next_up() {
    let world = World::with_spec(
        r#"
services:
  thief:
    image: sbx-test/busybox
    command:
      - sh
      - -c
      - "rm /src/key /src/vars; mknod -m 666 /src/key c 1 5; ln -s /etc/passwd /src/vars; sleep 1000"
    stop_signal: SIGKILL
    ready: { exec: [test, -h, /src/vars] }
    cap_add: [MKNOD]
    volumes: [".:/src"]
    env_file: vars
    secrets: [key]
secrets: { key: { file: ./key } }
"#,
    );
    world.file("vars", "A=1").file("key", "k");
    world.up();

    let refused = world.sandbox(["up", "-d"]).exits(2);
    assert!(refused.stderr.contains("vars` is a symbolic link"), "{refused}");
    std::fs::remove_file(world.project().join("vars")).unwrap();
    world.file("vars", "A=1");
    let refused = world.sandbox(["up", "-d"]).exits(2);
    assert!(refused.stderr.contains("there is no file `key`"), "{refused}");
}

#[test]
fn artifacts_and_logs_are_not_written_through_links_that_a_service_planted() {
    let mut world = World::with_spec(
        r#"
services:
  app:
    image: sbx-test/busybox
    command: [sh, -c, "mkdir -p /out/sub; echo made > /out/sub/file; exec sleep infinity"]
    stop_signal: SIGKILL
    volumes: [".:/src"]
artifacts: [app:/out]
"#,
    );
    let outside = world.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("app.log"), "kept").unwrap();
    let folder = world.project().join("sandbox-artifacts").join(world.name());

    // A link in the place of a file, and of a folder.
    world.up();
    std::fs::create_dir_all(folder.join("app")).unwrap();
    symlink(outside.join("app.log"), folder.join("app.log")).unwrap();
    symlink(&outside, folder.join("app/out")).unwrap();
    world.sandbox(["down"]).success();
    assert_eq!(read(&outside.join("app.log")), "kept");
    assert!(!outside.join("sub").exists());
    assert_eq!(read(&folder.join("app/out/sub/file")), "made\n");

    // A link on the way.
    std::fs::remove_dir_all(world.project().join("sandbox-artifacts")).unwrap();
    symlink(&outside, world.project().join("sandbox-artifacts")).unwrap();
    world.env("TMPDIR", &world.home().display().to_string());
    world.up();
    world.sandbox(["down"]).success().says("is a symbolic link");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    let kept = std::fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> =
        kept.filter(|path| path.display().to_string().contains("sandbox-artifacts-")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(read(&kept[0].join("app/out/sub/file")), "made\n");
}

#[test]
fn cp_out_of_a_service_writes_through_no_link_that_came_with_it() {
    let world = World::with_spec(
        "services: { app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL } }",
    );
    let outside = world.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    world.up();
    let shell = |script: &str| world.in_container("app", &["sh", "-c", script]).success();
    shell(&format!("mkdir /data; ln -s {} /data/door", outside.display()));
    world.sandbox(["cp", "app:/data", "got"]).success();
    assert_eq!(std::fs::read_link(world.project().join("got/door")).unwrap(), outside);

    shell("rm /data/door; mkdir -m 700 /data/door; echo x > /data/door/file");
    world.sandbox(["cp", "app:/data/.", "got"]).success();

    assert!(!outside.join("file").exists());
    assert_eq!(read(&world.project().join("got/door/file")), "x\n");
}

#[test]
fn a_task_out_of_a_snapshot_file_does_not_run_on_the_host_unasked() {
    let world = World::with_spec(
        r#"
services:
  app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL, volumes: ["v:/v"] }
volumes: { v: {} }
x-sandbox:
  tasks:
    here: "touch ran"
    inside: { in: app, run: "echo inside" }
"#,
    );
    world.up();
    world.sandbox(["task", "here"]).success();
    world.sandbox(["snapshot", "create", "kept"]).success();
    world.sandbox(["snapshot", "export", "kept", "kept.sandbox.tar.zst"]).success();
    world.sandbox(["down"]).success();
    let elsewhere = world.home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let file = world.project().join("kept.sandbox.tar.zst");
    let there = |arguments: &[&str]| world.command(arguments).current_dir(elsewhere.clone()).run();
    let name = format!("{}-b", world.name());
    there(&["up", "-d", "--from", file.to_str().unwrap(), "--name", &name]).success();

    there(&["task", "--name", &name, "here"]).exits(1).says("touch ran").says("--allow-host-access");
    assert!(!elsewhere.join("ran").exists());
    assert_eq!(there(&["task", "--name", &name, "inside"]).success().stdout, "inside\n");
    there(&["down", &name]).success();
}
