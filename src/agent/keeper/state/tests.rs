//! Tests of the state machine: events in, actions out, without a process or an engine.

mod changes;
mod interleavings;
mod resume;

use super::*;
use crate::agent::protocol::LeftObject;
use crate::agent::protocol::{
    Destroyed, End, Extension, LeaseRequest, Lifetime, Notice, Outcome, Record, Refusal, RefusalKind,
    RequestKind,
};

const CLIENT: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A keeper with a fake clock. Its actions are performed at once: records are saved and destructions succeed, though a
/// test can delay them.
struct Harness {
    state: State,
    now: Clocks,
    volume: BTreeMap<SandboxId, StoredSandbox>,
    /// The sandboxes of which the engine has objects.
    engine: BTreeMap<SandboxId, (SandboxName, Option<Timestamp>)>,
    destroyed: Vec<(SandboxId, Reason)>,
    said: Vec<Action>,
    /// The destructions in progress, if they are delayed.
    under_way: Option<Vec<SandboxId>>,
}

impl Harness {
    fn new() -> Self {
        let now = Clocks { mono: seconds(1), wall: Timestamp::from_second(1_800_000_000).unwrap() };
        Self {
            state: fresh(now),
            now,
            volume: BTreeMap::new(),
            engine: BTreeMap::new(),
            destroyed: Vec::new(),
            said: Vec::new(),
            under_way: None,
        }
    }

    fn take(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.state.handle(self.now, event) {
                self.perform(action, &mut events);
            }
        }
    }

    fn perform(&mut self, action: Action, events: &mut Vec<Event>) {
        match &action {
            Action::Save(kept) => drop(self.volume.insert(kept.terms.sandbox.clone(), kept.clone())),
            Action::Forget(sandbox) => drop(self.volume.remove(sandbox)),
            Action::Destroy { sandbox, .. } => match &mut self.under_way {
                Some(under_way) => under_way.push(sandbox.clone()),
                None => events.push(self.destroy(sandbox)),
            },
            Action::AskUse { sandbox, .. } => events.push(Event::Use(sandbox.clone(), None)),
            Action::Log(Record {
                sandbox: Some(sandbox),
                what: RecordKind::Destroyed { reason, .. },
                ..
            }) => {
                self.destroyed.push((sandbox.clone(), *reason));
            }
            Action::Hangup(client) => events.push(Event::Disconnected(*client)),
            Action::Look => events.push(Event::Found(self.look())),
            _ => {}
        }
        self.said.push(action);
    }

    fn destroy(&mut self, sandbox: &SandboxId) -> Event {
        let removed = self.engine.remove(sandbox).map(|_| ("container".to_owned(), 1)).into_iter().collect();
        Event::Destroyed(sandbox.clone(), Destroyed { removed, left: Vec::new() })
    }

    /// Completes the destructions in progress.
    fn finish(&mut self) {
        for sandbox in self.under_way.take().unwrap_or_default() {
            let destroyed = self.destroy(&sandbox);
            self.take(destroyed);
        }
    }

    fn look(&self) -> Vec<Discovered> {
        let mut found: BTreeMap<_, _> = BTreeMap::new();
        for (id, (name, expires)) in &self.engine {
            let it = Discovered {
                name: name.clone(),
                sandbox: id.clone(),
                expires: *expires,
                kept: None,
                exists: true,
            };
            found.insert(id.clone(), it);
        }
        for (id, kept) in &self.volume {
            let name = kept.terms.name.clone();
            let bare = Discovered { name, sandbox: id.clone(), expires: None, kept: None, exists: false };
            found.entry(id.clone()).or_insert(bare).kept = Some(kept.clone());
        }
        found.into_values().collect()
    }

    /// Advances both clocks, with an alarm whenever the keeper asked for one.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        for _ in 0..10_000 {
            let alarms = self.state.alarms();
            let by_wall = alarms.wall.map(|at| {
                self.now.mono + Duration::try_from(at.duration_since(self.now.wall)).unwrap_or_default()
            });
            let next = [alarms.mono, by_wall].into_iter().flatten().min().filter(|at| *at <= end);
            let to = next.unwrap_or(end).max(self.now.mono);
            self.now.wall = self.now.wall.checked_add(to.saturating_sub(self.now.mono)).unwrap();
            self.now.mono = to;
            if next.is_none() {
                return;
            }
            self.take(Event::Alarm);
        }
        panic!("the keeper wakes up for nothing: {:?} at {:?}", self.state.alarms(), self.now);
    }

    /// The machine sleeps: only the wall clock advances.
    fn sleep(&mut self, time: Duration) {
        self.now.wall = self.now.wall.checked_add(time).unwrap();
        self.take(Event::Alarm);
    }

    fn restart(&mut self) {
        self.now.mono += seconds(1);
        self.state = fresh(self.now);
        self.under_way = self.under_way.take().map(|_| Vec::new());
        let found = self.look();
        self.take(Event::Found(found));
    }

    fn ask(&mut self, client: ConnectionId, ask: RequestKind) -> Outcome {
        self.said.clear();
        self.take(Event::Asked(client, 7, ask));
        let mut replies = self.said.iter().filter_map(|it| match it {
            Action::Reply(to, 7, outcome) if *to == client => Some(outcome.clone()),
            _ => None,
        });
        replies.next_back().unwrap_or(Outcome::Ok(serde_json::Value::Null))
    }

    fn lease(&mut self, client: ConnectionId, terms: LeaseRequest) -> Outcome {
        self.take(Event::Connected(client));
        self.engine.insert(terms.sandbox.clone(), (terms.name.clone(), None));
        self.ask(client, RequestKind::Lease(terms))
    }

    fn holds(&self, id: &SandboxId) -> Option<LeaseStatus> {
        self.state.standings().into_iter().find(|it| it.sandbox == *id).map(|it| it.hold)
    }

    fn ended(&self, id: &SandboxId) -> Option<Reason> {
        self.destroyed.iter().find(|(it, _)| it == id).map(|(_, reason)| *reason)
    }
}

