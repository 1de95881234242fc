//! Reads bytes that nobody vouches for as a spec, as `sandbox up -f -` does.

use std::collections::BTreeMap;

use sandbox::spec::{HostAccess, LoadRequest, load, readmitted, to_compose_json, to_yaml};

/// Whatever the bytes are, reading neither panics nor hangs, and what was read can be written and read again.
pub fn read(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let env = [("HOME", "/home/user"), ("SET", "value"), ("EMPTY", "")];
    let request = LoadRequest {
        folder: folder.path().to_owned(),
        files: vec!["-".into()],
        input: Some(bytes.to_vec()),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        ..LoadRequest::default()
    };
    match load(&request) {
        Ok(loaded) => {
            let _ = (to_yaml(&loaded.spec), to_compose_json(&loaded.spec));
            let _ = readmitted(&loaded.spec, HostAccess::Refused);
        }
        Err(problems) => drop(problems.to_string()),
    }
}
