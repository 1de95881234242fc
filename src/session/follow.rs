//! Follows the logs of a session's services, those that are made anew included.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::SessionError;
use super::event::Event;
use super::logs::{self, Ended, Line, Part, Source};
use super::observe;
use super::raise::Site;
use crate::spec::{SandboxName, Spec};

/// Tells what the services of a sandbox write, until the token is cancelled.
pub(super) struct Follower {
    site: Site,
    name: SandboxName,
    lines: mpsc::Sender<Line>,
    /// The containers that are followed, by id.
    known: BTreeSet<String>,
}

impl Follower {
    /// Follows nothing yet.
    pub(super) fn new(site: &Site, name: &SandboxName, token: &CancellationToken) -> Self {
        let (lines, mut told) = mpsc::channel::<Line>(64);
        let (events, token) = (site.events.clone(), token.clone());
        tokio::spawn(async move {
            let tell = async {
                while let Some(Line { service, replica, stream, text, .. }) = told.recv().await {
                    events.emit(Event::Log { service, replica, stream, line: text });
                }
            };
            tokio::select! {
                () = token.cancelled() => {}
                () = tell => {}
            }
        });
        Self { site: site.clone(), name: name.clone(), lines, known: BTreeSet::new() }
    }

    /// Follows the containers that are not followed yet, from `since` on.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(super) async fn look(&mut self, spec: &Spec, since: Option<Timestamp>) -> Result<(), SessionError> {
        let engine = &self.site.engine;
        let sighting = observe::sandbox(&**engine, &self.site.scope, &self.name).await?;
        for container in sighting.iter().flat_map(|sighting| &sighting.services) {
            let service = observe::service_of(container);
            let wanted = spec.services.get(service).is_some_and(|one| one.attach != Some(false));
            if wanted && self.known.insert(container.id.clone()) {
                let part = Part { since, ..Part::default() };
                let source = Source::from(container);
                tokio::spawn(logs::follow(
                    Arc::clone(engine),
                    source,
                    part,
                    Ended::Waits,
                    self.lines.clone(),
                ));
            }
        }
        Ok(())
    }
}