fn fresh(now: Clocks) -> State {
    let greeting = Greeting::default();
    State::new(greeting, LINGER, now)
}

fn id(number: u8) -> SandboxId {
    format!("{number:012x}").parse().unwrap()
}

fn name() -> SandboxName {
    "shop".parse().unwrap()
}

fn terms(number: u8) -> LeaseRequest {
    let lifetime = Lifetime::default();
    LeaseRequest {
        name: name(),
        sandbox: id(number),
        grace: seconds(10),
        lifetime,
        again: false,
        changing: false,
        client: 0,
    }
}

#[test]
fn a_lost_lease_destroys_after_grace_and_not_before() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(9));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Lost));
    bench.pass(seconds(1));
    assert_eq!(bench.ended(&id(1)), Some(Reason::LeaseLost));
    assert!(bench.volume.is_empty());
}

#[test]
fn a_lease_that_broke_is_taken_up_within_grace() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(9));
    bench.lease(OTHER, LeaseRequest { again: true, ..terms(1) });
    bench.pass(seconds(30));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Held));
}

#[test]
fn a_lease_that_broke_too_long_ago_is_not_taken_up() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(60));
    let outcome = bench.lease(OTHER, LeaseRequest { again: true, ..terms(1) });
    assert!(
        matches!(outcome, Outcome::Error(Refusal { kind: RefusalKind::NoSuchSandbox, .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_minute_of_silence_is_a_loss_but_not_while_the_machine_sleeps() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.sleep(seconds(3600));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Held));
    bench.pass(seconds(61));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Lost));
    assert!(bench.said.contains(&Action::Hangup(CLIENT)));
}

#[test]
fn silence_that_was_announced_is_no_loss() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Suspend);
    bench.pass(seconds(3600));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Suspended));
    bench.ask(CLIENT, RequestKind::Resume);
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Held));
}

#[test]
fn a_detached_sandbox_without_an_end_lives_four_hours_after_its_last_use() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Detach { sandbox: id(1), lifetime: Lifetime::default() });
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(3 * 3600));
    bench.ask(OTHER, RequestKind::Touch { name: name() });
    bench.pass(seconds(4 * 3600 - 1));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Detached));
    bench.pass(seconds(1));
    assert_eq!(bench.ended(&id(1)), Some(Reason::Idle));
}

#[test]
fn a_machine_that_slept_past_the_deadline_destroys_on_waking() {
    let mut bench = Harness::new();
    let until = Some(bench.now.wall + seconds(3600));
    bench.lease(CLIENT, LeaseRequest { lifetime: Lifetime { until, ..Lifetime::default() }, ..terms(1) });
    bench.sleep(seconds(3601));
    assert_eq!(bench.ended(&id(1)), Some(Reason::Ttl));
}

