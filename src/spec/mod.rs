//! Reads what the user wrote into a [`Spec`]: YAML, interpolation, merging, Compose's keys, validation.
//!
//! The layer is pure, except that it reads the files that a spec names. No YAML type leaves it.
//!
//! [`load`] runs these steps: `find` finds the files; `yaml` parses each into `node`s that know their locations;
//! `interpolate` inserts variables; `canonical` converts short forms to long ones; `assemble` applies `extends` and
//! `include` and `merge`s the files; `read` builds the model; `check` validates the whole; `guard` checks host access.
//! A spec that was stored with data passes through the last of these steps again ([`readmitted`]).

mod assemble;
mod boundary;
mod bounds;
mod canonical;
mod capabilities;
mod check;
mod container_settings;
mod diagnostics;
mod dotenv;
mod find;
mod guard;
#[cfg(test)]
mod guard_matrix;
mod hints;
mod host_access;
mod host_paths;
mod interpolate;
mod load;
mod merge;
mod model;
mod mount_forms;
mod nearest;
mod node;
mod placeholders;
mod planted;
mod ports;
mod problem;
#[expect(
    clippy::unused_self,
    reason = "what reads a part is asked in one way, whether or not it has to note anything"
)]
mod read;
mod relocate;
mod render;
mod request;
pub(crate) mod reserved;
mod resolvers;
mod scaffold;
mod schema;
mod scope;
mod seccomp;
mod security_opt;
mod seed;
mod settings;
mod stored;
mod template;
mod units;
mod user_values;
mod volumes;
mod widening;
mod yaml;

pub use crate::spec::hints::keeps_logs;
pub use crate::spec::scaffold::{Basis, Cache, Database, MountedSources, Origin, OwnService, Scaffold};
pub use bounds::MAX_CONTAINERS;
pub use container_settings::ContainerSettings;
pub use find::{files as files_for, git_branch, git_common_folder, git_root};
pub use load::{load, merged, variables_in, variables_of};
pub use model::*;
pub use nearest::{hint as did_you_mean, nearest as nearest_name};
pub use problem::{Colour, Drawing, Problem, ProblemKind, Problems, SourceLocation, Warning, WarningKind};
pub use relocate::{ANYWHERE, relocate};
pub use render::{json_to_yaml, to_compose_json, to_yaml};
pub use request::{Boundary, HostAccess, LoadRequest, Loaded, Refusals, Variables};
pub use schema::schema;
pub use seed::{CopySeed, ExecSeed, Seed, SeedKind, SeedStage, SnapshotSeed, SqlSeed};
pub use settings::Settings;
pub use stored::readmitted;
pub use widening::{egress_beyond, widened};

/// Parses a duration of a spec: `8h`, `1h30m`, `500ms`, `2d`.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text)
}

/// Parses a size of a spec: `64m`, `1.5gb`, `512`; units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    units::size(text)
}

#[cfg(test)]
mod tests;
