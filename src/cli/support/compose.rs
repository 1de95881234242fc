//! Hints for verbs and options of `docker compose` that sandbox does not have: what to type instead.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::{self, Failure};
use super::options::Globals;

/// Verbs of Compose and similar tools, and the equivalent here.
const VERBS: &[(&str, &str)] = &[
    ("alpha", "sandbox has no experimental verbs"),
    ("bridge", "sandbox does not convert specs for other platforms; `docker compose bridge` does"),
    (
        "commit",
        "`sandbox snapshot create NAME` keeps the data of all services; `docker commit CONTAINER` makes an image",
    ),
    ("convert", "`sandbox config` prints the resolved spec"),
    (
        "export",
        "`sandbox snapshot export NAME` writes the data to a file; `sandbox cp SERVICE:/ DIR` copies a file system",
    ),
    ("publish", "sandbox does not publish specs; `docker compose publish` does"),
    ("push", "sandbox does not push images; `sandbox images` lists them for `docker push`"),
    ("viz", "`sandbox graph --format dot` draws the spec"),
    ("delete", "`sandbox down` destroys a sandbox"),
    ("destroy", "`sandbox down` destroys a sandbox"),
    ("remove", "`sandbox down` destroys a sandbox, `sandbox rm` removes stopped containers"),
    ("list", "`sandbox ls` lists sandboxes"),
    ("status", "`sandbox ps` lists the services of a sandbox"),
    ("prune", "`sandbox gc` frees disk space"),
    ("restore", "`sandbox reset --to SNAPSHOT` puts data back"),
    ("clone", "`sandbox fork NEW` copies a sandbox"),
];

/// Options of Compose's verbs, and the equivalent here. `*` matches every verb.
const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "up",
        "--no-recreate",
        "a container is recreated only if its service changed; `up SERVICE…` leaves the others",
    ),
    ("up", "--always-recreate-deps", "`--force-recreate` recreates all containers"),
    ("create", "--no-recreate", "a container is recreated only if its service changed"),
    (
        "watch",
        "--no-up",
        "`sandbox watch` is the session of its sandbox: it builds it and destroys it at the end",
    ),
    ("build", "--build-arg", "set `build.args` in the spec; `${VARIABLE}` takes a value from this shell"),
    ("build", "--push", "sandbox does not push images; `docker push IMAGE` does"),
    ("build", "--ssh", "set `build.ssh` in the spec"),
    ("build", "--sbom", "sandbox builds for this engine only; `docker buildx build` adds attestations"),
    ("build", "--provenance", "sandbox builds for this engine only; `docker buildx build` adds attestations"),
    ("build", "--builder", "sandbox builds with the engine's own builder"),
    ("build", "--memory", "sandbox builds with the engine's own limits"),
    ("build", "--with-dependencies", "name the services; without names all are built"),
    ("build", "--check", "`docker build --check` checks a Dockerfile"),
    ("build", "--print", "`sandbox config --format json` prints the build sections"),
    ("pull", "--include-deps", "name the services; without names all are pulled"),
    ("pull", "--ignore-pull-failures", "name the services whose images can be pulled"),
    (
        "config",
        "--no-interpolate",
        "`sandbox config` resolves variables; the files themselves show them unresolved",
    ),
    ("config", "--resolve-image-digests", "`sandbox images --format json` shows which images run"),
    ("config", "--lock-image-digests", "`sandbox images --format json` shows which images run"),
    ("config", "--variables", "`sandbox config` names variables that are not set"),
    ("attach", "--detach-keys", "Ctrl-P Ctrl-Q detaches"),
    ("cp", "--all", "`--index` chooses one replica"),
    ("exec", "--privileged", "give the service the capability it needs with `cap_add`"),
    ("ls", "--filter", "`sandbox ls --json` can be filtered with `jq`"),
    ("down", "--dry-run", "`sandbox ls` shows what there is"),
    ("*", "--dry-run", "`sandbox up --dry-run` prints the plan"),
    ("*", "--no-trunc", "nothing is truncated in a pipe or with `--json`"),
    ("*", "--context", "set DOCKER_HOST or DOCKER_CONTEXT to choose an engine"),
    ("*", "--host", "set DOCKER_HOST to choose an engine"),
];

