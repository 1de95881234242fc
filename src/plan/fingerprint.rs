//! Hashes a container's configuration, to decide whether `up` has to recreate the container.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::{CreateContainer, MountKind};

/// Hashes the configuration of a container and whatever else it depends on.
///
/// The hash of equal containers is the same in every build of this program: the hashed form has its keys in order and
/// omits default values, so that a setting added by a later version changes no hash where it is not used. The labels
/// of volumes that are created with the container (a deadline is one) are not hashed.
pub fn fingerprint(container: &CreateContainer, besides: &impl Serialize) -> String {
    let mut container = container.clone();
    for mount in &mut container.mounts {
        if let MountKind::NewVolume { create, .. } = &mut mount.kind {
            create.labels.clear();
        }
    }
    let mut form = json(&container);
    leave_out(&mut form, &json(&CreateContainer::default()));
    let whole = Value::Array(vec![form, json(besides)]).to_string();
    hex::encode(&Sha256::digest(whole.as_bytes())[..8])
}

fn json(value: &impl Serialize) -> Value {
    // JSON can represent everything that is hashed: keys are text, numbers are finite.
    serde_json::to_value(value).unwrap_or_default()
}

/// Removes values that equal those in `default`.
fn leave_out(form: &mut Value, default: &Value) {
    let (Value::Object(form), Value::Object(default)) = (form, default) else { return };
    form.retain(|key, value| match default.get(key) {
        Some(known) if value == known => false,
        Some(known) => {
            leave_out(value, known);
            true
        }
        None => true,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::{CreateVolume, Mount};

    fn container() -> CreateContainer {
        let mut container = CreateContainer::new("sbx-shop.db", "postgres:16");
        container.env = [("POSTGRES_DB".to_owned(), Some("shop".to_owned()))].into();
        container.resources.memory = Some(1 << 30);
        let create = CreateVolume { name: "secrets".to_owned(), ..CreateVolume::default() };
        let kind = MountKind::NewVolume { create, no_copy: true };
        container.mounts = vec![Mount { target: "/run/secrets".to_owned(), read_only: true, kind }];
        container
    }

    /// Changing this value recreates the containers of every existing sandbox at the next `up`.
    #[test]
    fn every_build_of_this_program_comes_to_the_same() {
        assert_eq!(fingerprint(&container(), &"sha256:aa"), "d2ad6cc3549c71b4");
    }

    #[test]
    fn what_is_not_used_leaves_no_trace_and_what_is_does() {
        let mut form = json(&container());
        leave_out(&mut form, &json(&CreateContainer::default()));
        let keys: Vec<&str> = form.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["env", "image", "mounts", "name", "resources"]);
        let no_entrypoint = CreateContainer { entrypoint: Some(Vec::new()), ..container() };
        assert_ne!(fingerprint(&no_entrypoint, &()), fingerprint(&container(), &()));
        let bigger = {
            let mut it = container();
            it.resources.memory = Some(2 << 30);
            it
        };
        assert_ne!(fingerprint(&bigger, &()), fingerprint(&container(), &()));
        assert_ne!(fingerprint(&container(), &"one image"), fingerprint(&container(), &"another"));
    }

    #[test]
    fn another_deadline_does_not_recreate_a_container() {
        let mut later = container();
        if let MountKind::NewVolume { create, .. } = &mut later.mounts[0].kind {
            create.labels = BTreeMap::from([("dev.sandbox.expires".to_owned(), "2026-01-01".to_owned())]);
        }
        assert_eq!(fingerprint(&later, &()), fingerprint(&container(), &()));
    }
}
