//! Handles disk pressure. While the disk is nearly full, writers are paused, because a full disk would break the data
//! of all sandboxes; they are resumed when there is room. A pool that turned read-only is attached again, for which its
//! users have to be stopped: their writes fail anyway.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::quiesced;
use super::store::Store;
use crate::agent::client::in_full;
use crate::agent::protocol::{Record, RecordKind};
use crate::bind_check;
use crate::engine::identity::{self, Role, Scope};
use crate::engine::{ContainerState, ContainerSummary, Engine, EngineError, Filter, join_bounded};
use crate::storage::{Detail, Pressure, Storage};

/// How long a service may take to stop on a pool that it cannot write to.
const STOP: Duration = Duration::from_secs(5);

/// What was done and has to be undone. It is saved in the volume, so that the next keeper can undo it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPressure {
    /// Containers that were paused, by id.
    #[serde(default)]
    frozen: BTreeSet<String>,
    /// Containers that were stopped to repair the pool, by id.
    #[serde(default)]
    stopped: BTreeSet<String>,
    /// Whether it was reported that the pool is read-only.
    #[serde(default)]
    told: bool,
}

/// What has to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PoolRecovery {
    Nothing,
    /// Pause the writers.
    Freeze,
    /// Resume the paused containers and start the stopped ones.
    Undo,
    /// Stop the users of the pool and attach it again.
    Mend,
}

impl DiskPressure {
    /// Decides what to do under this pressure. `host` is the pressure on the disk below a read-only pool: on a full
    /// disk the repaired pool would turn read-only again at once.
    fn remedy(&self, pressure: Pressure, host: Pressure) -> PoolRecovery {
        match pressure {
            Pressure::Critical => PoolRecovery::Freeze,
            Pressure::ReadOnly if host == Pressure::Critical => PoolRecovery::Nothing,
            Pressure::ReadOnly => PoolRecovery::Mend,
            Pressure::Fine if !self.frozen.is_empty() || !self.stopped.is_empty() || self.told => {
                PoolRecovery::Undo
            }
            // Between the two thresholds nothing is paused or resumed, so that it does not oscillate.
            Pressure::Fine | Pressure::Short => PoolRecovery::Nothing,
        }
    }
}

/// The dependencies of a disk check.
pub struct PressureRelief {
    pub engine: Arc<dyn Engine>,
    /// The scope of our objects.
    pub scope: Scope,
    /// Where the state is saved.
    pub store: Store,
    /// The storage whose disk is checked.
    pub storage: Arc<dyn Storage>,
}

impl PressureRelief {
    /// Checks the disk and handles the pressure. Returns the pressure, if it could be determined.
    pub async fn relieve(&self, strain: &mut DiskPressure) -> Option<Pressure> {
        let pressure = self.storage.check().await.ok()?;
        let host = match pressure {
            Pressure::ReadOnly => {
                self.storage.usage(Detail::Totals).await.map_or(Pressure::Fine, |it| it.host_pressure())
            }
            other => other,
        };
        let before = strain.clone();
        if pressure == Pressure::ReadOnly && !strain.told {
            tracing::error!("the pool has turned read-only");
            strain.told = true;
            self.note(RecordKind::PoolReadOnly);
        }
        match strain.remedy(pressure, host) {
            PoolRecovery::Nothing => {}
            PoolRecovery::Freeze => self.freeze(strain).await,
            PoolRecovery::Undo => self.undo(strain).await,
            PoolRecovery::Mend => self.mend(strain).await,
        }
        if *strain != before
            && let Err(error) = self.store.save_disk_pressure(strain)
        {
            tracing::warn!(%error, "cannot keep what has to be thawed");
        }
        Some(pressure)
    }

    async fn freeze(&self, strain: &mut DiskPressure) {
        let Ok(services) = self.services().await else { return };
        let running = services.iter().filter(|it| it.state == ContainerState::Running);
        let mut frozen = Vec::new();
        for container in running {
            // A container that has just exited cannot be paused, and writes nothing.
            if self.engine.pause_container(&container.id).await.is_ok() {
                tracing::error!(container = container.name, "the engine's disk is nearly full: it is frozen");
                strain.frozen.insert(container.id.clone());
                frozen.push(container.name.clone());
            }
        }
        if !frozen.is_empty() {
            self.note(RecordKind::DiskFull { frozen });
        }
    }

