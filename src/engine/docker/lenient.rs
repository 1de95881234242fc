//! Reads containers as engines describe them, with words that the API's types do not know: Podman has states of its
//! own, and a newer engine may have new ones. A word of the state is read as the nearest one that is known; any other
//! field that cannot be read counts as missing. One such container must not make every list fail.

use bollard::models as api;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Reads a list of containers.
pub(super) fn summaries(bytes: &[u8]) -> serde_json::Result<Vec<api::ContainerSummary>> {
    let list: Vec<Value> = serde_json::from_slice(bytes)?;
    let read = |mut summary: Value| {
        if let Some(state) = summary["State"].as_str() {
            summary["State"] = nearest_state(state, &Value::Null).into();
        }
        forgiving(summary)
    };
    list.into_iter().map(read).collect()
}

/// Reads the inspection of a container.
pub(super) fn inspection(bytes: &[u8]) -> serde_json::Result<api::ContainerInspectResponse> {
    let mut inspection: Value = serde_json::from_slice(bytes)?;
    if let Some(status) = inspection["State"]["Status"].as_str() {
        let state = nearest_state(status, &inspection["State"]);
        inspection["State"]["Status"] = state.into();
    }
    forgiving(inspection)
}

/// Returns the API's word for a container's state. `flags` are the state's booleans, which decide about words that give
/// no clue.
fn nearest_state(word: &str, flags: &Value) -> &'static str {
    /// The API's words, then what other words of the same meaning contain. The first match decides.
    const WORDS: [(&str, &[&str]); 7] = [
        ("removing", &["remov", "delet"]),
        ("restarting", &["restart"]),
        ("paused", &["paus", "suspend", "frozen", "freez", "checkpoint"]),
        ("created", &["creat", "config", "init", "prepar", "pending"]),
        // A container that is being stopped still runs.
        ("running", &["running", "stopping", "starting", "healthy", "up"]),
        ("exited", &["exit", "stop", "finish", "complete", "succeed", "fail", "kill"]),
        ("dead", &["dead"]),
    ];
    let word = word.to_ascii_lowercase();
    if let Some((known, _)) = WORDS.iter().find(|(known, _)| *known == word) {
        return known;
    }
    let found = WORDS.iter().find(|(_, parts)| parts.iter().any(|part| word.contains(part)));
    let says = |flag: &str| flags[flag].as_bool() == Some(true);
    match found {
        Some((known, _)) => known,
        None if says("Paused") => "paused",
        None if says("Restarting") => "restarting",
        None if says("Running") => "running",
        None if says("Dead") || flags.is_null() => "dead",
        None => "exited",
    }
}

/// Reads a value; fields that cannot be read are left out.
fn forgiving<T: DeserializeOwned>(mut value: Value) -> serde_json::Result<T> {
    loop {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let path: Vec<Segment> = error.path().iter().cloned().collect();
        // Each round removes a field, so the loop ends.
        if !remove(&mut value, &path) {
            return Err(error.into_inner());
        }
        tracing::debug!(%error, "left out a field that cannot be read");
    }
}

/// Removes the field or the element at a path, or the nearest one above it.
fn remove(value: &mut Value, path: &[Segment]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    match (first, value) {
        (Segment::Map { key }, Value::Object(object)) => {
            object.get_mut(key).is_some_and(|inner| remove(inner, rest)) || object.remove(key).is_some()
        }
        (Segment::Seq { index }, Value::Array(list)) => {
            let inside = list.get_mut(*index).is_some_and(|inner| remove(inner, rest));
            if !inside && *index < list.len() {
                list.remove(*index);
                return true;
            }
            inside
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::engine::ContainerState;

    fn listed(state: &str) -> ContainerState {
        let list = serde_json::json!([{ "Id": "1", "Names": ["/a"], "State": state }]);
        read::summary(summaries(list.to_string().as_bytes()).unwrap().remove(0)).state
    }

    #[test]
    fn a_state_of_another_engine_is_read_as_the_nearest_one() {
        let states = [
            ("stopped", ContainerState::Exited),
            ("stopping", ContainerState::Running),
            ("configured", ContainerState::Created),
            ("initialized", ContainerState::Created),
            ("restarting", ContainerState::Restarting),
            ("paused", ContainerState::Paused),
            ("Removing", ContainerState::Removing),
            ("unknown", ContainerState::Dead),
            ("", ContainerState::Dead),
        ];
        for (word, state) in states {
            assert_eq!(listed(word), state, "{word}");
        }
    }

    #[test]
    fn the_flags_decide_about_a_state_that_says_nothing() {
        let inspected = |flag: &str| {
            let text =
                serde_json::json!({ "Id": "1", "State": { "Status": "quux", flag: true } }).to_string();
            read::container(inspection(text.as_bytes()).unwrap()).state
        };
        assert_eq!(inspected("Running"), ContainerState::Running);
        assert_eq!(inspected("Paused"), ContainerState::Paused);
        assert_eq!(inspected("Other"), ContainerState::Exited);
    }

    #[test]
    fn a_field_that_cannot_be_read_counts_as_missing() {
        let text = serde_json::json!({
            "Id": "1", "Name": "/a",
            "State": { "Status": "stopped", "Health": { "Status": "reset", "FailingStreak": 3 } },
            "HostConfig": { "RestartPolicy": { "Name": "sometimes" }, "CgroupnsMode": "odd" },
            "Mounts": [{ "Type": "cloud", "Destination": "/x" }, { "Type": "volume", "Destination": "/y" }],
        });
        let container = read::container(inspection(text.to_string().as_bytes()).unwrap());
        assert_eq!((container.name.as_str(), container.state), ("a", ContainerState::Exited));
        assert_eq!(container.mounts.len(), 2);
        assert!(inspection(b"nonsense").is_err());
    }
}
