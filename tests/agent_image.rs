//! Our own program as an image: what goes into it runs on the engine, and what cannot is refused by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};

use sandbox::agent::image::{self, Payload};
use sandbox::engine::Engine;
use sandbox::engine::docker::Docker;
use support::World;

const SPEC: &str =
    "services: { app: { image: sbx-test/busybox, command: [sleep, infinity], stop_signal: SIGKILL } }";
const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// The first sixteen bytes of a program for macOS, and nothing more.
const MACH_O: &[u8] = b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01\x00\x00\x00\x00\x02\x00\x00\x00";

/// The head of a Linux program for the other architecture: one segment, and nothing in it.
fn foreign() -> Vec<u8> {
    let mut head = vec![0; 64 + 56];
    (head[32], head[54], head[56]) = (64, 56, 1);
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[18] = if ARCH == "amd64" { 183 } else { 62 };
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_static_runs_with_the_libraries_that_travel_along() {
    let world = World::new();
    let engine = Docker::connect_from_env().await.unwrap();
    let program = world.project().join("ls");
    // As young as can be: no keeper takes its image for an old one of ours.
    std::fs::copy("/bin/ls", &program).unwrap();
    let payload = Payload::find(ARCH, Some(&program)).unwrap();

    let said = said_by(&world, &*engine, &payload).await;

    assert_eq!(said, "/sandbox");
    world.engine().docker(&["rmi", "-f", &payload.reference()]).success();
}

/// What the program says of `/sandbox` in a container. Another test may remove all images of ours that nothing uses.
async fn said_by(world: &World, engine: &dyn Engine, payload: &Payload) -> String {
    let name = format!("sbx-{}.program", world.name());
    for _ in 0..5 {
        let image = image::ensure(engine, payload).await.unwrap();
        let made =
            world.engine().docker(&["create", "--name", &name, "--network", "none", &image, "/sandbox"]);
        if made.code == Some(0) {
            return world.engine().docker(&["start", "-a", &name]).success().text().to_owned();
        }
    }
    panic!("the image is not there when it is used")
}

/// This program in other bytes.
fn another_build(world: &World) -> PathBuf {
    let path = world.project().join("another");
    std::fs::copy(env!("CARGO_BIN_EXE_sandbox"), &path).unwrap();
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(&rand::random::<[u8; 24]>()).unwrap();
    path
}

#[test]
fn the_binary_that_is_named_is_the_one_in_the_image() {
    let mut world = World::with_spec(SPEC);
    let named = another_build(&world);
    let reference = Payload::find(ARCH, Some(&named)).unwrap().reference();
    let usual = Payload::find(ARCH, Some(Path::new(env!("CARGO_BIN_EXE_sandbox")))).unwrap().reference();
    assert_ne!(reference, usual);
    world.env(image::VARIABLE, &named.display().to_string());
    world.up();
    for container in [format!("sandbox-keeper-{}", world.name()), format!("sbx-{}", world.name())] {
        assert_eq!(world.engine().inspect(&container)["Config"]["Image"], reference.as_str(), "{container}");
    }
    world.sandbox(["down"]).success();
    world.sandbox(["gc", "--all"]).success();
    world.engine().docker(&["rmi", "-f", &reference]);
}

#[test]
fn a_named_binary_that_cannot_run_on_the_engine_is_refused_with_the_reason() {
    let mut world = World::with_spec(SPEC);
    let other = if ARCH == "amd64" { "arm64" } else { "amd64" };
    world.file("mac", MACH_O).file("mac-padded", [MACH_O, &[0; 64]].concat()).file("foreign", foreign());
    let expected = [
        ("missing", "No such file or directory".to_owned()),
        ("mac", "not a Linux program".to_owned()),
        ("mac-padded", "not a Linux program".to_owned()),
        ("foreign", format!("for {other}")),
    ];
    for (file, why) in expected {
        let path = world.project().join(file);
        world.env(image::VARIABLE, &path.display().to_string());
        let outcome = world.sandbox(["up", "-d"]);
        assert_eq!(outcome.code, Some(1), "{outcome}");
        let outcome = outcome.says(&format!("`{}` ({why}", path.display()));
        outcome.says(&format!("linux/{ARCH}")).says(image::VARIABLE);
        world.engine().is_clean();
    }
}

#[test]
fn an_image_that_took_the_name_of_ours_is_replaced_before_anything_runs_from_it() {
    let mut world = World::with_spec(SPEC);
    let named = another_build(&world);
    let payload = Payload::find(ARCH, Some(&named)).unwrap();
    let reference = payload.reference();
    world.env(image::VARIABLE, &named.display().to_string());
    let engine = world.engine();
    let impostor = format!(
        "FROM sbx-test/busybox\nLABEL dev.sandbox.role=image dev.sandbox.made={}\nRUN ln -s /bin/busybox /sandbox\n\
         ENTRYPOINT [\"/sandbox\"]\nENV PATH=/",
        payload.build().made
    );
    world.file("impostor/Dockerfile", impostor);
    let context = world.project().join("impostor");
    engine.docker(&["build", "-q", "-t", &reference, &context.display().to_string()]).success();
    let before = engine.inspect(&reference)["Id"].clone();

    world.up();

    for container in [format!("sandbox-keeper-{}", world.name()), format!("sbx-{}", world.name())] {
        assert_ne!(engine.inspect(&container)["Image"], before, "{container}");
    }
    world.sandbox(["down"]).success();
    world.sandbox(["gc", "--all"]).success();
    engine.docker(&["rmi", "-f", &reference, before.as_str().unwrap()]);
}

#[test]
fn the_program_is_taken_out_of_an_image_that_is_named() {
    let mut world = World::with_spec(SPEC);
    let engine = world.engine();
    let named = another_build(&world);
    let reference = Payload::find(ARCH, Some(&named)).unwrap().reference();
    let context = world.project().join("carrier");
    std::fs::create_dir(&context).unwrap();
    std::fs::copy(&named, context.join("sandbox")).unwrap();
    world.file("carrier/Dockerfile", "FROM scratch\nCOPY sandbox /sandbox\n");
    let carrier = format!("carrier-{}", world.name());
    engine.docker(&["build", "-q", "-t", &carrier, &context.display().to_string()]).success();
    world.env(image::IMAGE_VARIABLE, &carrier);

    world.up();

    for container in [format!("sandbox-keeper-{}", world.name()), format!("sbx-{}", world.name())] {
        assert_eq!(engine.inspect(&container)["Config"]["Image"], reference.as_str(), "{container}");
    }
    let left = engine.docker(&["ps", "-aq", "--filter", "name=sandbox-agent-source-"]);
    assert_eq!(left.success().text(), "");
    world.sandbox(["down"]).success();
    world.sandbox(["gc", "--all"]).success();
    engine.docker(&["rmi", "-f", &reference, &carrier]);
}

#[test]
fn an_image_without_this_version_of_the_program_is_refused_with_the_reason() {
    let mut world = World::with_spec(SPEC);
    world.env(image::IMAGE_VARIABLE, "sbx-test/busybox");

    let outcome = world.sandbox(["up", "-d"]).exits(1);

    outcome.says("the image `sbx-test/busybox` (it has none of /sandbox").says(image::IMAGE_VARIABLE);

    std::fs::copy("/bin/ls", world.project().join("ls")).unwrap();
    world.env(image::VARIABLE, &world.project().join("ls").display().to_string());
    world.sandbox(["up", "-d"]).exits(1).says("not a build of sandbox");
    world.engine().is_clean();
}
