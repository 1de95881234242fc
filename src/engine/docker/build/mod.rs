//! Building an image: BuildKit where the engine has it, the classic builder elsewhere.
//!
//! Either way the context is one tar in the body of `POST /build`; with BuildKit bollard holds the session beside it,
//! through which the engine asks for credentials.

mod context;
mod trace;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::StreamExt;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Uri};

use self::context::Context;
use self::trace::Trace;
use super::credentials::all_credentials;
use super::failure::{Call, call};
use super::images::drain;
use super::wire::{body_bytes, escape, streamed};
use super::{Docker, nonsense};
use crate::engine::{
    BuildContext, BuildImage, BuildProgress, ByteStream, EngineError, EngineKind, ErrorKind, ObjectKind,
    OnBuild, Result,
};

impl Docker {
    pub(super) async fn build(&self, build: &BuildImage, progress: OnBuild<'_>) -> Result<String> {
        let name = build.tags.first().cloned().unwrap_or_default();
        let call = call("build", ObjectKind::Image, name);
        let buildkit = self.kind == EngineKind::Docker && !self.classic_builder;
        if !build.secrets.is_empty() || !build.ssh.is_empty() {
            // Both need a session that serves them, which bollard does not offer beside the build's output.
            return Err(call.of(ErrorKind::Unsupported, "`secrets` and `ssh` of a build are not supported"));
        }
        let prepared = prepare(build, buildkit, &call).await?;
        let query = query(build, &prepared.dockerfile);
        if buildkit {
            self.build_with_buildkit(query, prepared, &call, progress).await
        } else {
            self.build_classic(&query, prepared, &call, progress).await
        }
    }

    async fn build_with_buildkit(
        &self,
        query: String,
        prepared: Prepared,
        call: &Call,
        progress: OnBuild<'_>,
    ) -> Result<String> {
        let session = format!("sandbox-{}", hex::encode(rand::random::<[u8; 12]>()));
        // bollard's options hold one tag and one extra host; ours go straight into the address.
        let api = self.patient.clone().with_request_modifier(move |mut request| {
            if request.uri().path().ends_with("/build")
                && let Ok(uri) =
                    format!("/build?version=2&{query}&session={}", session_of(request.uri())).parse::<Uri>()
            {
                *request.uri_mut() = uri;
            }
            request
        });
        let options = BuildImageOptions {
            version: BuilderVersion::BuilderBuildKit,
            session: Some(session),
            ..BuildImageOptions::default()
        };
        let credentials = all_credentials(self.config.as_deref()).await;
        let mut items =
            Box::pin(api.build_image(options, Some(credentials), Some(streamed(prepared.archive))));
        let (mut id, mut trace) = (None, Trace::default());
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| tidied(call.failed(error)))?;
            match item.aux {
                Some(bollard::models::BuildInfoAux::BuildKit(status)) => trace.tell(status, progress),
                Some(bollard::models::BuildInfoAux::Default(image)) => id = image.id.or(id),
                None => {
                    if let Some(line) = item.stream {
                        tell_line(&line, progress);
                    }
                }
            }
        }
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

/// What is sent.
struct Prepared {
    archive: ByteStream,
    /// The recipe's path in the archive.
    dockerfile: String,
}

async fn prepare(build: &BuildImage, buildkit: bool, call: &Call) -> Result<Prepared> {
    let folder = match &build.context {
        BuildContext::Folder(folder) => folder.clone(),
        BuildContext::Remote(_) => {
            let dockerfile = match &build.dockerfile {
                crate::engine::Dockerfile::Path(path) => path.display().to_string(),
                crate::engine::Dockerfile::Default => "Dockerfile".into(),
                crate::engine::Dockerfile::Inline(_) => {
                    return Err(
                        call.of(ErrorKind::Unsupported, "an inline recipe needs a context of this machine")
                    );
                }
            };
            return Ok(Prepared { archive: Box::pin(futures_util::stream::empty()), dockerfile });
        }
    };
    let recipe = build.dockerfile.clone();
    let context = tokio::task::spawn_blocking(move || Context::open(&folder, &recipe, buildkit))
        .await
        .map_err(|error| call.of(ErrorKind::Other, error.to_string()))?
        .map_err(|why| call.of(ErrorKind::Invalid, why))?;
    let dockerfile = context.dockerfile.clone();
    Ok(Prepared { archive: context.archive(), dockerfile })
}

fn query(build: &BuildImage, dockerfile: &str) -> String {
    let mut pairs: Vec<(&str, String)> = vec![("dockerfile", dockerfile.to_owned())];
    pairs.extend(build.tags.iter().map(|tag| ("t", tag.clone())));
    pairs.extend(build.extra_hosts.iter().map(|host| ("extrahosts", host.clone())));
    let args: BTreeMap<_, _> =
        build.args.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).collect();
    let json = [
        ("buildargs", serde_json::to_string(&args), args.is_empty()),
        ("labels", serde_json::to_string(&build.labels), build.labels.is_empty()),
        ("cachefrom", serde_json::to_string(&build.cache_from), build.cache_from.is_empty()),
    ];
    // Maps of strings always become JSON.
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

fn session_of(uri: &Uri) -> &str {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.find_map(|pair| pair.strip_prefix("session=")).unwrap_or_default()
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

/// A step that failed quotes its command, whose words say nothing about the class of the failure.
fn tidied(mut error: EngineError) -> EngineError {
    let words = &error.cause.0;
    if words.contains("exit code:") || words.contains("returned a non-zero code") {
        error.kind = ErrorKind::Other;
    }
    error
}

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
            ..BuildImage::default()
        };
        assert_eq!(
            query(&build, "Dockerfile"),
            "dockerfile=Dockerfile&t=a:1&t=b:2&buildargs=%7B%22A%22:%22x%20y%22%7D&target=run&nocache=1"
        );
    }

    #[test]
    fn a_failing_commands_words_are_not_taken_for_the_engines() {
        let words = "The command '/bin/sh -c echo no such host' returned a non-zero code: 1";
        let error = EngineError::classified("build", ObjectKind::Image, "a", None, words);
        assert_eq!(tidied(error).kind, ErrorKind::Other);
    }
}
