//! Reads which images the Dockerfiles of a spec are based on, so that services that build those images are built first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::engine::dockerfile::base_images;
use crate::spec::{Build, Dockerfile, ServiceName, Spec};

/// The base images of each service that is built, as far as its Dockerfile can be read. The build itself reports errors
/// in it.
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
