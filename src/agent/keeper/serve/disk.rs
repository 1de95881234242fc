//! What is looked at every so often while there are sandboxes: the engine's disk, the budget, old leavings.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Serving, TIDY};
use crate::agent::keeper::disk_pressure::{DiskPressure, PressureRelief};
use crate::storage::Pressure;

/// How often the budget is looked at besides when something is published.
const BOUND: Duration = Duration::from_mins(5);
/// When the disk is looked at again after a look that found it short of room, before the next one is due: a writer may
/// fill what is left within seconds.
const SOON: [Duration; 3] = [Duration::from_secs(1); 3];

/// Looks at the disk, and as long as it is short of room a few times more.
async fn look(relief: &PressureRelief, strain: &mut DiskPressure) {
    for soon in SOON {
        match relief.relieve(strain).await {
            Some(Pressure::Short | Pressure::Critical) => sleep(soon).await,
            _ => return,
        }
    }
    relief.relieve(strain).await;
}

impl Serving {
    pub(super) fn watches_disk(&self) -> bool {
        self.storage.is_some() && self.state.has_sandboxes()
    }

    pub(super) fn check_disk(&mut self) {
        self.tidy();
        if self.bounded.elapsed() > BOUND {
            self.bounded = Instant::now();
            tokio::spawn(self.bound());
        }
        let Some(storage) = self.storage.clone() else { return };
        let (engine, scope, store) = (Arc::clone(&self.engine), self.scope.clone(), self.store.clone());
        let strain = Arc::clone(&self.strain);
        tokio::spawn(async move {
            // One look after the other: what it does about the disk may take its time.
            if let Ok(mut strain) = strain.try_lock() {
                look(&PressureRelief { engine, scope, store, storage }, &mut strain).await;
            }
        });
    }

    pub(super) fn tidy(&mut self) {
        let now = Timestamp::now();
        if now.duration_since(self.tidied).unsigned_abs() > TIDY {
            self.tidied = now;
            self.warn("drop old events", self.store.tidy(now));
        }
    }
}
