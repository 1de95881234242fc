//! Checks that a seccomp profile of a spec is not weaker than the engine's default.
//!
//! The engine parses the same text, ignores case in keys and takes the last of two equal keys. So a profile with an
//! unknown or duplicate field counts as unreadable.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::host_files::WritableFolders;

/// Maximum size of a profile in bytes. The engine's default has 20 KiB.
const LARGEST: u64 = 4 << 20;

/// System calls that the engine's default profile denies to a container without capabilities and that reach beyond it:
/// kernel modules, keys, memory and mounts. Profiles for browsers, which allow `clone` and `unshare`, keep them
/// denied.
const GUARDED: [&str; 21] = [
    "add_key",
    "bpf",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "init_module",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "reboot",
    "request_key",
    "swapon",
    "userfaultfd",
];

/// Why a profile requires host access.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    /// It cannot be read, or its meaning is ambiguous.
    Unreadable,
    /// It allows this system call.
    LetsThrough(&'static str),
    /// It delegates calls to a program on the host.
    Notifies,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    #[serde(default, rename = "defaultErrnoRet")]
    _default_errno: serde::de::IgnoredAny,
    #[serde(default, rename = "defaultErrno")]
    _default_errno_name: serde::de::IgnoredAny,
    #[serde(default, rename = "architectures")]
    _architectures: serde::de::IgnoredAny,
    #[serde(default, rename = "archMap")]
    _arch_map: serde::de::IgnoredAny,
    #[serde(default, rename = "flags")]
    _flags: serde::de::IgnoredAny,
    #[serde(default)]
    listener_path: String,
    #[serde(default, rename = "listenerMetadata")]
    _listener_metadata: serde::de::IgnoredAny,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    name: Option<String>,
    action: String,
    #[serde(default, rename = "errnoRet")]
    _errno: serde::de::IgnoredAny,
    #[serde(default, rename = "errno")]
    _errno_name: serde::de::IgnoredAny,
    #[serde(default)]
    args: Option<Vec<serde_json::Value>>,
    #[serde(default, rename = "comment")]
    _comment: serde::de::IgnoredAny,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default, rename = "minKernel")]
    min_kernel: Option<String>,
}

impl Condition {
    fn is_empty(&self) -> bool {
        self.arches.as_ref().is_none_or(Vec::is_empty)
            && self.caps.as_ref().is_none_or(Vec::is_empty)
            && self.min_kernel.is_none()
    }
}

impl Rule {
    fn names(&self, call: &str) -> bool {
        self.names.iter().flatten().chain(&self.name).any(|name| name == call)
    }

    /// Whether the rule applies to every container, argument and kernel.
    fn always_holds(&self) -> bool {
        self.args.as_ref().is_none_or(Vec::is_empty)
            && [&self.includes, &self.excludes].into_iter().flatten().all(Condition::is_empty)
    }

    /// Whether the rule requires a capability that needs host access.
    fn needs_host_access(&self, is_harmless: &dyn Fn(&str) -> bool) -> bool {
        self.includes
            .iter()
            .filter_map(|includes| includes.caps.as_ref())
            .flatten()
            .any(|capability| !is_harmless(capability))
    }
}

fn denies(action: &str) -> bool {
    matches!(
        action,
        "SCMP_ACT_ERRNO"
            | "SCMP_ACT_KILL"
            | "SCMP_ACT_KILL_PROCESS"
            | "SCMP_ACT_KILL_THREAD"
            | "SCMP_ACT_TRAP"
    )
}

/// Reads a profile, if the path is that of a file that may hold one. Follows no link that a service can have made.
pub(super) fn read(path: &Path, writable: &WritableFolders) -> Option<String> {
    // Opening a pipe would wait for its writer.
    let is_file = |meta: &std::fs::Metadata| meta.is_file() && meta.len() <= LARGEST;
    path.metadata().ok().filter(is_file)?;
    let mut text = String::new();
    let file = writable.open(path).ok()?;
    file.take(LARGEST + 1).read_to_string(&mut text).ok()?;
    let text = text.trim_start();
    text.starts_with('{').then(|| text.to_owned())
}

