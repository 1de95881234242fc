//! The board's content as lines: each pull with its bytes, each service with its current wait.

use std::time::Duration;

use console::{Alignment, pad_str};
use jiff::Timestamp;

use crate::report::amount;
use crate::report::style::{Colour, Glyph, OutputStyle, Tint, harmless};
use crate::report::{messages, summary};
use crate::session::event::{AfterExit, BakeState, Event, Phase, Progress, StepId};

/// The state of the board. It uses no clock; the caller passes the time.
#[derive(Debug, Default)]
pub struct Board {
    name: String,
    stage: Stage,
    began: Duration,
    services: Vec<Service>,
    pulls: Vec<Pull>,
    transfer: Option<Transfer>,
    steps: Vec<Step>,
    seeds: Vec<Seed>,
    builds: Vec<(String, String)>,
    standing: Option<Standing>,
}

/// What the pinned line shows of a running sandbox.
#[derive(Debug, Clone)]
struct Standing {
    address: Option<String>,
    deadline: Option<Timestamp>,
    if_unused: bool,
    attached: bool,
    stays: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Building,
    Up,
    Removing,
}

#[derive(Debug)]
struct Service {
    name: String,
    doing: Activity,
}

#[derive(Debug)]
enum Activity {
    Nothing,
    Step { what: String, from: Duration },
    Waiting { what: String, last: Option<String>, from: Duration },
    Ready { after: Duration },
    Completed,
    Failed { why: String },
}

#[derive(Debug)]
struct Pull {
    image: String,
    layers: Progress,
    bytes: Progress,
    rate: u64,
}

#[derive(Debug)]
struct Transfer {
    what: String,
    bytes: Progress,
    rate: u64,
}

#[derive(Debug)]
struct Step {
    id: StepId,
    what: String,
    from: Duration,
}

#[derive(Debug)]
struct Seed {
    target: String,
    what: String,
    progress: Option<Progress>,
}

