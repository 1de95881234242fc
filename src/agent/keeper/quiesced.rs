//! Tracks the containers that clients quiesce (pause or stop) while their data is cloned or replaced. The keeper
//! resumes them if the client disconnects without doing so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::sleep;

use super::state::ConnectionId;
use crate::bind_check;
use crate::engine::identity;
use crate::engine::{ContainerState, Engine, EngineError, join_bounded};

/// When containers are resumed, counted from the loss of the connection. Several attempts are needed, because the
/// client's last pause request may still be in progress.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];
/// How long the clients of the previous keeper have to reconnect and claim their quiesced containers.
const RETURN: Duration = Duration::from_secs(5);

/// The containers, by name, that connections have quiesced or are about to.
#[derive(Debug, Default)]
pub struct QuiescedContainers {
    kept: BTreeMap<ConnectionId, Vec<String>>,
    /// The containers that clients of the previous keeper quiesced, and until when these clients may claim them.
    orphaned: Option<(Duration, Vec<String>)>,
    /// The containers that are being resumed.
    going: BTreeSet<String>,
}

impl QuiescedContainers {
    /// Restores what clients of the previous keeper quiesced.
    pub fn restore(&mut self, now: Duration, containers: Vec<String>) {
        self.orphaned = Some((now + RETURN, containers)).filter(|(_, containers)| !containers.is_empty());
    }

    /// Sets the containers that a connection quiesces. Returns whether it held them without interruption. With `again`,
    /// the client reconnected; containers that were resumed since are no longer quiesced. Changes nothing if another
    /// connection works on the data of one of the containers, or may reconnect to do so.
    pub fn note(&mut self, client: ConnectionId, containers: Vec<String>, again: bool) -> bool {
        let mine = |one: &String| {
            self.orphaned.as_ref().is_some_and(|(_, orphaned)| orphaned.contains(one))
                && !self.going.contains(one)
        };
        let all_the_while = if again {
            containers.iter().all(mine)
        } else {
            self.kept.get(&client).is_some_and(|kept| *kept == containers)
        };
        if again && !all_the_while || !again && self.is_anothers(client, &containers) {
            return false;
        }
        if let Some((_, orphaned)) = &mut self.orphaned {
            orphaned.retain(|one| !containers.contains(one));
        }
        if containers.is_empty() {
            self.kept.remove(&client);
        } else {
            self.kept.insert(client, containers);
        }
        all_the_while
    }

    fn is_anothers(&self, client: ConnectionId, containers: &[String]) -> bool {
        let others = self.kept.iter().filter(|(one, _)| **one != client).map(|(_, kept)| kept);
        let orphaned = self.orphaned.iter().map(|(_, orphaned)| orphaned);
        let mut data = others.chain(orphaned).flatten().filter(|one| identity::is_data(one));
        data.any(|one| containers.contains(one))
    }

    /// Returns the connections that quiesce any containers.
    pub fn keepers(&self) -> impl Iterator<Item = ConnectionId> {
        self.kept.keys().copied()
    }

    /// Handles a closed connection: returns its containers, which have to be resumed now.
    pub fn closed(&mut self, client: ConnectionId) -> Vec<String> {
        let left = self.kept.remove(&client).unwrap_or_default();
        self.going.extend(left.iter().cloned());
        left
    }

    /// Returns when unclaimed containers are resumed.
    pub fn next(&self) -> Option<Duration> {
        self.orphaned.as_ref().map(|(until, _)| *until)
    }

    /// Returns the unclaimed containers that have to be resumed now.
    pub fn due(&mut self, now: Duration) -> Vec<String> {
        let left =
            self.orphaned.take_if(|(until, _)| *until <= now).map(|(_, left)| left).unwrap_or_default();
        self.going.extend(left.iter().cloned());
        left
    }

    /// These containers were resumed, or did not need it.
    pub fn went_on(&mut self, containers: &[String]) {
        self.going.retain(|one| !containers.contains(one));
    }

    /// Returns all quiesced containers, for the next keeper.
    pub fn all(&self) -> Vec<String> {
        let orphaned = self.orphaned.iter().flat_map(|(_, containers)| containers);
        let all: BTreeSet<&String> =
            self.kept.values().flatten().chain(orphaned).chain(&self.going).collect();
        all.into_iter().cloned().collect()
    }
}

