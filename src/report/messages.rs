//! Turns events into sentences. All renderers for people use these.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::style::{Colour, OutputStyle, Tint, harmless};
use crate::report::amount;
use crate::session::event::{AfterExit, BakeState, Event, LeftObject, Progress, Removed, ServiceState};

/// Importance of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Shown only by renderers that print every message.
    Detail,
    /// Kept on a terminal too.
    Fact,
    /// A problem, or a possible one.
    Warning,
    /// The requested operation failed.
    Error,
}

/// One message about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its importance.
    pub weight: Severity,
    /// The subject: a service, an image, a volume; empty for the sandbox itself.
    pub subject: String,
    /// The sentence, in lower case, without a full stop.
    pub text: String,
    /// The hint for the user, if there is one.
    pub hint: Option<String>,
    /// Lines that belong to the message: the end of a log, a chain of causes.
    pub below: Vec<String>,
}

impl Fact {
    fn new(weight: Severity, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { weight, subject: subject.into(), text: text.into(), hint: None, below: Vec::new() }
    }

    fn with_hint(mut self, hint: Option<&String>) -> Self {
        self.hint = hint.cloned();
        self
    }

    fn with_below(mut self, below: Vec<String>) -> Self {
        self.below = below;
        self
    }
}

/// The message for `event`; `None` for events that have another form (logs, plans, the final table) or only move a
/// progress bar.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
pub fn fact(event: &Event) -> Option<Fact> {
    use Severity::{Detail, Error, Fact as Worth, Warning};
    let fact = match event {
        Event::Started { name, .. } => Fact::new(Worth, "", format!("sandbox `{name}`")),
        Event::StepDone { what, service, elapsed, .. } => {
            Fact::new(Detail, subject(service.as_ref()), format!("{what} ({})", amount::duration(*elapsed)))
        }
        // The step may be retried. If not, the caller reports the failure with its cause, so this is only a detail.
        Event::StepFailed { what, service, elapsed, error, .. } => Fact::new(
            Detail,
            subject(service.as_ref()),
            format!("{what} failed after {}: {error}", amount::duration(*elapsed)),
        ),
        Event::Plan { .. }
        | Event::Log { .. }
        | Event::Up { .. }
        | Event::Welcome { .. }
        | Event::CommandStarted { .. }
        | Event::DeadlineMoved { by_use: true, .. }
        | Event::StepStarted { .. }
        | Event::Pull { done: false, .. }
        | Event::Transfer { done: true, .. }
        | Event::Seed { done: false, .. } => return None,
        Event::Pull { image, bytes, .. } => Fact::new(
            Worth,
            "",
            match bytes.total.max(bytes.done) {
                // All layers were present.
                0 => format!("pulled `{image}`"),
                size => format!("pulled `{image}` ({})", amount::bytes(size)),
            },
        ),
        Event::Transfer { what, bytes, rate, .. } => Fact::new(
            Detail,
            "",
            format!("{what}: {}, {}", progress(*bytes, amount::bytes), amount::rate(*rate)),
        ),
        Event::BuildLine { service, line } => Fact::new(Detail, service, harmless(line, Colour::Off)),
        Event::BuildFailed { service, output } => Fact::new(Error, service, "the build failed")
            .with_below(output.iter().map(|line| harmless(line, Colour::Off)).collect()),
        Event::Waiting { service, what, last, since } => {
            Fact::new(Detail, service, waits(what, last.as_deref(), *since))
        }
        Event::Ready { service, after } => {
            Fact::new(Detail, service, format!("ready after {}", amount::duration(*after)))
        }
        Event::Seed { target, what, progress, .. } => {
            let how_much = progress.map(|of| format!(" ({})", of.done)).unwrap_or_default();
            Fact::new(Detail, target, format!("seeded by {what}{how_much}"))
        }
        Event::Bake { key, volumes, state } => bake(key, volumes, state),
        Event::Warning { text, hint } => Fact::new(Warning, "", text).with_hint(hint.as_ref()),
        Event::Notice { text } => Fact::new(Worth, "", text),
        Event::PortMoved { service, target, wanted, given } => Fact::new(
            Warning,
            service,
            format!("port {target} is at 127.0.0.1:{given}: {wanted} is taken on this host"),
        ),
        Event::ServiceExited { service, code, log, waited_for_by, then } => {
            exited(service, *code, log, waited_for_by, *then)
        }
        Event::Changing { why, .. } => Fact::new(Worth, "", why),
        Event::Changed { elapsed, .. } => {
            Fact::new(Worth, "", format!("done after {}", amount::duration(*elapsed)))
        }
        Event::DeadlineMoved { deadline, if_unused, .. } => {
            Fact::new(Worth, "", format!("the sandbox {}", ends(*deadline, *if_unused)))
        }
        Event::DeadlineNear { left } => {
            Fact::new(Warning, "", format!("the sandbox ends in {}", amount::duration(*left)))
                .with_hint(Some(&"`sandbox extend` gives it more time".to_owned()))
        }
        Event::TearingDown { name, reason, .. } => {
            Fact::new(Worth, "", format!("removing `{name}`: {reason}"))
        }
        Event::Torn { name, removed, elapsed } => Fact::new(
            Worth,
            "",
            format!("removed `{name}`: {} in {}", counts(*removed), amount::duration(*elapsed)),
        ),
        Event::Left { name, objects } => left(name, objects),
        Event::Failed { error, hint } => {
            let (first, causes) = error.split_first().map_or(("failed", &[][..]), |(f, c)| (f.as_str(), c));
            Fact::new(Error, "", first).with_hint(hint.as_ref()).with_below(causes.to_vec())
        }
    };
    Some(harmless_fact(fact))
}

