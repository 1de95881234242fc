//! Pushes an image to the registry in its name.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::Method;

use super::Docker;
use super::credentials::{credentials, encoded, registry_of};
use super::failure::call;
use super::images::{drain, split_reference};
use super::wire::{body_bytes, escape};
use crate::engine::{ErrorKind, ObjectKind, OnPush, PushProgress, Result};

impl Docker {
    pub(super) async fn push(&self, reference: &str, progress: OnPush<'_>) -> Result<()> {
        let call = call("push", ObjectKind::Image, reference);
        let credentials = credentials(self.config.as_deref(), registry_of(reference)).await;
        let (name, tag) = split_reference(reference);
        let path = format!("/images/{name}/push?tag={}", escape(tag));
        // The engine requires the header even for a registry without a login.
        let auth = encoded(credentials.as_ref());
        let request =
            hyper::Request::builder().method(Method::POST).uri(path).header("X-Registry-Auth", auth);
        let request = request.body(bollard::body_full(Bytes::new()));
        let request = request.map_err(|error| call.of(ErrorKind::Invalid, error.to_string()))?;
        let response = self.wire.call(request).await.map_err(|error| call.broke(error))?;
        let mut layers = Layers::default();
        drain(body_bytes(response), &call, |item| {
            if layers.take(item) {
                progress(layers.sum());
            }
        })
        .await
    }
}

/// The bytes of each layer that were pushed, of how many.
#[derive(Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    /// Reads a message of the engine; false if it is about no layer's bytes.
    fn take(&mut self, item: &serde_json::Value) -> bool {
        let (Some(status), Some(id)) = (item["status"].as_str(), item["id"].as_str()) else { return false };
        let detail = &item["progressDetail"];
        let number = |key: &str| detail[key].as_u64().unwrap_or_default();
        let layer = self.0.entry(id.to_owned()).or_default();
        match status {
            // The total is an estimate of the uncompressed size.
            "Pushing" => *layer = (number("current"), number("total").max(layer.1).max(number("current"))),
            "Pushed" => layer.0 = layer.1,
            _ => return false,
        }
        true
    }

    fn sum(&self) -> PushProgress {
        let (current, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        PushProgress { current, total }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_bytes_of_all_layers_are_summed() {
        let mut layers = Layers::default();
        for (item, counts) in [
            (json!({"status": "The push refers to repository [r/x]"}), false),
            (json!({"status": "Preparing", "id": "a", "progressDetail": {}}), false),
            (json!({"status": "Pushing", "id": "a", "progressDetail": {"current": 5, "total": 10}}), true),
            (json!({"status": "Pushing", "id": "b", "progressDetail": {"current": 7}}), true),
            (json!({"status": "Layer already exists", "id": "c", "progressDetail": {}}), false),
        ] {
            assert_eq!(layers.take(&item), counts, "{item}");
        }
        assert_eq!(layers.sum(), PushProgress { current: 12, total: 17 });

        layers.take(&json!({"status": "Pushed", "id": "a", "progressDetail": {}}));
        assert_eq!(layers.sum(), PushProgress { current: 17, total: 17 });
    }
}
