//! Reads `build` and `pull_policy`.

use std::collections::BTreeMap;

use super::super::model::{At, Build, BuildSecret, Dockerfile, PullPolicy};
use super::super::problem::ProblemKind;
use super::super::units;
use super::{Fields, Reader};

impl Reader<'_> {
    pub(super) fn build(&self, fields: Fields<'_>, at: At) -> Build {
        let file = fields.text("dockerfile");
        let inline = fields.text("dockerfile_inline");
        if file.is_some() && inline.is_some() {
            let span = fields.key_span("dockerfile_inline");
            let message = format!("{} has both `dockerfile` and `dockerfile_inline`", fields.what);
            self.log.hinted(ProblemKind::Conflict, span, message, "keep one of the two");
        }
        let dockerfile = match (inline, file) {
            (Some(text), _) => Dockerfile::Inline(text),
            (None, Some(file)) => Dockerfile::File(file),
            (None, None) => Dockerfile::default(),
        };
        let context = fields.text("context").unwrap_or_default();
        let texts = |key| fields.texts(key).unwrap_or_default();
        // An argument without a value gets it from the environment, or is omitted.
        let args = self.inheriting(&fields, "args").into_iter().filter(|(_, value)| value.is_some());
        for key in ["provenance", "sbom"] {
            if fields.node(key).is_some() {
                let message =
                    format!("`{key}` of {} is not applied: built images stay on this engine", fields.what);
                self.not_applied(fields.key_span(key), message);
            }
        }
        for key in ["entitlements", "isolation", "privileged"] {
            if fields.node(key).is_some() {
                let message = format!(
                    "`{key}` of {} is not applied: the engine's build call has no such option",
                    fields.what
                );
                self.not_applied(fields.key_span(key), message);
            }
        }
        let build = Build {
            context,
            dockerfile,
            args: args.collect(),
            target: fields.text("target"),
            tag: None,
            tags: texts("tags"),
            labels: fields.texts_by_name("labels"),
            cache_from: texts("cache_from"),
            cache_to: texts("cache_to"),
            no_cache: fields.flag("no_cache").unwrap_or(false),
            no_cache_filter: texts("no_cache_filter"),
            pull: fields.flag("pull").unwrap_or(false),
            network: fields.text("network"),
            additional_contexts: fields.texts_by_name("additional_contexts"),
            extra_hosts: self.hosts(&fields),
            secrets: self.build_secrets(&fields),
            ssh: fields.pairs("ssh"),
            shm_size: fields.size("shm_size"),
            ulimits: self.ulimits(&fields),
            platforms: texts("platforms"),
            entitlements: texts("entitlements"),
            privileged: fields.flag("privileged").unwrap_or(false),
            isolation: fields.text("isolation"),
            extensions: fields.extensions(),
            at,
        };
        fields.finish();
        build
    }

    fn build_secrets(&self, fields: &Fields<'_>) -> Vec<BuildSecret> {
        self.grants(fields, "secrets")
            .into_iter()
            .inspect(|grant| {
                for (key, written) in
                    [("uid", grant.uid.is_some()), ("gid", grant.gid.is_some()), ("mode", grant.mode.is_some())]
                {
                    if written {
                        let message = format!(
                            "`{key}` of the build secret `{}` of {} is not applied: `RUN --mount=type=secret` says it",
                            grant.source, fields.what
                        );
                        self.not_applied(fields.key_span("secrets"), message);
                    }
                }
            })
            .map(|grant| BuildSecret {
                source: grant.source,
                target: grant.target,
                uid: grant.uid,
                gid: grant.gid,
                mode: grant.mode,
            })
            .collect()
    }

    pub(super) fn hosts(&self, fields: &Fields<'_>) -> BTreeMap<String, Vec<String>> {
        let Some(node) = fields.node("extra_hosts") else { return BTreeMap::new() };
        let Some(map) = node.as_map() else {
            let message =
                format!("`extra_hosts` of {} lists `NAME=ADDRESS`, this is {}", fields.what, node.kind());
            self.log.problem(ProblemKind::Type, node.span, message);
            return BTreeMap::new();
        };
        let mut hosts = BTreeMap::new();
        for entry in &map.entries {
            let addresses = entry.value.as_seq().unwrap_or_default();
            let addresses: Vec<String> =
                addresses.iter().filter_map(super::super::node::Node::scalar).collect();
            for address in &addresses {
                if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
                    let message = format!("`{address}`, for the host `{}`, is not an address", entry.key);
                    self.log.problem(ProblemKind::Value, entry.value.span, message);
                }
            }
            hosts.insert(entry.key.clone(), addresses);
        }
        hosts
    }

    pub(super) fn pull_policy(&self, fields: &Fields<'_>) -> Option<PullPolicy> {
        if let Some(every) = fields.node("pull_policy").and_then(|node| node.as_str()?.strip_prefix("every_"))
        {
            return self.every(fields, "pull_policy", &format!("every_{every}"), every);
        }
        let words = [
            ("always", PullPolicy::Always),
            ("never", PullPolicy::Never),
            ("missing", PullPolicy::Missing),
            ("if_not_present", PullPolicy::IfNotPresent),
            ("build", PullPolicy::Build),
            ("daily", PullPolicy::Daily),
            ("weekly", PullPolicy::Weekly),
            ("refresh", PullPolicy::Refresh),
        ];
        let policy = fields.word("pull_policy", &words);
        match (policy, fields.text("pull_refresh_after")) {
            (Some(PullPolicy::Refresh), Some(after)) => {
                self.every(fields, "pull_refresh_after", &after, &after)
            }
            (Some(PullPolicy::Refresh), None) => {
                let message = format!(
                    "`pull_policy: refresh` of {} is taken as `missing`: `pull_refresh_after` does not say when",
                    fields.what
                );
                self.not_applied(fields.key_span("pull_policy"), message);
                policy
            }
            (_, Some(_)) => {
                let message = format!(
                    "`pull_refresh_after` of {} is not applied: only `pull_policy: refresh` uses it",
                    fields.what
                );
                self.not_applied(fields.key_span("pull_refresh_after"), message);
                policy
            }
            (_, None) => policy,
        }
    }

    /// The policy that pulls an image again after a time.
    fn every(&self, fields: &Fields<'_>, key: &str, written: &str, after: &str) -> Option<PullPolicy> {
        match units::duration(after) {
            Ok(duration) => Some(PullPolicy::Every(duration.as_secs())),
            Err(reason) => {
                let message = format!("`{written}` does not say when to pull: {reason}");
                self.log.problem(ProblemKind::Value, fields.key_span(key), message);
                None
            }
        }
    }
}
