//! Builds an image, with BuildKit if the engine has it, otherwise with the classic builder.
//!
//! Both receive the context as one tar in the body of `POST /build`. With BuildKit there is an additional session
//! through which the engine requests credentials, secrets and SSH keys.

mod context;
mod provided;
mod session;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use sha2::{Digest, Sha256};

use self::context::Context;
use self::session::{Provided, Session};
use self::trace::Trace;
use super::credentials::all_credentials;
use super::failure::{Call, call};
use super::images::drain;
use super::wire::{body_bytes, escape, streamed};
use super::{Docker, nonsense};
use crate::engine::{
    ApiVersion, BuildContext, BuildImage, BuildProgress, ByteStream, Dockerfile, EngineError, EngineKind,
    ErrorKind, NamedContext, ObjectKind, OnBuild, PullImage, Result, Ulimit, dockerfile, identity,
};

/// The repository of images that contain additional build contexts. A spec cannot name it.
const CONTEXT_IMAGES: &str = "sbx-context";

impl Docker {
    pub(super) async fn build(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String> {
        let name = build.tags.first().cloned().unwrap_or_default();
        let call = call("build", ObjectKind::Image, name);
        let buildkit = self.kind == EngineKind::Docker && !self.classic_builder;
        if !buildkit && (!build.secrets.is_empty() || !build.ssh.is_empty()) {
            let why = if self.kind == EngineKind::Docker {
                "`secrets` and `ssh` of a build need BuildKit, which DOCKER_BUILDKIT=0 turns off"
            } else {
                "`secrets` and `ssh` of a build need BuildKit, which this engine does not have"
            };
            return Err(call.of(ErrorKind::Unsupported, why));
        }
        let mut build = build.clone();
        let contexts = self.context_images(&build, progress).await?;
        if build.pull && !contexts.is_empty() {
            // Otherwise the engine would look up the context images in a registry.
            self.pull_bases(&build, &contexts, &call).await?;
            build.pull = false;
        }
        let prepared = prepare(&build, &contexts, buildkit, &call).await?;
        build
            .labels
            .extend(prepared.inputs.iter().map(|inputs| (identity::INPUTS.to_owned(), inputs.clone())));
        let query = query(&build, &prepared.dockerfile);
        if buildkit {
            self.build_with_buildkit(&build, query, prepared, &call, progress).await
        } else {
            self.build_classic(&query, prepared, &call, progress).await
        }
    }

    /// The images of the additional contexts; a folder is built into an image first. (Inside the main context, every
    /// `COPY .` would copy it too.)
    async fn context_images(
        &self,
        build: &BuildImage,
        progress: OnBuild<'_>,
    ) -> Result<BTreeMap<String, String>> {
        let mut images = BTreeMap::new();
        for (name, context) in &build.contexts {
            let image = match context {
                NamedContext::Image(reference) => reference.clone(),
                NamedContext::Folder(folder) => {
                    progress(BuildProgress::Step(format!("load the context {name}")));
                    Box::pin(self.build_context_image(build, folder, progress)).await?
                }
            };
            images.insert(name.clone(), image);
        }
        Ok(images)
    }

    async fn build_context_image(
        &self,
        build: &BuildImage,
        folder: &Path,
        progress: OnBuild<'_>,
    ) -> Result<String> {
        let call = call("build", ObjectKind::Image, folder.display().to_string());
        let mut of = BuildImage {
            context: BuildContext::Folder(folder.to_owned()),
            writable: build.writable.clone(),
            dockerfile: Dockerfile::Inline("FROM scratch\nCOPY . /\n".to_owned()),
            platform: build.platform.clone(),
            labels: build.labels.clone(),
            ..BuildImage::default()
        };
        let contents = prepare(&of, &BTreeMap::new(), true, &call).await?.inputs.unwrap_or_default();
        let tag = format!("{CONTEXT_IMAGES}:{}", &contents[..contents.len().min(24)]);
        // The label marks the image as ours to remove, like any image built under a generated name.
        of.labels.insert(identity::BUILT.to_owned(), tag.clone());
        of.tags = vec![tag.clone()];
        self.build(&of, progress).await?;
        Ok(tag)
    }

    async fn pull_bases(
        &self,
        build: &BuildImage,
        contexts: &BTreeMap<String, String>,
        call: &Call,
    ) -> Result<()> {
        let (recipe, build) = (prepare(build, &BTreeMap::new(), true, call).await?.text, build);
        for reference in dockerfile::base_images(&recipe, &build.args) {
            if !contexts.contains_key(&reference) {
                let pull = PullImage { reference, platform: build.platform.clone() };
                self.pull(&pull, &mut |_| {}).await?;
            }
        }
        Ok(())
    }

    async fn build_with_buildkit(
        &self,
        build: &BuildImage,
        query: String,
        prepared: Prepared,
        call: &Call,
        progress: OnBuild<'_>,
    ) -> Result<String> {
        if !build.ulimits.is_empty() && self.version < BUILDKIT_ULIMITS {
            let text = "warning: `ulimits` of the build are not applied: BuildKit of this engine ignores them (DOCKER_BUILDKIT=0 applies them)";
            progress(BuildProgress::Line(text.to_owned()));
        }
        let provided = Provided {
            credentials: all_credentials(self.config.as_deref()).await,
            secrets: provided::secrets(&build.secrets, &build.writable)
                .map_err(|why| call.of(ErrorKind::Invalid, why))?,
            agents: provided::agents(&build.ssh).map_err(|why| call.of(ErrorKind::Invalid, why))?,
        };
        let session = Session::open(&self.wire, provided).await.map_err(|error| call.broke(error))?;
        let path = format!("/build?version=2&rm=1&{query}&session={}", session.id);
        let response = self.wire.send_archive(Method::POST, &path, prepared.archive).await;
        let (mut id, mut trace) = (None, Trace::default());
        let outcome =
            drain(body_bytes(response.map_err(|error| call.broke(error))?), call, |item| {
                match item["id"].as_str() {
                    Some("moby.buildkit.trace") => {
                        if let Some(status) = item["aux"].as_str().and_then(trace::decode) {
                            trace.tell(status, progress);
                        }
                    }
                    _ => id = item["aux"]["ID"].as_str().map(str::to_owned).or(id.take()),
                }
            })
            .await;
        outcome.map_err(tidied)?;
        id.ok_or_else(|| nonsense(call, "an id"))
    }

    async fn build_classic(
        &self,
        query: &str,
        prepared: Prepared,
        call: &Call,
        progress: OnBuild<'_>,
    ) -> Result<String> {
        let credentials: BTreeMap<_, _> = all_credentials(self.config.as_deref()).await.into_iter().collect();
        let credentials = serde_json::to_string(&credentials).unwrap_or_else(|_| "{}".into());
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("/build?version=1&rm=1&forcerm=1&{query}"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"))
            .header("X-Registry-Config", URL_SAFE.encode(credentials))
            .body(streamed(prepared.archive))
            .map_err(|error| call.of(ErrorKind::Invalid, error.to_string()))?;
        let response = self.wire.call(request).await.map_err(|error| call.broke(error))?;
        let mut id = None;
        let outcome = drain(body_bytes(response), call, |item| {
            if let Some(line) = item["stream"].as_str() {
                tell_line(line, progress);
            }
            id = item["aux"]["ID"].as_str().map(str::to_owned).or(id.take());
        })
        .await;
        outcome.map_err(tidied)?;
        id.ok_or_else(|| nonsense(call, "an id"))
    }
}

/// The body of a build request and what it was made from.
struct Prepared {
    archive: ByteStream,
    /// The Dockerfile's path in the archive.
    dockerfile: String,
    /// The Dockerfile's original text.
    text: String,
    /// The digest of all inputs of the image that are on this machine.
    inputs: Option<String>,
}

async fn prepare(
    build: &BuildImage,
    contexts: &BTreeMap<String, String>,
    buildkit: bool,
    call: &Call,
) -> Result<Prepared> {
    let folder = match &build.context {
        BuildContext::Folder(folder) => folder.clone(),
        BuildContext::Remote(_) => return remote(build, contexts, call),
    };
    let (build, contexts) = (build.clone(), contexts.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        let mut context = Context::open(&folder, &build.dockerfile, &build.writable, buildkit)?;
        let files = context.digest().map_err(|error| format!("context `{}`: {error}", folder.display()))?;
        let inputs = inputs(&build, &context.text, &files, &contexts);
        let text = context.text.clone();
        let mut recipe = dockerfile::with_stages(&text, &contexts);
        if !build.fresh_stages.is_empty() {
            let nonce = hex::encode(rand::random::<[u8; 8]>());
            recipe = dockerfile::with_fresh_stages(&recipe, &build.fresh_stages, &nonce);
        }
        if recipe != text {
            context.replace_recipe(&recipe);
        }
        let dockerfile = context.dockerfile.clone();
        Ok(Prepared { archive: context.archive(), dockerfile, text, inputs: Some(inputs) })
    });
    let prepared = prepared.await.map_err(|error| call.of(ErrorKind::Other, error.to_string()))?;
    prepared.map_err(|why: String| call.of(ErrorKind::Invalid, why))
}

/// A context that the engine fetches itself, with its Dockerfile.
fn remote(build: &BuildImage, contexts: &BTreeMap<String, String>, call: &Call) -> Result<Prepared> {
    let dockerfile = match &build.dockerfile {
        Dockerfile::Path(path) => path.display().to_string(),
        Dockerfile::Default => "Dockerfile".into(),
        Dockerfile::Inline(_) => {
            return Err(call.of(ErrorKind::Unsupported, "an inline recipe needs a context of this machine"));
        }
    };
    if !contexts.is_empty() || !build.fresh_stages.is_empty() {
        let why = "`additional_contexts` and `no_cache_filter` need a context of this machine";
        return Err(call.of(ErrorKind::Unsupported, why));
    }
    let archive = Box::pin(futures_util::stream::empty());
    Ok(Prepared { archive, dockerfile, text: String::new(), inputs: None })
}

/// The digest of an image's inputs. It is the same in every checkout and does not depend on the folder's name.
fn inputs(build: &BuildImage, recipe: &str, files: &str, contexts: &BTreeMap<String, String>) -> String {
    let value = serde_json::json!([
        recipe,
        files,
        build.args,
        build.target,
        build.platform,
        contexts,
        build.extra_hosts
    ]);
    hex::encode(Sha256::digest(value.to_string().as_bytes()))
}

fn query(build: &BuildImage, dockerfile: &str) -> String {
    let mut pairs: Vec<(&str, String)> = vec![("dockerfile", dockerfile.to_owned())];
    pairs.extend(build.tags.iter().map(|tag| ("t", tag.clone())));
    pairs.extend(build.extra_hosts.iter().map(|host| ("extrahosts", host.clone())));
    let mut args: BTreeMap<&str, &str> =
        build.args.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?))).collect();
    if build.inline_cache {
        args.insert("BUILDKIT_INLINE_CACHE", "1");
    }
    let ulimit =
        |limit: &Ulimit| serde_json::json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard });
    let ulimits: Vec<serde_json::Value> = build.ulimits.iter().map(ulimit).collect();
    let json = [
        ("ulimits", serde_json::to_string(&ulimits), ulimits.is_empty()),
        ("buildargs", serde_json::to_string(&args), args.is_empty()),
        ("labels", serde_json::to_string(&build.labels), build.labels.is_empty()),
        ("cachefrom", serde_json::to_string(&build.cache_from), build.cache_from.is_empty()),
    ];
    // Serializing a map of strings to JSON cannot fail.
    pairs.extend(
        json.into_iter().filter(|(_, _, empty)| !empty).filter_map(|(key, text, _)| Some((key, text.ok()?))),
    );
    let optional = [
        ("target", build.target.clone()),
        ("platform", build.platform.clone()),
        ("networkmode", build.network.clone()),
        ("shmsize", build.shm_size.map(|bytes| bytes.to_string())),
        ("nocache", build.no_cache.then(|| "1".into())),
        ("pull", build.pull.then(|| "1".into())),
        (
            "remote",
            match &build.context {
                BuildContext::Remote(address) => Some(address.clone()),
                BuildContext::Folder(_) => None,
            },
        ),
    ];
    pairs.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let pairs: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{key}={}", escape(&value))).collect();
    pairs.join("&")
}

