//! An in-memory engine for tests: it models the objects, records every call as a line, and injects faults.
//!
//! The model has the rules that teardown depends on: a container's name is unique, a network with running containers
//! and a volume that any container uses cannot be removed, a subnet must not overlap, and removing a running container
//! needs force. The tests of all layers above use it.

mod calls;
mod exec;
mod fault;
mod model;
mod script;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};

pub use self::fault::Fault;
use self::fault::Plan;
use self::model::Model;
pub use self::script::{Behaviour, Script};
use super::error::{EngineError, ErrorKind, ObjectKind, Result};
use super::{EngineEvent, Exec, Image, ImageConfig};

/// Chooses the script of a command in a container.
pub type OnExec = Box<dyn Fn(&str, &Exec) -> Script + Send + Sync>;

/// One client's connection to the in-memory engine.
pub struct Recording {
    model: Arc<Mutex<Model>>,
    own: Mutex<Own>,
    changed: Arc<Notify>,
    events: broadcast::Sender<EngineEvent>,
    on_exec: Arc<Mutex<OnExec>>,
}

/// The remaining work of a call that returned early.
type Rest = Box<dyn FnOnce(&mut Model) + Send>;

/// The state of one client: its calls and faults.
#[derive(Default)]
struct Own {
    calls: Vec<String>,
    /// The timeout of each container's last stop.
    stops: BTreeMap<String, Option<Duration>>,
    plan: Plan,
    /// Calls that returned an error but are still in progress: the remaining work, and after which call it runs.
    later: Vec<(usize, Rest)>,
}

