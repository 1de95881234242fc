//! Receives the events of a sandbox: passes them on as the progress of a call, and keeps what `status` shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::call::Progress;
use crate::report::messages::{Severity, fact};
use crate::session::event::{Event, EventReceiver, Events};

/// How many notes are kept.
const MOST_NOTES: usize = 20;

/// The receiver of a sandbox's events.
#[derive(Debug, Default)]
pub(super) struct Feed {
    progress: Mutex<Option<Progress>>,
    notes: Mutex<VecDeque<String>>,
}

impl Feed {
    /// Starts to receive events; they are the progress of a call for now.
    pub fn start(progress: Option<Progress>) -> (Arc<Self>, Events) {
        let (events, received) = Events::channel();
        let feed = Arc::new(Self { progress: Mutex::new(progress), notes: Mutex::default() });
        tokio::spawn(Arc::clone(&feed).receive(received));
        (feed, events)
    }

    async fn receive(self: Arc<Self>, mut events: EventReceiver) {
        while let Some(event) = events.recv().await {
            if let Some(progress) = &*self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
                progress.report(&event);
            }
            self.note(&event);
        }
    }

    /// Sends events to another call, or to none.
    pub fn attach(&self, progress: Option<Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// The latest warnings and exits of services.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, event: &Event) {
        let Some(fact) = fact(event) else { return };
        let worth = matches!(fact.weight, Severity::Warning | Severity::Error)
            || matches!(event, Event::ServiceExited { .. } | Event::PortMoved { .. });
        if !worth {
            return;
        }
        let subject = if fact.subject.is_empty() { String::new() } else { format!("{}: ", fact.subject) };
        let hint = fact.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back(format!("{subject}{}{hint}", fact.text));
        if notes.len() > MOST_NOTES {
            notes.pop_front();
        }
    }
}
