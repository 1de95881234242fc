//! Services that the keeper starts again: those that exited, and those that a disconnected client had stopped.

use super::*;
use crate::agent::protocol::ExitAction;
use crate::spec::RestartPolicy;

const WEB: &str = "sbx-shop.web";

fn web() -> Vec<String> {
    vec![WEB.to_owned()]
}

fn death(stopped: bool) -> Death {
    let (service, container) = ("web".to_owned(), WEB.to_owned());
    Death { sandbox: id(1), service, container, code: 1, policy: RestartPolicy::Always, stopped }
}

impl Harness {
    fn dies(&mut self) {
        self.said.clear();
        self.take(Event::Died(death(false)));
    }

    fn starts(&self) -> bool {
        self.said.iter().any(|action| matches!(action, Action::Start(_)))
    }

    fn is_started(&mut self) {
        self.take(Event::Started { sandbox: id(1), container: WEB.to_owned(), faulty: false });
    }

    /// The actions after a lost connection: the containers to resume, and those to check.
    fn leaves(&mut self, client: ConnectionId) -> (Vec<String>, Vec<String>) {
        self.said.clear();
        self.take(Event::Disconnected(client));
        let part = self.said.iter().find_map(|action| match action {
            Action::Part { client: it, still, rested } if *it == client => {
                Some((still.clone(), rested.clone()))
            }
            _ => None,
        });
        part.unwrap()
    }

    /// What the next keeper reads.
    fn remembered(&self) -> Remembered {
        let mut all = self.said.iter().rev().filter_map(|action| match action {
            Action::Remember(remembered) => Some(remembered.clone()),
            _ => None,
        });
        all.next().unwrap()
    }
}

#[test]
fn a_service_is_started_again_whether_its_sandbox_is_held_lost_or_detached() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let lose: fn(&mut Harness) = |bench| bench.take(Event::Disconnected(CLIENT));
    let detach: fn(&mut Harness) = |bench| {
        bench.lease(CLIENT, LeaseRequest { again: true, ..terms(1) });
        let lifetime = Lifetime::default();
        bench.ask(CLIENT, RequestKind::Detach { sandbox: id(1), lifetime });
    };
    for change in [|_: &mut Harness| (), lose, detach] {
        change(&mut bench);
        bench.dies();
        assert!(!bench.starts());
        bench.pass(seconds(1));
        assert!(bench.starts(), "{:?}", bench.holds(&id(1)));
        bench.is_started();
    }
}

#[test]
fn who_holds_a_sandbox_is_told_who_ended_and_what_follows() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    let mut fate = |death| {
        bench.said.clear();
        bench.take(Event::Died(death));
        let restarts = bench.state.standings()[0].restarts;
        let told = bench.said.iter().find_map(|action| match action {
            Action::Notify(CLIENT, Notice::Exited { fate, .. }) => Some((*fate, restarts)),
            _ => None,
        });
        told.unwrap()
    };
    assert_eq!(fate(death(false)), (ExitAction::Restarts, 1));
    assert_eq!(fate(death(true)), (ExitAction::Stopped, 0));
    assert_eq!(fate(Death { policy: RestartPolicy::No, ..death(false) }), (ExitAction::Stays, 0));
}

#[test]
fn nothing_is_started_again_of_a_sandbox_that_ends() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.dies();
    let release = RequestKind::Release { sandbox: id(1), reason: Reason::SessionEnded };
    let _ = bench.state.handle(bench.now, Event::Asked(CLIENT, 1, release));
    bench.dies();
    bench.pass(seconds(5));
    assert!(!bench.starts());
}

#[test]
fn a_deliberate_stop_lasts_until_a_user_starts_the_container() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.dies();
    let waited = bench.ask(OTHER, RequestKind::SuppressRestart { containers: web() });
    assert_eq!(waited, Outcome::Ok(serde_json::json!([WEB])));
    bench.pass(seconds(5));
    assert!(!bench.starts());
    bench.is_started();
    bench.dies();
    bench.pass(seconds(1));
    assert!(bench.starts());
}

#[test]
fn what_a_client_wanted_to_stop_and_has_not_is_no_longer_at_rest_once_it_is_gone() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::SuppressRestart { containers: web() });
    assert_eq!(bench.leaves(OTHER), (Vec::new(), web()));
    bench.dies();
    bench.pass(seconds(1));
    assert!(!bench.starts());
    // The check finds it running.
    bench.take(Event::Awake(web()));
    bench.dies();
    bench.pass(seconds(1));
    assert!(bench.starts());
}

#[test]
fn what_a_lost_client_kept_still_goes_on_and_is_known_to_the_next_keeper_until_then() {
    let mut bench = Harness::new();
    for client in [CLIENT, OTHER] {
        bench.take(Event::Connected(client));
        bench.ask(client, RequestKind::Still { containers: web(), again: false });
    }
    bench.ask(CLIENT, RequestKind::Still { containers: Vec::new(), again: false });
    assert_eq!(bench.leaves(CLIENT), (Vec::new(), Vec::new()));
    assert_eq!(bench.leaves(OTHER), (web(), Vec::new()));
    bench.take(Event::WentOn(web()));
    assert!(bench.remembered().still.is_empty());
}

#[test]
fn a_client_that_keeps_something_still_and_is_silent_is_lost() {
    let mut bench = Harness::new();
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::Still { containers: web(), again: false });
    bench.pass(SILENCE + seconds(1));
    assert!(bench.said.contains(&Action::Hangup(OTHER)));
}

#[test]
fn the_next_keeper_goes_on_where_this_one_ended() {
    let mut bench = Harness::new();
    bench.lease(CLIENT, terms(1));
    bench.take(Event::Connected(OTHER));
    bench.ask(OTHER, RequestKind::Still { containers: vec!["sbx-shop.db".to_owned()], again: false });
    bench.dies();
    let remembered = bench.remembered();

    bench.restart();
    bench.take(Event::Remembered(remembered));
    bench.pass(seconds(1));
    assert!(bench.starts());

    // No client reclaims the quiesced containers.
    bench.pass(seconds(8));
    assert!(bench.said.contains(&Action::GoOn(vec!["sbx-shop.db".to_owned()])));
}
