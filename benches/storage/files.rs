//! A snapshot file, by the program itself, against `tar | zstd -T0` on the same data; and the memory it takes.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use super::World;
use super::figures::{Bound, median, quotient, ratio};

/// What the program may take while a file goes through it, whatever its size.
const MEMORY: f64 = 40.0;
/// How much goes through while that is looked at.
const MUCH: usize = 4096;

pub fn run(world: &World) {
    world.up();
    world.sandbox(["snapshot", "create", "bench"]).success();
    world.sandbox(["down"]).success();
    // The keeper's process has the pool mounted.
    let keeper = world.engine().pid(&format!("sandbox-keeper-{}", world.name()));
    let store = format!("/proc/{keeper}/root/pool/pool");
    let place = format!("{store}/making/theirs");
    let tar = format!("tar -c -C {store}/snapshot/bench . | zstd -q -f -T0 -o theirs.tar.zst");
    let untar =
        format!("mkdir {place} && zstd -q -d -c theirs.tar.zst | tar -x -C {place} && sync -f {place}");
    let ours = |arguments: &[&str]| world.command(arguments).limit(LIMIT).run().success().took;
    // What is read is in memory for both.
    shell(world, &format!("find {store}/snapshot/bench -type f -exec cat {{}} + > /dev/null"));
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..3 {
        times[0].push(ours(&["snapshot", "export", "bench", "ours.sandbox.tar.zst"]));
        times[1].push(shell(world, &tar));
        times[2].push(ours(&["snapshot", "import", "ours.sandbox.tar.zst", "--as", "back"]));
        world.sandbox(["snapshot", "rm", "back"]).success();
        times[3].push(shell(world, &untar));
        shell(world, &format!("rm -rf {place}; sync"));
    }
    let kilobytes = |file: &str| {
        let length = std::fs::metadata(world.project().join(file)).unwrap().len();
        let kilobytes = u32::try_from(length / 1000).unwrap();
        (format!("{kilobytes} kB"), f64::from(kilobytes))
    };
    let (one, other) = (kilobytes("ours.sandbox.tar.zst"), kilobytes("theirs.tar.zst"));
    quotient("the file / what `tar | zstd -T0` makes", one, other, Bound::AtMost(1.1));
    let [export, tar, import, untar] = times.map(median);
    ratio("export / `tar | zstd -T0` (rate)", tar, export, Bound::AtLeast(0.8));
    ratio("import / `zstd -d | tar -x`, both synced (rate)", untar, import, Bound::AtLeast(0.8));
}

const LIMIT: Duration = Duration::from_mins(15);

fn shell(world: &World, script: &str) -> Duration {
    world.host("bash", &["-o", "pipefail", "-c", script]).limit(LIMIT).run().success().took
}

/// Exports and imports data that cannot be packed, and looks at the most memory that each took.
pub fn memory(world: &World) {
    world.up();
    let noise = format!(
        "cd /var/lib/postgresql/data && head -c 128M /dev/urandom > noise && i=0; while [ $i -lt {} ]; do cat noise; i=$((i+1)); done > much",
        MUCH / 128
    );
    world.in_container("db", &["sh", "-c", &noise]).success();
    world.sandbox(["snapshot", "create", "memory"]).success();
    world.sandbox(["down"]).success();
    for verb in [
        &["snapshot", "export", "memory", "memory.file"][..],
        &["snapshot", "import", "memory.file", "--as", "memory2"],
    ] {
        let (took, most) = most_memory(world, verb);
        let what = format!(
            "`{}` of {MUCH} MiB ({took:.0?}): its memory / what it may take (MiB)",
            verb[..2].join(" ")
        );
        quotient(&what, (format!("{most:.1}"), most), (format!("{MEMORY}"), MEMORY), Bound::AtMost(1.0));
    }
    std::fs::remove_file(world.project().join("memory.file")).unwrap();
    world.sandbox(["snapshot", "rm", "memory", "memory2"]).success();
}

/// How long the program took, and its largest resident set in mebibytes.
fn most_memory(world: &World, arguments: &[&str]) -> (Duration, f64) {
    let begun = Instant::now();
    let session = world.spawn(arguments);
    let (mut status, mut usage) = (0, unsafe_zeroed());
    // SAFETY: both pointers are to values that live through the call; the child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(session.pid().cast_signed(), &raw mut status, 0, &raw mut usage) };
    assert!(waited > 0 && std::process::ExitStatus::from_raw(status).success(), "{}", session.stderr());
    let kibibytes = u32::try_from(usage.ru_maxrss).unwrap();
    (begun.elapsed(), f64::from(kibibytes) / 1024.0)
}

fn unsafe_zeroed() -> libc::rusage {
    // SAFETY: it is a structure of numbers, for which zeros are values.
    unsafe { std::mem::zeroed() }
}