impl Board {
    /// Updates the state by `event`, which happened at `at`.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    pub fn event(&mut self, event: &Event, at: Duration) {
        match event {
            Event::Started { name, services, .. } | Event::Changing { name, services, .. } => {
                let standing = self.standing.take();
                *self = Self {
                    name: name.clone(),
                    stage: Stage::Building,
                    began: at,
                    standing,
                    ..Self::default()
                };
                self.services = services
                    .iter()
                    .map(|name| Service { name: name.clone(), doing: Activity::Nothing })
                    .collect();
            }
            Event::StepStarted { id, what, service, phase } => {
                self.begin(id, *phase, what, service.as_deref(), at);
            }
            Event::StepDone { id, service, .. } => self.end(id, service.as_deref()),
            Event::StepFailed { id, service, error, .. } => {
                self.steps.retain(|step| step.id != *id);
                if let Some(service) = service {
                    self.set(service, Activity::Failed { why: error.clone() });
                }
            }
            Event::Pull { .. } | Event::Transfer { .. } => self.flow(event),
            Event::DeadlineMoved { deadline, if_unused, .. } => {
                if let Some(standing) = &mut self.standing {
                    (standing.deadline, standing.if_unused) = (Some(*deadline), *if_unused);
                }
            }
            Event::BuildLine { service, line } => {
                self.builds.retain(|(name, _)| name != service);
                self.builds.push((service.clone(), harmless(line, Colour::Off)));
            }
            Event::Waiting { service, what, last, since } => {
                let from = at.saturating_sub(*since);
                self.set(service, Activity::Waiting { what: what.clone(), last: last.clone(), from });
            }
            Event::Ready { service, after } => {
                self.builds.retain(|(name, _)| name != service);
                self.set(service, Activity::Ready { after: *after });
            }
            Event::Seed { target, what, progress, done } => {
                self.seeds.retain(|seed| seed.target != *target);
                if !done {
                    self.seeds.push(Seed { target: target.clone(), what: what.clone(), progress: *progress });
                }
            }
            Event::Bake { key, state, .. } => self.bake(key, state, at),
            Event::ServiceExited { service, code, then, .. } => {
                let doing = match then {
                    AfterExit::Completed => Activity::Completed,
                    AfterExit::Stopped => Activity::Nothing,
                    AfterExit::Restarts => Activity::Step { what: "starting again".into(), from: at },
                    AfterExit::Nothing | AfterExit::Ends => {
                        Activity::Failed { why: format!("exited with {}", messages::exit_code(*code)) }
                    }
                };
                self.set(service, doing);
            }
            Event::Up { name, services, deadline, if_unused, attached, stays, .. } => {
                *self = Self { name: name.clone(), stage: Stage::Up, ..Self::default() };
                self.standing = Some(Standing {
                    address: summary::first_address(services),
                    deadline: *deadline,
                    if_unused: *if_unused,
                    attached: *attached,
                    stays: *stays,
                });
            }
            Event::Changed { name, attached, .. } => {
                let stage = if *attached { Stage::Up } else { Stage::Idle };
                let standing = self.standing.take();
                *self = Self { name: name.clone(), stage, standing, ..Self::default() };
            }
            Event::CommandStarted { .. } => self.stage = Stage::Idle,
            Event::TearingDown { name, .. } => {
                *self = Self { name: name.clone(), stage: Stage::Removing, began: at, ..Self::default() };
            }
            Event::Torn { .. } | Event::Left { .. } | Event::Failed { .. } => *self = Self::default(),
            Event::Plan { .. }
            | Event::Warning { .. }
            | Event::Notice { .. }
            | Event::PortMoved { .. }
            | Event::Welcome { .. }
            | Event::Log { .. }
            | Event::BuildFailed { .. }
            | Event::DeadlineNear { .. } => {}
        }
    }

    /// Updates pulls and transfers.
    fn flow(&mut self, event: &Event) {
        match event {
            Event::Pull { image, layers, bytes, rate, done } => {
                self.pulls.retain(|pull| pull.image != *image);
                let pull = Pull { image: image.clone(), layers: *layers, bytes: *bytes, rate: *rate };
                self.pulls.extend(Some(pull).filter(|_| !done));
                self.pulls.sort_by(|a, b| a.image.cmp(&b.image));
            }
            Event::Transfer { what, bytes, rate, done } => {
                let now = Transfer { what: what.clone(), bytes: *bytes, rate: *rate };
                self.transfer = (!done).then_some(now);
            }
            _ => {}
        }
    }

    fn begin(&mut self, id: &StepId, phase: Phase, what: &str, service: Option<&str>, at: Duration) {
        match service {
            // A service's wait has its own, more detailed event.
            Some(service) if phase != Phase::Ready => {
                self.set(service, Activity::Step { what: what.to_owned(), from: at });
            }
            Some(_) => {}
            // Pulls and seeds have their own lines.
            None if matches!(phase, Phase::Pull | Phase::Seed) => {}
            None => self.steps.push(Step { id: id.clone(), what: what.to_owned(), from: at }),
        }
    }

    fn end(&mut self, id: &StepId, service: Option<&str>) {
        self.steps.retain(|step| step.id != *id);
        let Some(service) = service else { return };
        if let Some(service) = self.services.iter_mut().find(|known| known.name == service)
            && matches!(service.doing, Activity::Step { .. })
        {
            service.doing = Activity::Nothing;
        }
    }

    fn bake(&mut self, key: &str, state: &BakeState, at: Duration) {
        let id = StepId::new("bake", "data");
        self.steps.retain(|step| step.id != id);
        let what = match state {
            BakeState::Started => "making data",
            BakeState::Awaited => "another session bakes the data",
            BakeState::Found | BakeState::Done { .. } => return,
        };
        let key: String = key.chars().take(12).collect();
        self.steps.push(Step { id, what: format!("{what} (baseline {key})"), from: at });
    }

    fn set(&mut self, name: &str, doing: Activity) {
        match self.services.iter_mut().find(|service| service.name == name) {
            Some(service) => service.doing = doing,
            None => self.services.push(Service { name: name.to_owned(), doing }),
        }
    }

    /// The board in at most `rows` lines. If there is too little room, finished entries are left out first.
    pub fn lines(&self, look: OutputStyle, rows: usize, at: Duration, now: Timestamp) -> Vec<String> {
        match self.stage {
            Stage::Idle => self.transferring(look, at).into_iter().collect(),
            Stage::Up => vec![self.status(look, now)],
            Stage::Building | Stage::Removing => self.work(look, rows, at),
        }
    }

    fn status(&self, look: OutputStyle, now: Timestamp) -> String {
        let standing = self.standing.as_ref();
        let address = standing.and_then(|it| it.address.clone());
        let left = standing.and_then(|it| Some(messages::time_left(it.deadline?, it.if_unused, now)));
        let end = standing.filter(|it| it.attached).map(|it| {
            if it.stays {
                "Ctrl-C leaves it up".to_owned()
            } else {
                "Ctrl-C destroys it with its data".to_owned()
            }
        });
        let parts: Vec<_> = address.into_iter().chain(left).chain(end).collect();
        let rest = if parts.is_empty() { String::new() } else { format!("  {}", parts.join(", ")) };
        format!(
            "{} {}{}",
            look.mark(Glyph::Done),
            look.paint(Tint::Strong, &self.name),
            look.paint(Tint::Faint, &rest)
        )
    }

    /// A file transfer in progress.
    fn transferring(&self, look: OutputStyle, at: Duration) -> Option<String> {
        let transfer = self.transfer.as_ref()?;
        let glyph = look.mark(Glyph::Busy(usize::try_from(at.as_millis() / 100).unwrap_or(0)));
        let bar = if transfer.bytes.total > 0 { bar(look, transfer.bytes) } else { String::new() };
        let bytes = messages::progress(transfer.bytes, amount::bytes);
        Some(format!("{glyph} {}  {bar}{bytes}  {}", transfer.what, amount::rate(transfer.rate)))
    }

    fn work(&self, look: OutputStyle, rows: usize, at: Duration) -> Vec<String> {
        let frame = usize::try_from(at.as_millis() / 100).unwrap_or(0);
        let verb = if self.stage == Stage::Removing { "removing" } else { "building" };
        let name = look.paint(Tint::Strong, &self.name);
        let head = format!(
            "{} {verb} {name}  {}",
            look.mark(Glyph::Busy(frame)),
            amount::ticking(at.saturating_sub(self.began))
        );
        let mut busy = Vec::new();
        let mut settled = Vec::new();
        let width = self.column();
        for pull in &self.pulls {
            busy.push(row(look, Glyph::Busy(frame), &pull.image, width, &pulling(look, pull)));
        }
        busy.extend(self.transferring(look, at).map(|line| format!("  {line}")));
        for step in &self.steps {
            busy.push(format!(
                "  {} {} {}",
                look.mark(Glyph::Busy(frame)),
                step.what,
                since(look, step.from, at)
            ));
        }
        for seed in &self.seeds {
            let far = seed
                .progress
                .map(|p| format!("  {}", messages::progress(p, |n| n.to_string())))
                .unwrap_or_default();
            busy.push(row(
                look,
                Glyph::Busy(frame),
                &seed.target,
                width,
                &format!("seed {}{far}", seed.what),
            ));
        }
        for service in &self.services {
            let (glyph, text) = self.service(look, service, frame, at);
            let line = row(look, glyph, &service.name, width, &text);
            if matches!(glyph, Glyph::Busy(_) | Glyph::Failed) { busy.push(line) } else { settled.push(line) }
        }
        fit(look, head, busy, settled, rows)
    }

    fn column(&self) -> usize {
        let names = self.services.iter().map(|service| &service.name);
        let images = self.pulls.iter().map(|pull| &pull.image);
        names.chain(images).map(|name| console::measure_text_width(name)).max().unwrap_or(0).min(32)
    }

    fn service(&self, look: OutputStyle, service: &Service, frame: usize, at: Duration) -> (Glyph, String) {
        match &service.doing {
            Activity::Nothing => (Glyph::Pending, String::new()),
            Activity::Step { what, from } => {
                let last = self.builds.iter().find(|(name, _)| *name == service.name).map(|(_, line)| line);
                let tail = last.map(|line| look.paint(Tint::Faint, &format!("  {line}"))).unwrap_or_default();
                (Glyph::Busy(frame), format!("{what} {}{tail}", since(look, *from, at)))
            }
            Activity::Waiting { what, last, from } => {
                let last = last
                    .as_ref()
                    .map(|last| look.paint(Tint::Faint, &format!("  {last}")))
                    .unwrap_or_default();
                (Glyph::Busy(frame), format!("waits for {what} {}{last}", since(look, *from, at)))
            }
            Activity::Ready { after } => {
                (Glyph::Done, look.paint(Tint::Faint, &format!("ready after {}", amount::duration(*after))))
            }
            Activity::Completed => (Glyph::Done, look.paint(Tint::Faint, "completed")),
            Activity::Failed { why } => (Glyph::Failed, look.paint(Tint::Bad, why)),
        }
    }
}