/// Compose's `run` has another meaning: a one-off container of a service.
const RUN: &str = "`sandbox exec SERVICE CMD` runs a command in a service that is up; \
     `sandbox run --in SERVICE -- CMD` builds a sandbox for the command and destroys it afterwards";

/// Prints a usage error: with our own hint for Compose's verbs and options, else as clap does.
pub fn of_usage(error: &clap::Error, arguments: &[String]) -> ExitCode {
    match translated(error, arguments) {
        Some(failure) => failure::report(&Globals::default(), &failure).into(),
        None => failure::of_usage(error),
    }
}

fn translated(error: &clap::Error, arguments: &[String]) -> Option<Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let verb = verb_of(arguments);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = context(ContextKind::InvalidSubcommand)?;
            let (_, hint) = VERBS.iter().find(|(known, _)| *known == typed)?;
            Some(Failure::usage(format!("sandbox has no verb `{typed}`"), Some((*hint).to_owned())))
        }
        ErrorKind::UnknownArgument => {
            let typed = context(ContextKind::InvalidArg)?;
            let typed = typed.split('=').next().unwrap_or(typed);
            let hint = option_hint(verb, typed)?;
            let what = if typed.starts_with('-') { "option" } else { "argument" };
            let verb = verb.unwrap_or("sandbox");
            Some(Failure::usage(format!("`{verb}` has no {what} `{typed}`"), Some(hint.to_owned())))
        }
        ErrorKind::MissingRequiredArgument if verb == Some("run") => {
            Some(Failure::usage("`run` needs a command after `--`", Some(RUN.to_owned())))
        }
        _ => None,
    }
}

fn option_hint(verb: Option<&str>, typed: &str) -> Option<&'static str> {
    if verb == Some("run") {
        return Some(RUN);
    }
    let entry = |wanted: &str| {
        let found = OPTIONS.iter().find(|(of, option, _)| *of == wanted && *option == typed);
        found.map(|(_, _, hint)| *hint)
    };
    verb.and_then(entry).or_else(|| entry("*"))
}

/// The first argument that is one of our verbs.
fn verb_of(arguments: &[String]) -> Option<&str> {
    let command = super::help::documented();
    let verbs: Vec<String> = command
        .get_subcommands()
        .flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_all_aliases()).map(str::to_owned))
        .collect();
    arguments.iter().skip(1).map(String::as_str).find(|word| verbs.iter().any(|verb| verb == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_for(line: &str) -> Option<String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = super::super::help::command().try_get_matches_from(&arguments).unwrap_err();
        translated(&error, &arguments).and_then(|failure| failure.hint())
    }

    #[test]
    fn what_compose_has_and_sandbox_has_not_is_answered_with_what_to_type() {
        for (line, hint) in [
            ("sandbox convert", "sandbox config"),
            ("sandbox viz", "sandbox graph"),
            ("sandbox -f a.yaml publish", "docker compose publish"),
            ("sandbox up --no-recreate", "only if its service changed"),
            ("sandbox build --ssh default", "build.ssh"),
            ("sandbox run --rm web ls", "sandbox exec"),
            ("sandbox run web ls", "sandbox exec"),
            ("sandbox ps --no-trunc", "--json"),
        ] {
            let found = hint_for(line).unwrap_or_default();
            assert!(found.contains(hint), "{line}: {found}");
        }
    }

    #[test]
    fn a_typing_mistake_is_left_to_clap() {
        assert_eq!(hint_for("sandbox upp"), None);
        assert_eq!(hint_for("sandbox up --detahc"), None);
    }
}