#[test]
fn a_clock_that_jumps_forward_ends_what_it_jumped_past_and_breaks_no_lease() {
    let mut bench = Harness::new();
    bench.take(Event::Connected(CLIENT));
    bench.lease(CLIENT, terms(1));
    bench.lease(CLIENT, LeaseRequest { name: "other".parse().unwrap(), ..terms(2) });
    let until = bench.now.wall.checked_add(seconds(3600)).unwrap();
    bench.ask(
        CLIENT,
        RequestKind::Detach {
            sandbox: id(2),
            lifetime: Lifetime { until: Some(until), ..Lifetime::default() },
        },
    );

    bench.now.wall = bench.now.wall.checked_add(seconds(24 * 3600)).unwrap();
    bench.take(Event::Alarm);

    assert_eq!(bench.ended(&id(2)), Some(Reason::Ttl));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Held));
}

#[test]
fn the_holder_is_warned_at_ten_minutes_and_at_one() {
    let mut bench = Harness::new();
    let until = Some(bench.now.wall + seconds(3600));
    bench.lease(CLIENT, LeaseRequest { lifetime: Lifetime { until, ..Lifetime::default() }, ..terms(1) });
    bench.said.clear();
    for _ in 0..71 {
        bench.pass(seconds(50));
        bench.take(Event::Asked(CLIENT, 9, RequestKind::Heartbeat));
    }
    let warnings = bench.said.iter().filter(|it| matches!(it, Action::Notify(_, Notice::EndsSoon { .. })));
    assert_eq!(warnings.count(), 2);
}

#[test]
fn a_restarted_keeper_gives_every_lease_its_grace_again() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.pass(seconds(30));
    bench.restart();
    bench.pass(seconds(9));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Lost));
    bench.pass(seconds(2));
    assert_eq!(bench.ended(&id(1)), Some(Reason::LeaseLost));
}

#[test]
fn without_its_record_a_sandbox_lives_to_the_deadline_on_its_label() {
    let mut bench = Harness::new();
    let expires = bench.now.wall + seconds(100);
    bench.engine.insert(id(1), (name(), Some(expires)));
    bench.restart();
    bench.pass(seconds(98));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Detached));
    bench.pass(seconds(2));
    assert_eq!(bench.ended(&id(1)), Some(Reason::Ttl));
}

#[test]
fn a_create_that_lands_after_the_destruction_is_caught() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(10));
    bench.engine.insert(id(1), (name(), None));
    bench.pass(seconds(2));
    assert!(bench.engine.is_empty());
}

#[test]
fn of_two_sessions_of_one_name_the_second_is_refused() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let outcome = bench.lease(OTHER, terms(2));
    assert!(matches!(outcome, Outcome::Error(Refusal { kind: RefusalKind::Held, .. })), "{outcome:?}");
}

#[test]
fn a_sandbox_that_is_held_elsewhere_goes_down_and_its_holder_is_told() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::Destroy { name: name(), reason: Reason::Down });
    assert_eq!(bench.ended(&id(1)), Some(Reason::Down));
    let told =
        |it: &Action| matches!(it, Action::Notify(CLIENT, Notice::Ending { reason: Reason::Down, .. }));
    assert!(bench.said.iter().any(told));
}

#[test]
fn it_leaves_ten_minutes_after_the_last_sandbox() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Release { sandbox: id(1), reason: Reason::SessionEnded });
    bench.take(Event::Disconnected(CLIENT));
    bench.pass(seconds(599));
    assert!(!bench.said.contains(&Action::Leave));
    bench.pass(seconds(1));
    assert!(bench.said.contains(&Action::Leave));
}

#[test]
fn one_that_is_not_to_linger_waits_for_its_first_client_all_the_same() {
    let mut bench = Harness::new();
    bench.state = State::new(fresh(bench.now).greeting, Duration::ZERO, bench.now);
    bench.pass(seconds(5));
    assert!(!bench.said.contains(&Action::Leave));
    bench.take(Event::Connected(CLIENT));
    bench.take(Event::Disconnected(CLIENT));
    assert!(bench.said.contains(&Action::Leave));
}

#[test]
fn a_retiring_keeper_takes_nothing_new_and_forgets_nothing() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::Retire);
    assert!(bench.said.contains(&Action::Leave));
    let outcome = bench.ask(CLIENT, RequestKind::Touch { name: name() });
    assert!(matches!(outcome, Outcome::Error(Refusal { kind: RefusalKind::Retiring, .. })), "{outcome:?}");
    assert!(bench.volume.contains_key(&id(1)));
}

