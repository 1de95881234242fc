//! Clients that change, destroy or stop an existing sandbox, or reconnect after it has changed.

use super::*;

/// A detached sandbox that a client has begun to change.
fn changed() -> Harness {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let until = Some(bench.now.wall + seconds(3_600));
    bench.ask(
        CLIENT,
        RequestKind::Detach { sandbox: id(1), lifetime: Lifetime { until, ..Lifetime::default() } },
    );
    bench.take(Event::Disconnected(CLIENT));
    bench.lease(OTHER, LeaseRequest { again: true, changing: true, client: 2, ..terms(1) });
    bench
}

fn ends(bench: &Harness) -> Option<Timestamp> {
    bench.state.standings().first().and_then(|it| it.ends)
}

#[test]
fn a_detached_sandbox_outlives_the_client_that_changes_it() {
    let mut bench = changed();
    let until = ends(&bench);
    bench.take(Event::Disconnected(OTHER));
    bench.pass(seconds(600));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Detached));
    assert_eq!(ends(&bench), until);
    bench.pass(seconds(3_600));
    assert_eq!(bench.ended(&id(1)), Some(Reason::Ttl));
}

#[test]
fn one_that_was_being_changed_is_given_back_with_the_time_that_it_had() {
    let mut bench = changed();
    let until = ends(&bench);
    bench.ask(OTHER, RequestKind::Relinquish { sandbox: id(1) });
    assert_eq!((bench.holds(&id(1)), ends(&bench)), (Some(LeaseStatus::Detached), until));
}

#[test]
fn one_that_is_being_changed_outlives_the_keeper_too() {
    let mut bench = changed();
    bench.restart();
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Detached));
    bench.lease(OTHER, LeaseRequest { again: true, changing: true, client: 2, ..terms(1) });
    bench.lease(OTHER, LeaseRequest { again: true, client: 2, ..terms(1) });
    assert_eq!(ends(&bench), None);
    bench.take(Event::Disconnected(OTHER));
    bench.pass(seconds(10));
    assert_eq!(bench.ended(&id(1)), Some(Reason::LeaseLost));
}

#[test]
fn one_that_one_client_changes_is_not_another_ones() {
    let mut bench = changed();
    let outcome = bench.lease(CLIENT, LeaseRequest { again: true, changing: true, client: 1, ..terms(1) });
    assert!(matches!(outcome, Outcome::Error(Refusal { kind: RefusalKind::Held, .. })), "{outcome:?}");
    // The same client on another connection; the keeper has not noticed yet that the old one broke.
    let outcome = bench.lease(CLIENT, LeaseRequest { again: true, changing: true, client: 2, ..terms(1) });
    assert!(matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
}

#[test]
fn what_a_client_was_about_to_destroy_goes_when_it_goes() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Detach { sandbox: id(1), lifetime: Lifetime::default() });
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::BeginDestroy { sandbox: id(1), reason: Reason::Down });
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Ending));
    assert_eq!(bench.ended(&id(1)), None);
    bench.take(Event::Disconnected(OTHER));
    assert_eq!(bench.ended(&id(1)), Some(Reason::Down));
}

#[test]
fn what_is_being_destroyed_is_destroyed_by_the_next_keeper() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Detach { sandbox: id(1), lifetime: Lifetime::default() });
    bench.under_way = Some(Vec::new());
    bench.ask(OTHER, RequestKind::Destroy { name: name(), reason: Reason::Down });
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Ending));
    bench.restart();
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Ending));
    bench.finish();
    assert_eq!(bench.ended(&id(1)), Some(Reason::Down));
    assert!(bench.volume.is_empty());
}

#[test]
fn a_heartbeat_that_was_under_way_does_not_wake_a_client_that_is_stopped() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Suspend);
    bench.ask(CLIENT, RequestKind::Heartbeat);
    bench.pass(seconds(3_600));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Suspended));
    bench.ask(CLIENT, RequestKind::Resume);
    bench.pass(seconds(80));
    assert_eq!(bench.ended(&id(1)), Some(Reason::LeaseLost));
}

#[test]
fn a_client_that_is_stopped_keeps_its_sandbox_over_a_new_keeper_for_a_while() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.ask(CLIENT, RequestKind::Suspend);
    bench.restart();
    bench.pass(seconds(3_600));
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Detached));
    bench.lease(CLIENT, LeaseRequest { again: true, ..terms(1) });
    assert_eq!(bench.holds(&id(1)), Some(LeaseStatus::Held));
    bench.ask(CLIENT, RequestKind::Suspend);
    bench.take(Event::Disconnected(CLIENT));
    bench.restart();
    bench.pass(seconds(10));
    assert_eq!(bench.ended(&id(1)), Some(Reason::LeaseLost));
}

#[test]
fn who_takes_a_lease_up_hears_of_a_deadline_that_was_moved() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Disconnected(CLIENT));
    let until = bench.now.wall + seconds(7_200);
    bench.ask(OTHER, RequestKind::Extend { name: name(), how: Extension::To(until) });
    bench.lease(CLIENT, LeaseRequest { again: true, ..terms(1) });
    let moved = Action::Notify(
        CLIENT,
        Notice::EndMoved { sandbox: id(1), end: End { at: until, unless_used: false }, by_use: false },
    );
    assert_eq!(bench.said.last(), Some(&moved));
}