fn tell_line(text: &str, progress: &mut (dyn FnMut(BuildProgress) + Send)) {
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let is_step = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : "));
        progress(match is_step {
            Some((_, step)) => BuildProgress::Step(step.to_owned()),
            None => BuildProgress::Line(line.to_owned()),
        });
    }
}

/// Resets the class of a failed build step: its message quotes the command, whose words do not indicate the class.
fn tidied(mut error: EngineError) -> EngineError {
    let words = &error.cause.0;
    if words.contains("exit code:") || words.contains("returned a non-zero code") {
        error.kind = ErrorKind::Other;
    }
    error
}

/// The API version of Docker Engine 23, whose BuildKit is the first that applies `ulimits`.
const BUILDKIT_ULIMITS: ApiVersion = ApiVersion { major: 1, minor: 42 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_asked_for_is_in_the_query() {
        let build = BuildImage {
            tags: vec!["a:1".into(), "b:2".into()],
            args: BTreeMap::from([("A".into(), Some("x y".into())), ("B".into(), None)]),
            target: Some("run".into()),
            no_cache: true,
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 10, hard: 20 }],
            ..BuildImage::default()
        };
        assert_eq!(
            query(&build, "Dockerfile"),
            "dockerfile=Dockerfile&t=a:1&t=b:2&ulimits=%5B%7B%22Hard%22:20%2C%22Name%22:%22nofile%22%2C%22Soft%22:10%7D%5D&buildargs=%7B%22A%22:%22x%20y%22%7D&target=run&nocache=1"
        );
    }

    #[test]
    fn a_failing_commands_words_are_not_taken_for_the_engines() {
        let words = "The command '/bin/sh -c echo no such host' returned a non-zero code: 1";
        let error = EngineError::classified("build", ObjectKind::Image, "a", None, words);
        assert_eq!(tidied(error).kind, ErrorKind::Other);
    }
}