impl Recording {
    /// An engine without objects.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            model: Arc::default(),
            own: Mutex::default(),
            changed: Arc::new(Notify::new()),
            events: broadcast::channel(1024).0,
            on_exec: Arc::new(Mutex::new(Box::new(|_, _| Script::answer("", 0)))),
        })
    }

    /// Another client of the same engine, with its own calls and faults.
    pub fn sibling(&self) -> Arc<Self> {
        Arc::new(Self {
            model: Arc::clone(&self.model),
            own: Mutex::default(),
            changed: Arc::clone(&self.changed),
            events: self.events.clone(),
            on_exec: Arc::clone(&self.on_exec),
        })
    }

    /// An engine that has images with these references.
    pub fn with_images(references: &[&str]) -> Arc<Self> {
        let engine = Self::new();
        for reference in references {
            engine.add_image(reference, ImageConfig::default());
        }
        engine
    }

    /// Adds an image to the engine.
    pub fn add_image(&self, reference: &str, config: ImageConfig) -> Image {
        self.lock().add_image(reference, config)
    }

    /// All calls so far, one line each: `create container sbx-a.db`, `remove network sbx-a.default`, `list volumes`.
    pub fn calls(&self) -> Vec<String> {
        self.own().calls.clone()
    }

    /// The timeout of a container's last stop; `None` if it was not stopped, or with the engine's default.
    pub fn patience_of_stop(&self, container: &str) -> Option<Duration> {
        self.own().stops.get(container).copied().flatten()
    }

    /// Removes a label from every volume.
    pub fn unlabel_volumes(&self, label: &str) {
        self.lock().volumes.iter_mut().for_each(|volume| drop(volume.labels.remove(label)));
    }

    /// Waits until `n` calls were made.
    pub async fn called(&self, n: usize) {
        self.until(|_| (self.own().calls.len() >= n).then_some(())).await;
    }

    /// Executes the calls that returned early and are still in progress.
    pub fn land_late_calls(&self) {
        let late = std::mem::take(&mut self.own().later);
        self.with_model(|model| late.into_iter().for_each(|(_, perform)| perform(model)));
    }

    /// Clears the recorded calls; the next one is number 1 again.
    pub fn forget_calls(&self) {
        self.own().calls.clear();
    }

    /// All objects except images: `container sbx-a.db`, `network sbx-a.default`, `volume sbx-a.data`, sorted.
    pub fn objects(&self) -> Vec<String> {
        self.lock().objects()
    }

    /// Injects a fault into call number `n` (from 1 on), once.
    pub fn fail_at(&self, n: usize, fault: Fault) {
        self.own().plan.at(n, fault);
    }

    /// Injects a fault into every call from number `n` (from 1 on).
    pub fn fail_from(&self, n: usize, fault: Fault) {
        self.own().plan.from(n, fault);
    }

    /// Injects a fault into the next `times` calls whose line contains `words`.
    pub fn fail_when(&self, words: &str, times: usize, fault: Fault) {
        self.own().plan.when(words, times, fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.own().plan = Plan::default();
    }

    /// Sets what containers do when they start, by name, suffix with the service's name, or image; by default they
    /// run.
    pub fn behave(&self, name_or_image: &str, behaviour: Behaviour) {
        self.lock().behaviours.insert(name_or_image.to_owned(), behaviour);
    }

    /// Makes a running container exit.
    pub fn exit(&self, name: &str, code: i64) {
        self.with_model(|model| model.exit(name, code));
    }

    /// Sets the callback that chooses the scripts of commands, by the container's name and the command.
    pub fn on_exec(&self, decide: impl Fn(&str, &Exec) -> Script + Send + Sync + 'static) {
        *self.on_exec.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(decide);
    }

    /// All uploads: container, path, archive.
    pub fn uploads(&self) -> Vec<(String, String, Vec<u8>)> {
        self.lock().uploads.clone()
    }

    /// Sets the archive that a download of this path returns.
    pub fn add_download(&self, container: &str, path: &str, archive: Vec<u8>) {
        self.lock().downloads.insert((container.to_owned(), path.to_owned()), archive);
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the client's state; if both locks are needed, lock the model first.
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_model<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        let (outcome, events) = {
            let mut model = self.lock();
            let outcome = change(&mut model);
            (outcome, std::mem::take(&mut model.events))
        };
        self.tell(events);
        outcome
    }

    fn tell(&self, events: Vec<EngineEvent>) {
        for event in events {
            // Ignored if there is no subscriber.
            let _ = self.events.send(event);
        }
        self.changed.notify_waiters();
    }

    /// Records a call, then executes it or applies its fault.
    async fn call<T, F>(
        &self,
        operation: &'static str,
        object: ObjectKind,
        name: &str,
        action: F,
    ) -> Result<T>
    where
        T: Send,
        F: FnOnce(&mut Model) -> Result<T> + Send + 'static,
    {
        tokio::task::yield_now().await;
        let object_word = if object == ObjectKind::Engine { String::new() } else { format!(" {object}") };
        let line = format!("{operation}{object_word} {name}").trim_end().to_owned();
        let error = |kind, words: &str| EngineError::new(operation, object, name, kind, words);
        let (outcome, events) = {
            let mut model = self.lock();
            let mut own = self.own();
            own.calls.push(line.clone());
            let number = own.calls.len();
            let due: Vec<_> = own.later.extract_if(.., |(at, _)| *at <= number).collect();
            for (_, perform) in due {
                perform(&mut model);
            }
            let outcome = match own.plan.fault(number, &line) {
                None => Some(action(&mut model)),
                Some(Fault::Refuse(kind)) => Some(Err(error(kind, "refused as planned"))),
                Some(Fault::LoseAnswer) => {
                    let _ = action(&mut model);
                    Some(Err(error(ErrorKind::Unreachable, "the answer was lost as planned")))
                }
                Some(Fault::Late { calls }) => {
                    let perform = Box::new(move |model: &mut Model| drop(action(model)));
                    own.later.push((number + calls, perform));
                    Some(Err(error(ErrorKind::Timeout, "late as planned")))
                }
                Some(Fault::Stall) => None,
                Some(Fault::StallDone) => {
                    let _ = action(&mut model);
                    None
                }
            };
            (outcome, std::mem::take(&mut model.events))
        };
        self.tell(events);
        match outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// Waits until the closure returns a value.
    async fn until<T>(&self, mut look: impl FnMut(&mut Model) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that no change is missed between the two.
            changed.as_mut().enable();
            if let Some(seen) = look(&mut self.lock()) {
                return seen;
            }
            changed.await;
        }
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests;
