//! Kills or stops this process at a chosen call (debug builds only), so that tests can interrupt it at every step.
//!
//! `SANDBOX_FAULT` is `kill@N` (dies before call N is sent), `late@N` (dies after the response to call N), `stop@N`
//! (stops, as with Ctrl-Z, before call N) or `count@FILE` (writes the number of calls to a file). Only calls that
//! change something are counted, from 1 on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Method;
use rustix::process::{Signal, getpid, kill_process};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Kill(u64),
    Late(u64),
    Stop(u64),
    Count(String),
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

/// Registers a call that is about to be sent. Returns its number if faults are enabled and it changes something.
pub(super) fn before(method: &Method) -> Option<u64> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    before_change()
}

/// Like `before`, for a change that is not sent to the engine.
pub fn before_change() -> Option<u64> {
    let fault = FAULT.get_or_init(|| read(&std::env::var("SANDBOX_FAULT").ok()?)).as_ref()?;
    let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    match fault {
        Fault::Kill(n) if *n == number => send(Signal::KILL),
        Fault::Stop(n) if *n == number => send(Signal::STOP),
        Fault::Count(file) => drop(std::fs::write(file, number.to_string())),
        _ => {}
    }
    Some(number)
}

/// Registers the response to a call.
pub fn after(number: Option<u64>) {
    if let (Some(Some(Fault::Late(n))), Some(number)) = (FAULT.get(), number)
        && *n == number
    {
        send(Signal::KILL);
    }
}

fn send(signal: Signal) {
    // Used only by tests; a failure cannot be handled here.
    let _ = kill_process(getpid(), signal);
}

fn read(text: &str) -> Option<Fault> {
    let (what, value) = text.split_once('@')?;
    let number = value.parse().ok();
    match what {
        "kill" => number.map(Fault::Kill),
        "late" => number.map(Fault::Late),
        "stop" => number.map(Fault::Stop),
        "count" => Some(Fault::Count(value.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        assert_eq!(read("kill@3"), Some(Fault::Kill(3)));
        assert_eq!(read("count@/tmp/n"), Some(Fault::Count("/tmp/n".to_owned())));
        assert_eq!(read("kill@soon"), None);
        assert_eq!(read("3"), None);
    }
}
