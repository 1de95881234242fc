//! Properties that hold for every sequence of events.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Lease(u8, Option<u64>),
    TakeUp(u8),
    Change(u8),
    Relinquish(u8),
    BeginDestroy(u8),
    Drop,
    Detach(u8, Option<u64>),
    Extend(u64),
    Touch,
    Suspend,
    Resume,
    Heartbeat,
    Release(u8),
    Down,
    TakeTime,
    Finish,
    Pass(u64),
    Sleep(u64),
    Restart,
    LoseRecords,
    LateCreate(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 1_u8..4;
    let end = prop::option::of(1_u64..5_000);
    prop_oneof![
        (number.clone(), end.clone()).prop_map(|(id, end)| Step::Lease(id, end)),
        number.clone().prop_map(Step::TakeUp),
        number.clone().prop_map(Step::Change),
        number.clone().prop_map(Step::Relinquish),
        number.clone().prop_map(Step::BeginDestroy),
        Just(Step::Drop),
        (number.clone(), end).prop_map(|(id, end)| Step::Detach(id, end)),
        (1_u64..5_000).prop_map(Step::Extend),
        Just(Step::Touch),
        Just(Step::Suspend),
        Just(Step::Resume),
        Just(Step::Heartbeat),
        number.clone().prop_map(Step::Release),
        Just(Step::Down),
        Just(Step::TakeTime),
        Just(Step::Finish),
        (1_u64..90).prop_map(Step::Pass),
        (1_u64..20_000).prop_map(Step::Sleep),
        Just(Step::Restart),
        Just(Step::LoseRecords),
        number.prop_map(Step::LateCreate),
    ]
}

impl Harness {
    fn step(&mut self, step: &Step) {
        let lifetime = |bench: &Self, end: &Option<u64>| Lifetime {
            until: end.map(|it| bench.now.wall + seconds(it)),
            ..Lifetime::default()
        };
        match step {
            Step::Lease(number, end) => {
                let terms = LeaseRequest { lifetime: lifetime(self, end), ..terms(*number) };
                self.lease(CLIENT, terms);
            }
            Step::TakeUp(number) => {
                self.take(Event::Connected(OTHER));
                self.ask(OTHER, RequestKind::Lease(LeaseRequest { again: true, ..terms(*number) }));
            }
            Step::Change(number) => {
                self.take(Event::Connected(OTHER));
                self.ask(
                    OTHER,
                    RequestKind::Lease(LeaseRequest {
                        again: true,
                        changing: true,
                        client: 2,
                        ..terms(*number)
                    }),
                );
            }
            Step::Relinquish(number) => {
                drop(self.ask(OTHER, RequestKind::Relinquish { sandbox: id(*number) }));
            }
            Step::BeginDestroy(number) => {
                self.take(Event::Connected(OTHER));
                self.ask(OTHER, RequestKind::BeginDestroy { sandbox: id(*number), reason: Reason::Down });
            }
            Step::Drop => {
                self.take(Event::Disconnected(CLIENT));
                self.take(Event::Disconnected(OTHER));
            }
            Step::Detach(number, end) => {
                let ask = RequestKind::Detach { sandbox: id(*number), lifetime: lifetime(self, end) };
                self.ask(CLIENT, ask);
            }
            Step::Extend(by) => {
                let until = self.now.wall + seconds(*by);
                self.ask(OTHER, RequestKind::Extend { name: name(), how: Extension::To(until) });
            }
            Step::Touch => drop(self.ask(OTHER, RequestKind::Touch { name: name() })),
            Step::Suspend => drop(self.ask(CLIENT, RequestKind::Suspend)),
            Step::Resume => drop(self.ask(CLIENT, RequestKind::Resume)),
            Step::Heartbeat => drop(self.ask(CLIENT, RequestKind::Heartbeat)),
            Step::Release(number) => {
                self.ask(CLIENT, RequestKind::Release { sandbox: id(*number), reason: Reason::SessionEnded });
            }
            Step::Down => drop(self.ask(OTHER, RequestKind::Destroy { name: name(), reason: Reason::Down })),
            Step::TakeTime => drop(self.under_way.get_or_insert_default()),
            Step::Finish => self.finish(),
            Step::Pass(time) => self.pass(seconds(*time)),
            Step::Sleep(time) => self.sleep(seconds(*time)),
            Step::Restart => self.restart(),
            Step::LoseRecords => self.volume.clear(),
            Step::LateCreate(number) => {
                self.engine.insert(id(*number), (name(), None));
                self.take(Event::Appeared(id(*number)));
            }
        }
    }
}

proptest! {
    /// For every sequence of events: a sandbox is not destroyed by time while it is held, detached with time left, or
    /// lost for less than its grace; and once every client is gone, everything is destroyed eventually.
    #[test]
    fn nothing_ends_too_early_and_nothing_stays(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Harness::new();
        for step in &steps {
            let before = bench.state.standings();
            let (ended_before, begun) = (bench.destroyed.len(), bench.now);
            bench.step(step);
            if matches!(step, Step::Pass(_) | Step::Sleep(_)) {
                for (sandbox, reason) in &bench.destroyed[ended_before..] {
                    let stood = before.iter().find(|it| it.sandbox == *sandbox);
                    let Some(stood) = stood.filter(|it| it.hold != LeaseStatus::Ending) else { continue };
                    let over = stood.ends.is_some_and(|ends| ends <= bench.now.wall);
                    let lost = stood.hold == LeaseStatus::Lost || bench.now.mono.saturating_sub(begun.mono) >= seconds(10);
                    prop_assert!(over || (lost && *reason == Reason::LeaseLost), "{stood:?} ended for {reason:?}");
                }
            }
            for standing in bench.state.standings() {
                let overdue = standing.ends.is_some_and(|ends| ends <= bench.now.wall);
                prop_assert!(!overdue || standing.hold == LeaseStatus::Ending, "{standing:?} is overdue after {step:?}");
            }
        }
        bench.step(&Step::Drop);
        bench.restart();
        bench.finish();
        bench.pass(seconds(6 * 3600));
        prop_assert!(bench.engine.is_empty(), "left: {:?}", bench.engine);
        prop_assert!(bench.state.standings().is_empty());
        prop_assert!(bench.said.contains(&Action::Leave), "it never left");
    }
}
