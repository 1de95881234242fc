//! What keeper, gateway and host firewall take: resident memory, at their most through the life of a sandbox and while
//! nothing happens, and processor time over half a minute of that. Fails above 16 MiB at any time, or above a thousandth of
//! a core. Needs root, an engine of this machine, and `sbx-test/busybox`.
//!
//! The most is looked at every 50 ms (`VmRSS`), and told as the kernel has noted it since the process began (`VmHWM`),
//! which misses nothing; that is what must hold. It is their own: what a client has run beside
//! them in their containers (`agent connect`, `agent export`, `agent import`) are processes that end with what they do.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

const SPEC: &str = r#"
services:
  app:
    image: sbx-test/busybox
    command: [httpd, -f, -p, "80"]
    stop_signal: SIGKILL
    ports: ["80"]
    volumes: ["kept:/kept"]
volumes: { kept: {} }
"#;

/// What either may keep resident, in kilobytes.
const MOST: u64 = 16 << 10;
/// How often their memory is looked at while they work.
const LOOK: Duration = Duration::from_millis(50);
/// What they do at their start is over by then.
const SETTLED: Duration = Duration::from_secs(15);
/// How long processor time is counted.
const WATCHED: Duration = Duration::from_secs(30);
/// Clock ticks (hundredths of a second) in that time that are still nothing to speak of.
const TICKS: u64 = 3;

/// A scope and a folder of its own; gone when it is dropped.
struct World {
    scope: String,
    folder: tempfile::TempDir,
}

impl World {
    fn sandbox(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("SANDBOX_SCOPE", &self.scope).env("SANDBOX_NAME", &self.scope);
        let ended = command.output()?;
        if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into()) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.sandbox(&["gc", "--all"]);
    }
}

/// The process of a container, as this machine numbers it.
fn process(container: &str) -> Result<String, Failure> {
    let shown = Command::new("docker").args(["inspect", "-f", "{{.State.Pid}}", container]).output()?;
    Ok(String::from_utf8(shown.stdout)?.trim().to_owned())
}

/// A figure of `/proc/PID/status`, in kilobytes.
fn figure(pid: &str, name: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.and_then(|it| it.split_whitespace().next()).ok_or("no such figure")?.parse()?)
}

/// Processor time so far, in clock ticks (proc(5): the 14th and 15th fields of `stat`).
fn ticks(pid: &str) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').ok_or("no stat")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// What is looked at, each with its container's name.
fn parts(scope: &str) -> [(&'static str, String); 3] {
    [
        ("keeper", format!("sandbox-keeper-{scope}")),
        ("host firewall", format!("sandbox-host-firewall-{scope}")),
        ("gateway", format!("sbx-{scope}")),
    ]
}

/// What was seen of a process at its most.
#[derive(Default)]
struct Most {
    resident: u64,
    noted: u64,
}

/// Looks at keeper and gateway until it is told to stop; each process counts for its name.
fn watch(scope: &str, stop: &AtomicBool) -> BTreeMap<&'static str, Most> {
    let containers = parts(scope);
    let (mut most, mut known): (BTreeMap<&'static str, Most>, BTreeMap<&str, String>) = Default::default();
    while !stop.load(Ordering::Relaxed) {
        for (name, container) in &containers {
            let pid = match known.get(name).filter(|pid| is_agent(pid)) {
                Some(pid) => pid.clone(),
                None => match process(container) {
                    Ok(pid) if is_agent(&pid) => known.entry(name).insert_entry(pid).get().clone(),
                    _ => continue,
                },
            };
            // Between the two it may end.
            let (Ok(resident), Ok(noted)) = (figure(&pid, "VmRSS"), figure(&pid, "VmHWM")) else { continue };
            let most = most.entry(name).or_default();
            *most = Most { resident: most.resident.max(resident), noted: most.noted.max(noted) };
        }
        thread::sleep(LOOK);
    }
    most
}

/// Whether a process is that of a container of ours, and not yet (or no more) the runtime that starts it.
fn is_agent(pid: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/sandbox\0agent\0"))
}

/// The life of a sandbox, with the pauses after which keeper and gateway are looked at at rest.
fn live(world: &World, out: &mut impl Write) -> Result<bool, Failure> {
    world.sandbox(&["up", "-d"])?;
    world.sandbox(&["reset"])?;
    world.sandbox(&["snapshot", "create", "kept"])?;
    world.sandbox(&["snapshot", "export", "kept", "kept.sandbox"])?;
    let well = rest(world, out)?;
    world.sandbox(&["down", &world.scope])?;
    Ok(well)
}

fn rest(world: &World, out: &mut impl Write) -> Result<bool, Failure> {
    let mut parts = Vec::new();
    for (name, container) in self::parts(&world.scope) {
        parts.push((name, process(&container)?));
    }
    thread::sleep(SETTLED);
    let before = parts.iter().map(|(_, pid)| ticks(pid)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(WATCHED);
    let mut well = true;
    for ((name, pid), before) in parts.iter().zip(before) {
        let used = ticks(pid)? - before;
        let [resident, own, file] =
            ["VmRSS", "RssAnon", "RssFile"].map(|name| figure(pid, name).unwrap_or(u64::MAX));
        let (seconds, cpu) = (WATCHED.as_secs(), used * 10);
        writeln!(
            out,
            "{name}: {resident} kB resident at rest ({own} kB its own, {file} kB of the program's file), \
             {cpu} ms of a processor in {seconds} s"
        )?;
        well &= resident <= MOST && used <= TICKS;
    }
    Ok(well)
}

fn run(out: &mut impl Write) -> Result<bool, Failure> {
    let scope = format!("idle{}", std::process::id());
    let world = World { scope, folder: tempfile::tempdir()? };
    std::fs::write(world.folder.path().join("sandbox.yaml"), SPEC)?;
    let stop = AtomicBool::new(false);
    let (lived, most) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&world.scope, &stop));
        let lived = live(&world, out);
        stop.store(true, Ordering::Relaxed);
        (lived, watching.join())
    });
    let mut well = lived?;
    let most = most.map_err(|_| "nobody watched")?;
    well &= parts(&world.scope).iter().all(|(name, _)| most.contains_key(name));
    for (name, Most { resident, noted }) in most {
        writeln!(
            out,
            "{name}: {resident} kB resident at most as seen every {} ms through start, up, reset, snapshot, export \
             and down; {noted} kB as the kernel has noted it",
            LOOK.as_millis()
        )?;
        well &= noted <= MOST;
    }
    Ok(well)
}

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    match run(&mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            let _ = writeln!(out, "more than {MOST} kB, or more than {} ms", TICKS * 10);
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