/// Starts stopped containers and resumes paused ones. One that is gone or runs is skipped.
pub async fn go_on(engine: &dyn Engine, containers: &[String]) {
    let begin = tokio::time::Instant::now();
    let mut stopped: BTreeSet<&String> = containers.iter().collect();
    for at in TRIES {
        sleep(at.saturating_sub(begin.elapsed())).await;
        let started = join_bounded(stopped.iter().map(|container| start(engine, container))).await;
        let failed = started.into_iter().zip(&stopped).filter(|(outcome, _)| outcome.is_err());
        stopped = failed.map(|(_, container)| *container).collect();
        let thawed = join_bounded(containers.iter().map(|name| engine.unpause_container(name))).await;
        let thawed = containers.iter().zip(thawed).filter(|(_, outcome)| outcome.is_ok());
        for (container, _) in thawed {
            tracing::info!(container, "thawed what a client had left frozen");
        }
    }
}

async fn start(engine: &dyn Engine, container: &str) -> Result<(), EngineError> {
    let found = engine.container(container).await?;
    if found.is_some_and(|found| found.state == ContainerState::Exited)
        && sandbox_is_up(engine, container).await?
    {
        match bind_check::start(engine, container).await {
            Ok(()) => tracing::info!(container, "started what a client had left stopped"),
            Err(error) => {
                tracing::warn!(container, %error, "cannot start what a client had left stopped");
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Whether the sandbox of a service's container is up. Its gateway does not run after a reboot or after the sandbox was
/// stopped; then only the user's `start` starts its services.
pub async fn sandbox_is_up(engine: &dyn Engine, container: &str) -> Result<bool, EngineError> {
    let Some(gateway) = identity::gateway_of(container) else { return Ok(true) };
    let found = engine.container(gateway).await?;
    Ok(found.is_none_or(|found| found.state == ContainerState::Running))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const OTHER: ConnectionId = ConnectionId(2);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_what_a_lost_connection_kept_still_is_left_and_is_known_until_it_goes_on() {
        let mut still = QuiescedContainers::default();
        assert!(!still.note(ONE, names(&["db"]), false));
        assert!(still.note(ONE, names(&["db"]), false));
        still.note(OTHER, names(&["web"]), false);
        assert_eq!(still.all(), ["db", "web"]);
        still.note(ONE, Vec::new(), false);
        assert!(still.closed(ONE).is_empty());
        assert_eq!(still.closed(OTHER), ["web"]);
        assert_eq!(still.all(), ["web"]);
        still.went_on(&names(&["web"]));
        assert!(still.all().is_empty());
    }

    #[test]
    fn data_that_one_client_works_on_is_no_other_clients() {
        let (shop, blog) = (identity::data("shop"), identity::data("blog"));
        let mut still = QuiescedContainers::default();
        still.restore(Duration::ZERO, vec![blog.clone()]);
        still.note(ONE, vec!["web".to_owned(), shop.clone()], false);
        for theirs in [vec!["db".to_owned(), shop.clone()], vec![blog.clone()]] {
            for _ in 0..2 {
                assert!(!still.note(OTHER, theirs.clone(), false));
            }
        }
        assert!(still.note(ONE, vec!["web".to_owned(), shop.clone()], false));
        assert_eq!(still.all(), [blog.clone(), shop.clone(), "web".to_owned()]);
        still.closed(ONE);
        still.due(RETURN);
        still.note(OTHER, vec![blog.clone(), shop.clone()], false);
        assert!(still.note(OTHER, vec![blog, shop], false));
    }

    #[test]
    fn a_client_has_a_while_to_come_back_to_another_keeper() {
        let mut still = QuiescedContainers::default();
        still.restore(Duration::ZERO, names(&["db", "web"]));
        assert_eq!(still.due(RETURN / 2), [""; 0]);
        assert!(still.note(ONE, names(&["db"]), true));
        assert_eq!(still.due(RETURN), ["web"]);
        // Too late: the container is being resumed, so the client can no longer rely on it being quiet.
        assert!(!still.note(OTHER, names(&["web"]), true));
        assert!(still.note(ONE, names(&["db"]), false));
        assert!(!still.note(OTHER, names(&["web"]), false));
    }
}
