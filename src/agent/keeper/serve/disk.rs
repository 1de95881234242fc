//! Periodic checks while there are sandboxes: disk pressure, the storage budget, old records.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Serving, TIDY};
use crate::agent::keeper::disk_pressure::{DiskPressure, PressureRelief};
use crate::storage::Pressure;

/// How often the budget is checked, besides after each publication.
const BOUND: Duration = Duration::from_mins(5);
/// The pauses between extra checks after one that found little space, before the next regular one: a writer can fill
/// the rest within seconds.
const SOON: [Duration; 3] = [Duration::from_secs(1); 3];

/// Checks the disk, and a few more times while it is short of space.
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
            // Only one check at a time, because handling disk pressure can take a while.
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