/// Finds the weakness of a profile, given as text or as the path of a file below `folder`. `is_harmless` tells which
/// capabilities a container may have without host access.
pub(super) fn weakness(profile: &str, folder: &Path, is_harmless: &dyn Fn(&str) -> bool) -> Option<Weakness> {
    let read = if profile.starts_with('{') {
        serde_json::from_str::<Profile>(profile).ok()
    } else {
        read(&folder.join(profile), &WritableFolders::default())
            .and_then(|text| serde_json::from_str::<Profile>(&text).ok())
    };
    let Some(profile) = read else { return Some(Weakness::Unreadable) };
    let rules = profile.syscalls.unwrap_or_default();
    if !profile.listener_path.is_empty() || rules.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY") {
        return Some(Weakness::Notifies);
    }
    let is_closed = |call: &str| {
        let opens =
            |rule: &Rule| rule.names(call) && !denies(&rule.action) && !rule.needs_host_access(is_harmless);
        let closes = |rule: &Rule| rule.names(call) && denies(&rule.action) && rule.always_holds();
        !rules.iter().any(opens) && (denies(&profile.default_action) || rules.iter().any(closes))
    };
    GUARDED.into_iter().find(|call| !is_closed(call)).map(Weakness::LetsThrough)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: &str) -> Option<Weakness> {
        weakness(profile, Path::new("/nowhere"), &|capability| capability == "CAP_CHOWN")
    }

    fn allowing_but(rule: &str) -> String {
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)
    }

    #[test]
    fn a_rule_that_denies_nothing_leaves_the_profile_open() {
        let all = serde_json::to_string(&GUARDED).unwrap();
        for rule in [
            String::new(),
            r#"{"names":[],"action":"SCMP_ACT_ERRNO"}"#.to_owned(),
            r#"{"names":null,"action":"SCMP_ACT_ERRNO"}"#.to_owned(),
            r#"{"names":["no_such_call"],"action":"SCMP_ACT_ERRNO"}"#.to_owned(),
            r#"{"names":["reboot"],"action":"SCMP_ACT_ERRNO"}"#.to_owned(),
            format!(r#"{{"names":{all},"action":"SCMP_ACT_LOG"}}"#),
            format!(r#"{{"names":{all},"action":"SCMP_ACT_TRACE"}}"#),
            format!(
                r#"{{"names":{all},"action":"SCMP_ACT_ERRNO","args":[{{"index":0,"value":7,"op":"SCMP_CMP_EQ"}}]}}"#
            ),
            format!(r#"{{"names":{all},"action":"SCMP_ACT_ERRNO","includes":{{"arches":["s390"]}}}}"#),
            format!(r#"{{"names":{all},"action":"SCMP_ACT_ERRNO","excludes":{{"caps":["CAP_CHOWN"]}}}}"#),
        ] {
            assert!(matches!(of(&allowing_but(&rule)), Some(Weakness::LetsThrough(_))), "{rule}");
        }
        assert_eq!(of(&allowing_but(&format!(r#"{{"names":{all},"action":"SCMP_ACT_ERRNO"}}"#))), None);
    }

    #[test]
    fn what_the_engine_may_read_differently_is_not_believed() {
        for profile in [
            r#"{"DefaultAction":"SCMP_ACT_ALLOW"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","DefaultAction":"SCMP_ACT_ALLOW"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultAction":"SCMP_ACT_ALLOW"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO","Names":["mount"]}]}"#,
            r#"{"defaultAction":"#,
        ] {
            assert_eq!(of(profile), Some(Weakness::Unreadable), "{profile}");
        }
    }

    #[test]
    fn a_profile_that_denies_by_default_may_open_what_is_not_guarded() {
        let deny = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#);
        assert_eq!(of(&deny(r#"{"names":["read","clone","unshare"],"action":"SCMP_ACT_ALLOW"}"#)), None);
        assert_eq!(
            of(&deny(
                r#"{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}"#
            )),
            None
        );
        for rule in [
            r#"{"names":["mount"],"action":"SCMP_ACT_ALLOW"}"#,
            r#"{"name":"mount","action":"SCMP_ACT_ALLOW"}"#,
            r#"{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]}}"#,
        ] {
            assert_eq!(of(&deny(rule)), Some(Weakness::LetsThrough("mount")), "{rule}");
        }
    }

    #[test]
    fn a_profile_hands_no_call_to_a_program_of_the_host() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/run/x.sock"}"#;
        assert_eq!(of(profile), Some(Weakness::Notifies));
        let rule = r#"{"names":["read"],"action":"SCMP_ACT_NOTIFY"}"#;
        assert_eq!(of(&allowing_but(rule)), Some(Weakness::Notifies));
    }
}
