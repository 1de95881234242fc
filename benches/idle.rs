//! What keeper and gateway take while nothing happens: resident memory, and processor time over half a minute. Fails
//! above 8 MiB, or above a thousandth of a core. Needs root, an engine of this machine, and `sbx-test/busybox`.

use std::io::Write;
use std::process::{Command, ExitCode};
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
const MOST: u64 = 8 << 10;
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

fn run(out: &mut impl Write) -> Result<bool, Failure> {
    let scope = format!("idle{}", std::process::id());
    let world = World { scope, folder: tempfile::tempdir()? };
    std::fs::write(world.folder.path().join("sandbox.yaml"), SPEC)?;
    world.sandbox(&["up", "-d"])?;
    let parts = [
        ("keeper", process(&format!("sandbox-keeper-{}", world.scope))?),
        ("gateway", process(&format!("sbx-{}", world.scope))?),
    ];
    std::thread::sleep(SETTLED);
    let before = parts.iter().map(|(_, pid)| ticks(pid)).collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(WATCHED);
    let mut well = true;
    for ((name, pid), before) in parts.iter().zip(before) {
        let used = ticks(pid)? - before;
        let [resident, own, file] =
            ["VmRSS", "RssAnon", "RssFile"].map(|name| figure(pid, name).unwrap_or(u64::MAX));
        let (seconds, cpu) = (WATCHED.as_secs(), used * 10);
        writeln!(
            out,
            "{name}: {resident} kB resident ({own} kB its own, {file} kB of the program's file), \
             {cpu} ms of a processor in {seconds} s"
        )?;
        well &= resident <= MOST && used <= TICKS;
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