    /// Resumes and starts containers. One that is gone, or that was already resumed or started, is skipped.
    async fn undo(&self, strain: &mut DiskPressure) {
        let Ok(services) = self.services().await else { return };
        let (mut thawed, mut started) = (Vec::new(), Vec::new());
        for container in services {
            if strain.frozen.contains(&container.id)
                && self.engine.unpause_container(&container.id).await.is_ok()
            {
                thawed.push(container.name);
            } else if strain.stopped.contains(&container.id)
                && quiesced::sandbox_is_up(&*self.engine, &container.name).await.unwrap_or_default()
                && bind_check::start(&*self.engine, &container.name).await.is_ok()
            {
                started.push(container.name);
            }
        }
        if !thawed.is_empty() {
            tracing::info!(?thawed, "the engine's disk has room again");
            self.note(RecordKind::DiskEased { thawed });
        }
        if strain.told {
            tracing::info!(?started, "the pool can be written again");
            self.note(RecordKind::PoolMended { started });
        }
        *strain = DiskPressure::default();
    }

    async fn mend(&self, strain: &mut DiskPressure) {
        let Ok(users) = self.users().await else { return };
        let alive = users.iter().filter(|it| it.state.is_alive());
        join_bounded(alive.map(|it| self.engine.stop_container(&it.id, None, Some(STOP)))).await;
        strain.stopped.extend(users.into_iter().filter(|it| it.state.is_alive()).map(|it| it.id));
        match self.storage.recover().await {
            Ok(()) => self.undo(strain).await,
            Err(error) => tracing::warn!(error = in_full(&error), "the pool cannot be mended yet"),
        }
    }

    async fn services(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter = Filter::all().label(identity::ROLE, Role::Service.as_str());
        let mut found = self.engine.containers(&self.scope.narrow(filter)).await?;
        found.retain(|it| self.scope.owns(&it.labels));
        Ok(found)
    }

    /// Returns the service containers that use a volume of the pool.
    async fn users(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter = Filter::all().label(identity::ROLE, Role::Volume.as_str());
        let volumes = self.engine.volumes(&self.scope.narrow(filter)).await?;
        let stored: BTreeSet<String> = volumes.into_iter().map(|it| it.name).collect();
        let mut services = self.services().await?;
        services.retain(|it| it.mounts.iter().any(|mount| stored.contains(&mount.name)));
        Ok(services)
    }

    fn note(&self, what: RecordKind) {
        let record = Record { at: Timestamp::now(), name: None, sandbox: None, what };
        if let Err(error) = self.store.note(&record) {
            tracing::warn!(%error, "cannot note an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen() -> DiskPressure {
        DiskPressure { frozen: ["a".to_owned()].into(), ..DiskPressure::default() }
    }

    #[test]
    fn writers_are_frozen_while_it_is_critical_and_thawed_when_all_is_well() {
        let remedy = |strain: DiskPressure, pressure| strain.remedy(pressure, pressure);
        assert_eq!(remedy(DiskPressure::default(), Pressure::Critical), PoolRecovery::Freeze);
        assert_eq!(remedy(frozen(), Pressure::Short), PoolRecovery::Nothing);
        assert_eq!(remedy(frozen(), Pressure::Fine), PoolRecovery::Undo);
        assert_eq!(remedy(DiskPressure::default(), Pressure::Fine), PoolRecovery::Nothing);
    }

    #[test]
    fn a_pool_is_mended_once_the_disk_below_it_has_room() {
        let strain = DiskPressure::default();
        assert_eq!(strain.remedy(Pressure::ReadOnly, Pressure::Critical), PoolRecovery::Nothing);
        assert_eq!(strain.remedy(Pressure::ReadOnly, Pressure::Short), PoolRecovery::Mend);
    }
}