/// Names, causes and hints may contain untrusted text, such as a host name that a service requested.
fn harmless_fact(fact: Fact) -> Fact {
    let clean = |text: &str| {
        let lines: Vec<_> = text.split('\n').map(|line| harmless(line, Colour::Off)).collect();
        lines.join("\n")
    };
    Fact {
        text: clean(&fact.text),
        hint: fact.hint.as_deref().map(clean),
        below: fact.below.iter().map(|line| clean(line)).collect(),
        ..fact
    }
}

/// "ends at 2026-11-30 18:05 if unused"
pub fn ends(deadline: Timestamp, if_unused: bool) -> String {
    let at = deadline.to_zoned_datetime(TimeZone::system());
    format!("ends at {}{}", at.strftime("%Y-%m-%d %H:%M"), if if_unused { " if unused" } else { "" })
}

/// "7h 59m left", "44m 10s left if unused"
pub fn time_left(deadline: Timestamp, if_unused: bool, now: Timestamp) -> String {
    let condition = if if_unused { " if unused" } else { "" };
    match amount::until(deadline, now) {
        Some(left) if left.as_secs() >= 3600 => format!("{} left{condition}", amount::duration(left)),
        Some(left) => format!("{} left{condition}", amount::ticking(left)),
        None => "expired".to_owned(),
    }
}

/// "2 objects of `shop` could not be removed", followed by their names.
fn left(name: &str, objects: &[LeftObject]) -> Fact {
    let below = objects.iter().map(ToString::to_string).collect();
    let text = format!("{} of `{name}` could not be removed", amount::count(objects.len(), "object"));
    Fact::new(Severity::Error, "", text)
        .with_hint(Some(&format!("the keeper tries again; so does `sandbox down {name}`")))
        .with_below(below)
}

fn subject(service: Option<&String>) -> &str {
    service.map_or("", String::as_str)
}

/// "waits for `db` to be healthy (1.2 s): connection refused"
pub fn waits(what: &str, last: Option<&str>, since: Duration) -> String {
    let answer = last.map(|last| format!(": {last}")).unwrap_or_default();
    let time =
        if since.as_millis() < 100 { String::new() } else { format!(" ({})", amount::duration(since)) };
    format!("waits for {what}{time}{answer}")
}