#[test]
fn what_could_not_be_removed_is_tried_again_later() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let left =
        LeftObject { kind: "network".to_owned(), name: "sbx-shop".to_owned(), cause: "in use".to_owned() };
    let failed = Destroyed { removed: BTreeMap::new(), left: vec![left] };
    let release = RequestKind::Release { sandbox: id(1), reason: Reason::SessionEnded };
    let _ = bench.state.handle(bench.now, Event::Asked(CLIENT, 1, release));
    bench.take(Event::Destroyed(id(1), failed));
    assert!(!bench.engine.is_empty());
    bench.pass(seconds(10));
    assert!(bench.engine.is_empty());
}

#[test]
fn what_could_not_be_removed_is_tried_again_when_the_name_is_destroyed_once_more() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let left = LeftObject { kind: "path".to_owned(), name: "data".to_owned(), cause: "busy".to_owned() };
    let failed = Destroyed { removed: BTreeMap::new(), left: vec![left] };
    let release = RequestKind::Release { sandbox: id(1), reason: Reason::Down };
    let _ = bench.state.handle(bench.now, Event::Asked(CLIENT, 1, release));
    bench.take(Event::Destroyed(id(1), failed.clone()));
    bench.engine.clear();

    let again = RequestKind::Destroy { name: name(), reason: Reason::Down };
    let todo = bench.state.handle(bench.now, Event::Asked(CLIENT, 2, again.clone()));
    assert!(
        todo.iter().any(|it| matches!(it, Action::Destroy { sandbox, .. } if *sandbox == id(1))),
        "{todo:?}"
    );
    let todo = bench.state.handle(bench.now, Event::Destroyed(id(1), failed));
    let told = |action: &Action| matches!(action, Action::Reply(CLIENT, 2, Outcome::Ok(answer)) if answer["left"][0]["cause"] == "busy");
    assert!(todo.iter().any(told), "{todo:?}");

    let outcome = bench.ask(CLIENT, again);
    assert!(matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
    let outcome = bench.ask(CLIENT, RequestKind::Destroy { name: name(), reason: Reason::Down });
    assert!(
        matches!(outcome, Outcome::Error(Refusal { kind: RefusalKind::NoSuchSandbox, .. })),
        "{outcome:?}"
    );
}

#[test]
fn who_holds_a_sandbox_is_told_who_ran_out_of_memory_and_whose_limit_that_was() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let limits = Limits { memory: Some(1 << 28), ..Limits::default() };
    bench.take(Event::Limited(id(1), limits.clone()));
    assert_eq!(bench.state.standings()[0].limits, Some(limits));
    let mut told = |container: &str, starved| {
        bench.said.clear();
        bench.take(Event::Diagnosed(id(1), container.to_owned(), starved));
        bench.said.iter().find_map(|action| match action {
            Action::Notify(CLIENT, Notice::OutOfMemory { container, limit, .. }) => {
                Some((container.clone(), *limit))
            }
            _ => None,
        })
    };
    let of = |name: &str, limit| Some((name.to_owned(), limit));
    assert_eq!(told("db", Starved { shared: true, killed: Some(1) }), of("db", Some(1 << 28)));
    assert_eq!(told("web", Starved { shared: false, killed: None }), of("web", None));
    // The engine names all containers of a cgroup, whichever lost a process.
    assert_eq!(told("cache", Starved { shared: true, killed: Some(0) }), None);
}

#[test]
fn a_group_s_limits_outlive_the_keeper_and_go_with_the_sandbox() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let limits = Limits { pids: Some(50), ..Limits::default() };
    bench.take(Event::Limited(id(1), limits.clone()));
    bench.restart();
    assert_eq!(bench.state.standings()[0].limits, Some(limits.clone()));
    bench.lease(OTHER, LeaseRequest { again: true, ..terms(1) });
    bench.ask(OTHER, RequestKind::Release { sandbox: id(1), reason: Reason::SessionEnded });
    assert!(bench.volume.is_empty());
    let refused = bench.ask(OTHER, RequestKind::Limit { sandbox: id(1), limits });
    assert!(
        matches!(refused, Outcome::Error(Refusal { kind: RefusalKind::NoSuchSandbox, .. })),
        "{refused:?}"
    );
}
