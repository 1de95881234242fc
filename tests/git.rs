//! Sandboxes of git repositories: clones, worktrees, branches.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use support::{World, eventually};

const SPEC: &str = r#"
welcome: Log in as demo.
requires: { commands: [sh], memory: 64m }
tasks:
  break: { in: web, run: "rm /www/index.html", description: Break the product }
  where: { run: "pwd" }
services:
  web:
    build: .
    command: [sh, -c, "cp -n /seed/* /www/; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    ports: [{ target: 80, app_protocol: http }]
    volumes: ["www:/www", "./page:/seed:ro"]
volumes: { www: { seed: [{ copy: page }] } }
"#;

const DOCKERFILE: &str = "FROM sbx-test/busybox\n";

fn git(world: &World, folder: &Path, line: &str) -> String {
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let arguments: Vec<&str> = who.into_iter().chain(line.split(' ')).collect();
    world.host("git", &arguments).current_dir(folder).run().success().stdout
}

/// Commits a file in a repository.
fn commit(world: &World, folder: &Path, file: &str, text: &str) {
    std::fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
    std::fs::write(folder.join(file), text).unwrap();
    git(world, folder, "add -A");
    git(world, folder, &format!("commit --quiet -m {file}"));
}

/// The spec of the product, under a name of its own: tests run side by side.
fn spec(world: &World) -> String {
    format!("name: {}\n{SPEC}", world.name())
}

/// A world with the product in a bare repository; returns its folder.
fn world() -> (World, PathBuf) {
    let mut world = World::new();
    // The sandbox's name is what is tested.
    world.env("SANDBOX_NAME", "");
    let source = world.home().join("source");
    std::fs::create_dir(&source).unwrap();
    git(&world, &source, "init --quiet");
    std::fs::write(source.join("Dockerfile"), DOCKERFILE).unwrap();
    std::fs::write(source.join("sandbox.yaml"), spec(&world)).unwrap();
    commit(&world, &source, "page/index.html", "hello\n");
    let bare = world.home().join("shop.git");
    git(&world, &source, &format!("clone --quiet --bare . {}", bare.display()));
    (world, bare)
}

fn checkouts(world: &World) -> usize {
    let folder = world.home().join(".local/state/sandbox/checkouts");
    std::fs::read_dir(folder)
        .map_or(0, |entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
}

fn page(world: &World, name: &str) -> String {
    let port = world.sandbox(["--name", name, "port", "web", "80"]).success();
    let address = port.text().parse().unwrap();
    support::http_get(address, "/index.html").map_or_else(|error| error.to_string(), |(_, body)| body)
}

#[test]
fn a_newcomer_comes_from_nothing_to_a_running_product_and_a_mistake_is_undone() {
    let (world, bare) = world();
    let url = format!("file://{}", bare.display());
    let name = format!("{}-main", world.name());

    world.sandbox(["up", "-d", &url]).success().says("Log in as demo.").says("Break the product");

    assert_eq!(page(&world, &name), "hello\n");
    world.sandbox(["--name", &name, "task"]).success().prints("break");
    world.sandbox(["--name", &name, "task", "break"]).success();
    assert!(!page(&world, &name).contains("hello"));
    world.sandbox(["--name", &name, "reset"]).success();
    eventually("the page is there again", || page(&world, &name) == "hello\n");
    assert_eq!(checkouts(&world), 1);
    world.sandbox(["down", &name]).success();
    assert_eq!(checkouts(&world), 0);
    world.engine().is_clean();
}

#[test]
fn a_clone_s_spec_uses_nothing_of_the_user() {
    let (world, bare) = world();
    let source = world.home().join("source");
    let (spec, name) = (spec(&world), format!("{}-main", world.name()));
    let stranger = format!("{spec}env: {{ BASH_ENV: /x }}\n");
    commit(&world, &source, "sandbox.yaml", &stranger);
    git(&world, &source, &format!("push --quiet {} HEAD:main", bare.display()));
    let url = bare.display().to_string();

    world.sandbox(["up", "-d", &url]).success();
    world.sandbox(["--name", &name, "task", "where"]).exits(1).says("came out of a git repository");
    let environment = world.sandbox(["--name", &name, "env"]).success().says("left out");
    assert!(!environment.stdout.contains("BASH_ENV"), "{environment}");
    world.sandbox(["--name", &name, "task", "--allow-host-access", "where"]).success().prints("checkouts");
    world.sandbox(["down", &name]).success();
    std::fs::write(world.home().join(".local/outside.yaml"), "services: { b: { image: x } }").unwrap();

    for (text, says) in [
        (spec.replace("./page:/seed:ro", "/etc:/seed:ro"), "`/etc`"),
        (format!("{spec}include: [../../../../../outside.yaml]\n"), "outside of"),
        (
            format!("{spec}secrets: {{ s: {{ environment: HOME }} }}\n")
                .replace("build: .", "build: .\n    secrets: [s]"),
            "`HOME`",
        ),
    ] {
        commit(&world, &source, "sandbox.yaml", &text);
        git(&world, &source, &format!("push --quiet --force {} HEAD:main", bare.display()));
        world.sandbox(["up", "-d", &url]).exits(2).says(says);
        assert_eq!(checkouts(&world), 0);
    }
}

#[test]
fn a_killed_session_leaves_no_files_after_the_next_call() {
    let (world, bare) = world();
    let mut session = world.spawn(["up", "--progress", "plain", &bare.display().to_string()]);
    session.says("is up after");
    assert_eq!(checkouts(&world), 1);
    world.sandbox(["ls"]).success();
    assert_eq!(checkouts(&world), 1, "they are in use");

    session.kill();

    eventually("the sandbox and its files are gone", || {
        world.sandbox(["ls", "--quiet"]).success().stdout.is_empty() && checkouts(&world) == 0
    });
}

#[test]
fn a_reference_and_a_folder_of_another_repository_are_built() {
    let (world, bare) = world();
    let source = world.home().join("source");
    git(&world, &source, "switch --quiet -c feat/x");
    let inner =
        "services: { a: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL } }";
    let id = world.name().to_owned();
    commit(&world, &source, "inner/sandbox.yaml", &format!("name: {id}\n{inner}\n"));
    git(
        &world,
        &source,
        &format!("push --quiet {} HEAD:refs/heads/feat/x HEAD:refs/pull/7/head", bare.display()),
    );
    let hash = git(&world, &source, "rev-parse HEAD").trim().to_owned();
    let url = format!("file://{}", bare.display());

    for (reference, label) in
        [("feat/x", "feat-x-"), ("7", "pr-7"), (&hash, &hash[..10]), (&hash[..9], &hash[..10])]
    {
        world.sandbox(["up", "-d", &format!("{url}#{reference}:inner")]).success();
        let names = world.sandbox(["ls", "--quiet"]).success();
        assert!(names.text().starts_with(&format!("{id}-{label}")), "{reference}: {names}");
        world.sandbox(["down", "--all"]).success();
    }
    world
        .sandbox(["up", "-d", &format!("{url}#no-such")])
        .exits(1)
        .says("has no branch, tag or commit `no-such`");
    world.sandbox(["up", "-d", &format!("{url}#main:no-such")]).exits(1).says("no folder `no-such`");
    world.sandbox(["up", "-d", "ext::sh -c x/y"]).exits(2);
    assert_eq!(checkouts(&world), 0);
}

#[test]
fn a_branch_or_request_of_this_repository_is_built_beside_the_folder_s_own() {
    let (world, bare) = world();
    let project = world.project();
    git(&world, &project, &format!("clone --quiet {} .", bare.display()));
    git(&world, &project, "switch --quiet -c fix");
    commit(&world, &project, "page/index.html", "fixed\n");
    git(&world, &project, "push --quiet origin HEAD:refs/pull/3/head");
    git(&world, &project, "switch --quiet main");

    world.sandbox(["up", "-d"]).success();
    world.sandbox(["up", "-d", "--ref", "fix"]).success();
    world.sandbox(["up", "-d", "--ref", "3"]).success();

    let name = |label: &str| format!("{}-{label}", world.name());
    assert_eq!(page(&world, &name("main")), "hello\n");
    assert_eq!(page(&world, &name("fix")), "fixed\n");
    assert_eq!(page(&world, &name("pr-3")), "fixed\n");
    let listed = world.sandbox(["ls", "--json"]).success().json();
    let fix =
        listed.as_array().unwrap().iter().find(|row| row["name"] == name("fix").as_str()).unwrap().clone();
    assert_eq!((fix["branch"].as_str(), fix["branch_state"].as_str()), (Some("fix"), Some("open")));
    world.sandbox(["up", "-d", "--ref", "fix"]).exits(1).says("is there already");
    world.sandbox(["up", "--ref", "no-such"]).exits(1).says("no-such");
    world.sandbox(["up", "--ref=-x"]).exits(2);
    world.sandbox(["down", "--all"]).success();
    assert_eq!(checkouts(&world), 0);
    assert_eq!(git(&world, &project, "worktree list").lines().count(), 1);
}

#[test]
fn worktrees_run_side_by_side_and_those_of_merged_branches_are_destroyed() {
    let (world, bare) = world();
    let project = world.project();
    git(&world, &project, &format!("clone --quiet {} .", bare.display()));
    let names = ["feat/x", "feat-x"];
    for (index, branch) in names.iter().enumerate() {
        let folder = world.home().join(format!("tree{index}"));
        git(&world, &project, &format!("worktree add --quiet -b {branch} {}", folder.display()));
        world.command(["up", "-d"]).current_dir(&folder).run().success();
    }
    world.sandbox(["up", "-d"]).success();
    let listed = world.sandbox(["ls", "--quiet"]).success();
    assert_eq!(listed.text().lines().count(), 3, "{listed}");
    world.sandbox(["gc", "--merged"]).success().says("no sandbox has a branch");

    commit(&world, &world.home().join("tree0"), "page/index.html", "x\n");
    git(&world, &project, "merge --quiet --no-ff feat/x");
    git(&world, &project, &format!("worktree remove --force {}", world.home().join("tree1").display()));
    git(&world, &project, "branch --quiet -D feat-x");
    world.sandbox(["ls"]).success().prints("feat/x (merged)").prints("feat-x (gone)");
    world.sandbox(["gc", "--merged", "--dry-run"]).success().prints("merged").prints("gone");
    assert_eq!(world.sandbox(["ls", "--quiet"]).success().text().lines().count(), 3);

    world.sandbox(["gc", "--merged"]).success();

    let left = world.sandbox(["ls", "--quiet"]).success();
    assert_eq!(left.text(), format!("{}-main", world.name()));
}
