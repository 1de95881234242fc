//! Calls of the API for images, except pull and build.

use bollard::models as api;
use bollard::query_parameters as query;
use futures_util::StreamExt;
use hyper::Method;

use super::failure::{Call, call, found};
use super::wire::{body_bytes, escape};
use super::{Docker, nonsense, read};
use crate::engine::{ByteStream, ErrorKind, Filter, Image, ImageConfig, ImportImage, ObjectKind, Result};

impl Docker {
    pub(super) async fn inspect_image(&self, reference: &str) -> Result<Option<Image>> {
        let call = call("inspect", ObjectKind::Image, reference);
        found(self.api.inspect_image(reference).await.map(inspected).map_err(call.on_failed()))
    }

    pub(super) async fn list_images(&self, filter: &Filter) -> Result<Vec<Image>> {
        let mut filters = read::labels_filter(&filter.labels);
        if !filter.names.is_empty() {
            filters.insert("reference".into(), filter.names.clone());
        }
        let call = call("list the images of", ObjectKind::Engine, "");
        let options = query::ListImagesOptions { filters: Some(filters), ..Default::default() };
        let list = self.api.list_images(Some(options)).await.map_err(call.on_failed())?;
        Ok(list.into_iter().map(listed).collect())
    }

    pub(super) async fn import(&self, import: &ImportImage, rootfs: ByteStream) -> Result<String> {
        let call = call("import", ObjectKind::Image, &import.tag);
        let (repo, tag) = split_reference(&import.tag);
        let mut path = format!("/images/create?fromSrc=-&repo={}&tag={}", escape(repo), escape(tag));
        let labels =
            import.labels.iter().map(|(key, value)| format!("LABEL {}={}", quoted(key), quoted(value)));
        for change in import.changes.iter().cloned().chain(labels) {
            path = format!("{path}&changes={}", escape(&change));
        }
        if let Some(platform) = &import.platform {
            path = format!("{path}&platform={}", escape(platform));
        }
        if let Some(message) = &import.message {
            path = format!("{path}&message={}", escape(message));
        }
        let response =
            self.wire.send_archive(Method::POST, &path, rootfs).await.map_err(|error| call.broke(error))?;
        let mut id = None;
        drain(body_bytes(response), &call, |item| {
            // The last status message of an import is the image's id.
            id = item["status"]
                .as_str()
                .filter(|status| status.starts_with("sha256:"))
                .map(str::to_owned)
                .or(id.take());
        })
        .await?;
        id.ok_or_else(|| nonsense(&call, "an id"))
    }

    pub(super) async fn save(&self, references: &[String]) -> Result<ByteStream> {
        let call = call("save", ObjectKind::Image, references.join("`, `"));
        let names: Vec<String> = references.iter().map(|name| format!("names={}", escape(name))).collect();
        let response = self.wire.get(&format!("/images/get?{}", names.join("&"))).await;
        Ok(body_bytes(response.map_err(|error| call.broke(error))?))
    }

    pub(super) async fn load(&self, archive: ByteStream) -> Result<Vec<String>> {
        let call = call("load", ObjectKind::Image, "");
        let response = self.wire.send_archive(Method::POST, "/images/load?quiet=1", archive).await;
        let mut loaded = Vec::new();
        drain(body_bytes(response.map_err(|error| call.broke(error))?), &call, |item| {
            let line = item["stream"].as_str().unwrap_or_default().trim();
            let name = line.strip_prefix("Loaded image: ").or_else(|| line.strip_prefix("Loaded image ID: "));
            loaded.extend(name.map(str::to_owned));
        })
        .await?;
        Ok(loaded)
    }

    pub(super) async fn tag(&self, reference: &str, tag: &str) -> Result<()> {
        let call = call("tag", ObjectKind::Image, reference);
        let (repo, name) = split_reference(tag);
        let options = query::TagImageOptions { repo: Some(repo.to_owned()), tag: Some(name.to_owned()) };
        self.api.tag_image(reference, Some(options)).await.map_err(call.on_failed())
    }

    pub(super) async fn drop_image(&self, reference: &str) -> Result<()> {
        let call = call("remove", ObjectKind::Image, reference);
        let outcome = self.patient.remove_image(reference, None::<query::RemoveImageOptions>, None).await;
        outcome.map(drop).map_err(call.on_failed())
    }
}

/// Splits a reference into `REPOSITORY` and `TAG` (`latest` by default); the colon of a port does not start a tag.
pub(super) fn split_reference(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (reference, "latest"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
}

/// Reads a stream of JSON items to its end; returns the first item that is an error.
pub(super) async fn drain(
    bytes: ByteStream,
    call: &Call,
    mut each: impl FnMut(&serde_json::Value),
) -> Result<()> {
    let mut lines = tokio_util::codec::FramedRead::new(
        tokio_util::io::StreamReader::new(bytes),
        tokio_util::codec::LinesCodec::new(),
    );
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| call.of(ErrorKind::Unreachable, error.to_string()))?;
        let Ok(item) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if let Some(words) = item["errorDetail"]["message"].as_str().or_else(|| item["error"].as_str()) {
            return Err(call.refused(None, words));
        }
        each(&item);
    }
    Ok(())
}

fn inspected(image: api::ImageInspect) -> Image {
    let config = image.config.unwrap_or_default();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort();
    Image {
        id: image.id.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
        arch: image.architecture.unwrap_or_default(),
        variant: image.variant.unwrap_or_default(),
        os: image.os.unwrap_or_default(),
        layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        size: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        created: image.created.and_then(|time| read::moment(time.unix_timestamp_nanos())),
        tagged: image
            .metadata
            .and_then(|metadata| read::moment(metadata.last_tag_time?.unix_timestamp_nanos())),
        config: ImageConfig {
            user: config.user.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            exposed: read::ports(config.exposed_ports),
            volumes,
            workdir: config.working_dir.unwrap_or_default(),
            healthcheck: read::healthcheck(config.healthcheck),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            labels: read::labels(config.labels),
        },
    }
}

fn listed(image: api::ImageSummary) -> Image {
    let known = |list: Vec<String>| list.into_iter().filter(|name| !name.contains("<none>")).collect();
    Image {
        id: image.id,
        digests: known(image.repo_digests),
        tags: known(image.repo_tags),
        arch: String::new(),
        variant: String::new(),
        os: String::new(),
        layers: Vec::new(),
        size: u64::try_from(image.size).unwrap_or_default(),
        created: jiff::Timestamp::from_second(image.created).ok(),
        tagged: None,
        config: ImageConfig { labels: read::labels(Some(image.labels)), ..ImageConfig::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_not_a_tag() {
        assert_eq!(split_reference("a/b:1"), ("a/b", "1"));
        assert_eq!(split_reference("localhost:5000/b"), ("localhost:5000/b", "latest"));
        assert_eq!(split_reference("localhost:5000/b:2"), ("localhost:5000/b", "2"));
    }
}
