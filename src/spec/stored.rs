//! Validates a spec that was stored with data.
//!
//! It is not the user's file: the maker of a snapshot file could write anything in the form of the model, even what no
//! spec file can express. So it is rendered and read again like a file, and only the result is built.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::canonical::{self, Base};
use super::check::Checker;
use super::diagnostics::Log;
use super::guard::guard;
use super::model::{ServiceName, Spec};
use super::node::Node;
use super::problem::Problems;
use super::read::{Profiles, Reader};
use super::render;
use super::request::{HostAccess, Refusals};

/// Reads a stored spec like a file with the same content, and checks that it does not access the host unless that is
/// allowed.
///
/// Files and variables that it names are not checked here; they are reported where they are used.
///
/// # Errors
/// Returns all problems of the spec.
pub fn readmitted(kept: &Spec, access: HostAccess) -> Result<Spec, Problems> {
    let log = Log::default();
    let mut root = Node::of_json(render::to_tree(kept));
    canonical::document(&log, &mut root, &Base { folder: &kept.folder, home: None });
    let variables = BTreeMap::new();
    let reader = Reader {
        log: &log,
        variables: &variables,
        standing_in: &kept.folder,
        refusals: Refusals::Fail,
        used: Cell::new(true),
        selected: Cell::new(true),
    };
    let all = Profiles { profiles: BTreeSet::from(["*".to_owned()]), services: BTreeSet::new() };
    let read = reader.spec(&root, kept.name.clone(), &kept.folder, &all);
    let mut spec =
        Spec { files: kept.files.clone(), profiles: kept.profiles.clone(), origin: kept.origin, ..read.spec };
    // A later export must know the user's values, too, and the rendered form has no record of them.
    spec.user_values.clone_from(&kept.user_values);
    for (name, service) in &mut spec.services {
        if let Some(before) = kept.services.get(name) {
            service.user_environment.clone_from(&before.user_environment);
        }
    }
    let inactive = left_out(&spec);
    let checker = Checker {
        log: &log,
        refusals: Refusals::Fail,
        standing_in: &kept.folder,
        inactive: &inactive,
        unselected: &BTreeSet::new(),
        scoped: &BTreeMap::new(),
        variables: &variables,
        root: &root,
    };
    checker.check_what_it_says(&mut spec);
    let (problems, _) = log.into_parts();
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    guard(&spec, access)?;
    Ok(spec)
}

/// Services that were not selected when the spec was stored, and that it may still refer to.
fn left_out(spec: &Spec) -> BTreeSet<String> {
    let optional = spec.services.values().flat_map(|service| {
        service.depends_on.iter().filter(|(_, dependency)| !dependency.required).map(|(name, _)| name)
    });
    let named = spec.artifacts.iter().map(|artifact| &artifact.service);
    let named = named.chain(spec.tasks.values().filter_map(|task| task.service.as_ref())).chain(optional);
    named.filter(|name| !spec.services.contains_key(*name)).map(ServiceName::to_string).collect()
}