fn row(look: OutputStyle, glyph: Glyph, name: &str, width: usize, text: &str) -> String {
    let name = pad_str(name, width, Alignment::Left, Some("…"));
    format!("  {} {name}  {text}", look.mark(glyph)).trim_end().to_owned()
}

fn since(look: OutputStyle, from: Duration, at: Duration) -> String {
    let length = at.saturating_sub(from);
    if length.as_secs() == 0 { String::new() } else { look.paint(Tint::Faint, &amount::ticking(length)) }
}

fn pulling(look: OutputStyle, pull: &Pull) -> String {
    let bar = if pull.bytes.total > 0 { bar(look, pull.bytes) } else { String::new() };
    let bytes = messages::progress(pull.bytes, amount::bytes);
    let layers = messages::progress(pull.layers, |n| n.to_string());
    let rate = if pull.rate > 0 { format!("  {}", amount::rate(pull.rate)) } else { String::new() };
    format!("{bar}{bytes}{rate}  {}", look.paint(Tint::Faint, &format!("layers {layers}")))
}

const BAR: u64 = 16;

fn bar(look: OutputStyle, of: Progress) -> String {
    let full = (of.done.min(of.total) * BAR / of.total.max(1)).min(BAR);
    let (on, off) = match look.glyphs {
        crate::report::style::Glyphs::Unicode => ("━", "─"),
        crate::report::style::Glyphs::Ascii => ("#", "-"),
    };
    let length = |n: u64| usize::try_from(n).unwrap_or(0);
    let done = look.paint(Tint::Busy, &on.repeat(length(full)));
    let rest = look.paint(Tint::Faint, &off.repeat(length(BAR - full)));
    format!("{done}{rest}  ")
}

/// Fits the lines into `rows`, and shows how many are left out.
fn fit(look: OutputStyle, head: String, busy: Vec<String>, settled: Vec<String>, rows: usize) -> Vec<String> {
    let room = rows.saturating_sub(2).max(1);
    let total = busy.len() + settled.len();
    let mut lines: Vec<String> = std::iter::once(head).collect();
    if total <= room {
        lines.extend(busy.into_iter().chain(settled));
        return lines;
    }
    lines.extend(busy.into_iter().chain(settled).take(room - 1));
    let more = total + 1 - lines.len();
    lines.push(look.paint(Tint::Faint, &format!("    and {more} more")));
    lines
}
