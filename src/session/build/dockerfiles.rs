//! The images that the Dockerfiles of a spec name, so that what builds them is built first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::engine::dockerfile::base_images;
use crate::spec::{Build, Dockerfile, ServiceName, Spec};

/// The base images of each service that is built, as far as its Dockerfile can be read: whoever builds says what is wrong.
pub async fn named_images(spec: &Spec) -> BTreeMap<ServiceName, BTreeSet<String>> {
    let services = spec.services.values().chain(spec.build_only.values());
    let builds: Vec<(ServiceName, Build)> =
        services.filter_map(|service| Some((service.name.clone(), service.build()?.clone()))).collect();
    let read = move || {
        let named = builds.into_iter().filter_map(|(name, build)| {
            let text = match &build.dockerfile {
                Dockerfile::Inline(text) => text.clone(),
                Dockerfile::File(file) => {
                    std::fs::read_to_string(Path::new(&build.context).join(file)).ok()?
                }
            };
            Some((name, base_images(&text, &build.args)))
        });
        named.collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}
