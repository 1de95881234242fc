//! Finds security options that weaken the isolation between a container and the kernel.
//!
//! Only options that are known to keep or strengthen the engine's defaults need no host access. A profile of AppArmor or
//! a type of SELinux is a name on the engine's machine: it may stand for a profile that confines nothing, as many of
//! Ubuntu's do. Podman's `unmask` and `systempaths` open `/proc` and `/sys`.

use std::path::Path;

use super::capabilities::is_harmless;
use super::model::Spec;
use super::seccomp::{self, Weakness};

/// Maximum length of an option in a message: it may contain a whole profile.
const SHOWN: usize = 80;
/// Types of SELinux that confine a container as the default does.
const SELINUX_TYPES: [&str; 3] = ["type:container_t", "type:container_init_t", "type:svirt_lxc_net_t"];

/// Splits an option into its key, in lower case, and its value.
fn parts(option: &str) -> (String, &str) {
    let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
    (key.trim().to_ascii_lowercase(), value.trim())
}

/// The path of the seccomp profile that an option names.
pub(super) fn profile_path(option: &str) -> Option<&str> {
    let (key, value) = parts(option);
    let is_path = !value.starts_with('{') && !["", "unconfined", "builtin"].contains(&value);
    (key == "seccomp" && is_path).then_some(value)
}

/// What these options ask for beyond the engine's defaults. A custom seccomp profile is allowed in the user's own spec,
/// unless it lets dangerous calls through. A foreign spec may only request the defaults.
pub(super) fn weakening(options: &[String], folder: &Path, is_foreign: bool) -> Vec<String> {
    let found = options.iter().filter_map(|option| {
        let shown: String = option.chars().take(SHOWN).collect();
        match (weakness(option, folder), is_foreign && !is_default(option)) {
            (Some(taken), _) => Some(format!("`security_opt: {shown}`, {taken}")),
            (None, true) => Some(format!("`security_opt: {shown}`, and came out of a snapshot file")),
            (None, false) => None,
        }
    });
    found.collect()
}

/// Whether an option only states or strengthens what the engine does anyway.
fn is_default(option: &str) -> bool {
    let (key, value) = parts(option);
    let value = value.to_ascii_lowercase();
    match key.as_str() {
        "no-new-privileges" => matches!(value.as_str(), "" | "true" | "t" | "1"),
        "seccomp" => value == "builtin",
        _ => false,
    }
}

fn weakness(option: &str, folder: &Path) -> Option<String> {
    if is_default(option) {
        return None;
    }
    let (key, value) = parts(option);
    let plain = value.to_ascii_lowercase();
    let taken = match key.as_str() {
        "seccomp" if plain == "unconfined" => "which takes a wall away",
        "seccomp" => {
            return seccomp::weakness(value, folder, &is_harmless).map(|weakness| match weakness {
                Weakness::Unreadable => "a profile that cannot be read".to_owned(),
                Weakness::Notifies => "which hands system calls to a program of the host".to_owned(),
                Weakness::LetsThrough(call) => format!("which takes a wall away: it lets `{call}` through"),
            });
        }
        "label" if is_confining_label(&plain) => return None,
        "apparmor" if plain == "docker-default" || plain.starts_with("containers-default") => return None,
        "apparmor" if plain != "unconfined" => "a profile of the host, which may confine nothing",
        _ => "which takes a wall away",
    };
    Some(taken.to_owned())
}

/// Whether a label of SELinux leaves a container as confined as the default does.
fn is_confining_label(label: &str) -> bool {
    ["level:", "user:", "role:"].iter().any(|kind| label.starts_with(kind)) || SELINUX_TYPES.contains(&label)
}

/// Replaces the path of each service's seccomp profile with its content: what is checked is then what the engine gets,
/// even if a service writes the file meanwhile. A path through a link that a service can have made is not read; it is
/// left for the guard to reject.
pub(super) fn embed_profiles(spec: &mut Spec) {
    let writable = spec.writable_folders();
    for option in spec.services.values_mut().flat_map(|service| &mut service.settings.security_opt) {
        let profile = profile_path(option).and_then(|name| seccomp::read(&spec.folder.join(name), &writable));
        if let Some(profile) = profile {
            *option = format!("seccomp={profile}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_known_to_keep_the_defaults_needs_host_access() {
        let needs = |option: &str| weakness(option, Path::new("/nowhere")).is_some();
        for option in [
            "label=type:unconfined_t",
            "label=type:container_runtime_t",
            "label=nested",
            "unmask=ALL",
            "unmask=/proc/sys",
            "systempaths=unconfined",
            "proc-opts=hidepid=0",
            "apparmor=flatpak",
            "apparmor:unconfined",
            "credentialspec=file://x",
        ] {
            assert!(needs(option), "{option}");
        }
        for option in [
            "no-new-privileges",
            "label=level:s0:c1,c2",
            "label:user:USER",
            "label=type:container_t",
            "apparmor=docker-default",
        ] {
            assert!(!needs(option), "{option}");
        }
    }
}