fn bake(key: &str, volumes: &[String], state: &BakeState) -> Fact {
    let which = volumes.join(", ");
    let short: String = key.chars().take(12).collect();
    let (weight, text) = match state {
        BakeState::Found => (Severity::Detail, format!("data of {which} cloned from baseline {short}")),
        BakeState::Awaited => {
            (Severity::Fact, format!("waiting for another session that bakes the data of {which}"))
        }
        BakeState::Started => (Severity::Fact, format!("baking the data of {which} (runs the seeds once)")),
        BakeState::Done { elapsed } => {
            (Severity::Fact, format!("baked the data of {which} ({})", amount::duration(*elapsed)))
        }
    };
    Fact::new(weight, "", text)
}

fn exited(service: &str, code: i64, log: &[String], waiting: &[String], then: AfterExit) -> Fact {
    let waited = if waiting.is_empty() {
        String::new()
    } else {
        let names: Vec<_> = waiting.iter().map(|name| format!("`{name}`")).collect();
        format!("; {} waited for it", names.join(", "))
    };
    let (weight, follows) = match then {
        AfterExit::Completed => (Severity::Detail, "completed".to_owned()),
        AfterExit::Stopped => (Severity::Detail, "stopped".to_owned()),
        AfterExit::Restarts => (Severity::Warning, format!("exited with {code}; restarting it")),
        AfterExit::Nothing => (Severity::Warning, format!("exited with {code}")),
        AfterExit::Ends => (Severity::Error, format!("exited with {}{waited}", exit_code(code))),
    };
    let tail = if then == AfterExit::Ends { log } else { &[] };
    let below = tail.iter().map(|line| harmless(line, Colour::Off)).collect();
    Fact::new(weight, service, follows).with_below(below)
}

/// An exit code, with the name of the signal if there is one.
pub fn exit_code(code: i64) -> String {
    let signal = match code {
        132 => "SIGILL",
        134 => "SIGABRT",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL: killed, or out of memory",
        139 => "SIGSEGV",
        143 => "SIGTERM",
        126 => "the command cannot be executed",
        127 => "the command was not found",
        _ => return code.to_string(),
    };
    format!("{code} ({signal})")
}

/// "3 containers, 1 network, 2 volumes"; "nothing" for none.
pub fn counts(removed: Removed) -> String {
    let parts: Vec<_> =
        [(removed.containers, "container"), (removed.networks, "network"), (removed.volumes, "volume")]
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| amount::count(number, noun))
            .collect();
    if parts.is_empty() { "nothing to remove".to_owned() } else { parts.join(", ") }
}

/// "12 of 40", or "12" while the total is unknown.
pub fn progress(of: Progress, show: impl Fn(u64) -> String) -> String {
    if of.total == 0 { show(of.done) } else { format!("{} of {}", show(of.done), show(of.total)) }
}

/// A state as one or two words, in its colour.
pub fn state(look: OutputStyle, state: &ServiceState) -> String {
    let (tone, text) = match state {
        ServiceState::Created => (Tint::Faint, "created".to_owned()),
        ServiceState::Starting => (Tint::Busy, "starting".to_owned()),
        ServiceState::Running => (Tint::Good, "running".to_owned()),
        ServiceState::Healthy => (Tint::Good, "healthy".to_owned()),
        ServiceState::Ready => (Tint::Good, "ready".to_owned()),
        ServiceState::Unhealthy => (Tint::Bad, "unhealthy".to_owned()),
        ServiceState::Paused => (Tint::Warn, "paused".to_owned()),
        ServiceState::Exited { code: 0 } => (Tint::Faint, "exited (0)".to_owned()),
        ServiceState::Exited { code } => (Tint::Bad, format!("exited ({code})")),
        ServiceState::Restarting => (Tint::Warn, "restarting".to_owned()),
    };
    look.paint(tone, &text)
}
