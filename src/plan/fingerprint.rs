//! What tells whether a second `up` has to make a container anew.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::engine::{CreateContainer, MountKind};

/// A hash of what a container is made from and of whatever else it depends on.
///
/// Equal containers have equal ones in every build of this program: the form that is hashed has its keys in order and
/// leaves out what has its default, so that a setting that a later build knows more changes nothing where nobody uses
/// it. The labels of volumes that come with the container (a deadline is one) are no part of it.
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
    // None of what is hashed has a form that JSON has not: keys are text, numbers are finite.
    serde_json::to_value(value).unwrap_or_default()
}

/// Takes away what is as in `default`.
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

    /// A change of this figure makes every standing sandbox's containers anew at the next `up`.
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
    fn another_deadline_is_no_reason_to_make_a_container_anew() {
        let mut later = container();
        if let MountKind::NewVolume { create, .. } = &mut later.mounts[0].kind {
            create.labels = BTreeMap::from([("dev.sandbox.expires".to_owned(), "2026-01-01".to_owned())]);
        }
        assert_eq!(fingerprint(&later, &()), fingerprint(&container(), &()));
    }
}
