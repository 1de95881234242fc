//! A seccomp profile under which `fsync` and similar calls return success and do nothing.
//!
//! A sandbox's data is disposable, so it need not survive a crash of the host, and a database need not wait for the
//! disk. Data is synced from outside before it is published.
//!
//! A container's own profile replaces the engine's default profile, so this one is the default (kept as data in this
//! folder) plus a rule. The engine evaluates the profile's conditions on capabilities, architecture and kernel as for
//! its default, so everything that the default denies stays denied.

use serde_json::{Value, json};

const DEFAULT: &str = include_str!("seccomp/default.json");

/// The calls that return success without an effect. The last two are the names of the third from last on some
/// architectures.
pub const IGNORED: [&str; 8] = [
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "msync",
    "sync_file_range",
    "sync_file_range2",
    "arm_sync_file_range",
];

/// Calls that the engine's default denies since versions later than this copy (io_uring can also sync data without
/// these calls).
const DENIED_LATER: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// The address family of virtual machine sockets, which reach hosts and guests from any network namespace. The
/// engine's default denies it since version 23.
const AF_VSOCK: u32 = 40;

/// A user's profile that is not valid.
#[derive(Debug, thiserror::Error)]
#[error("the seccomp profile is not a profile of the engine: {reason}")]
pub struct BadProfile {
    reason: String,
}

/// The engine's default profile with the rule: the value of the security option `seccomp=`.
pub fn profile() -> String {
    let mut profile: Value = serde_json::from_str(DEFAULT).unwrap_or_default();
    take_out(&mut profile, &DENIED_LATER);
    narrow_sockets(&mut profile);
    ignore_syncs(&mut profile);
    profile.to_string()
}

/// A user's own profile with the rule. Its other rules do not change.
pub fn added_to(profile: &str) -> Result<String, BadProfile> {
    let mut profile: Value =
        serde_json::from_str(profile).map_err(|e| BadProfile { reason: e.to_string() })?;
    if !profile.is_object() || profile.get("defaultAction").is_none_or(|action| !action.is_string()) {
        return Err(BadProfile { reason: "it has no `defaultAction`".to_owned() });
    }
    ignore_syncs(&mut profile);
    Ok(profile.to_string())
}

fn ignore_syncs(profile: &mut Value) {
    take_out(profile, &IGNORED);
    let rule = json!({"names": IGNORED, "action": "SCMP_ACT_ERRNO", "errnoRet": 0});
    match profile.get_mut("syscalls").and_then(Value::as_array_mut) {
        Some(rules) => rules.push(rule),
        None => profile["syscalls"] = json!([rule]),
    }
}

/// Removes calls from all rules that allow them, because the result of two rules for one call is not defined.
fn take_out(profile: &mut Value, calls: &[&str]) {
    let Some(rules) = profile.get_mut("syscalls").and_then(Value::as_array_mut) else { return };
    let named = |name: &Value| name.as_str().is_some_and(|name| calls.contains(&name));
    rules.retain_mut(|rule| {
        if rule.get("name").is_some_and(named) {
            return false;
        }
        match rule.get_mut("names").and_then(Value::as_array_mut) {
            Some(names) => {
                names.retain(|name| !named(name));
                !names.is_empty()
            }
            None => true,
        }
    });
}

fn narrow_sockets(profile: &mut Value) {
    take_out(profile, &["socket"]);
    if let Some(rules) = profile.get_mut("syscalls").and_then(Value::as_array_mut) {
        let other_than_vsock = json!([{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}]);
        rules.push(json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": other_than_vsock}));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn rules_for<'a>(profile: &'a Value, call: &str) -> Vec<&'a Value> {
        let rules = profile["syscalls"].as_array().unwrap();
        rules
            .iter()
            .filter(|rule| rule["names"].as_array().is_some_and(|n| n.iter().any(|n| n == call)))
            .collect()
    }

    #[test]
    fn each_sync_has_one_rule_and_it_answers_success() {
        let profile: Value = serde_json::from_str(&profile()).unwrap();
        for call in IGNORED {
            let rules = rules_for(&profile, call);
            assert_eq!(rules.len(), 1, "{call}");
            assert_eq!((&rules[0]["action"], &rules[0]["errnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(0)));
        }
    }

    #[test]
    fn the_rule_holds_on_every_architecture_and_for_its_programs_of_fewer_bits() {
        let profile: Value = serde_json::from_str(&profile()).unwrap();
        for call in IGNORED {
            let rule = rules_for(&profile, call)[0].as_object().unwrap();
            for condition in ["args", "includes", "excludes"] {
                assert!(!rule.contains_key(condition), "{call} only under {condition}");
            }
        }
        let fewer_bits: [(&str, &[&str]); 4] = [
            ("SCMP_ARCH_X86_64", &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
            ("SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
            ("SCMP_ARCH_MIPS64", &["SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"]),
            ("SCMP_ARCH_S390X", &["SCMP_ARCH_S390"]),
        ];
        for (architecture, others) in fewer_bits {
            let mut maps = profile["archMap"].as_array().unwrap().iter();
            let map = maps.find(|map| map["architecture"] == architecture).unwrap();
            assert_eq!(map["subArchitectures"], json!(others), "{architecture}");
        }
    }

    #[test]
    fn all_else_is_as_in_the_default() {
        let ours: Value = serde_json::from_str(&profile()).unwrap();
        let default: Value = serde_json::from_str(DEFAULT).unwrap();
        assert_eq!(ours["defaultAction"], default["defaultAction"]);
        assert_eq!(ours["archMap"], default["archMap"]);
        let calls = |profile: &Value| {
            let mut calls = Vec::new();
            for rule in profile["syscalls"].as_array().unwrap() {
                for name in rule["names"].as_array().unwrap() {
                    let name = name.as_str().unwrap().to_owned();
                    if IGNORED.contains(&&*name) || DENIED_LATER.contains(&&*name) || name == "socket" {
                        continue;
                    }
                    calls.push((name, rule["action"].to_string(), rule["includes"].to_string()));
                }
            }
            calls
        };
        assert_eq!(calls(&ours), calls(&default));
        for call in DENIED_LATER {
            assert!(rules_for(&ours, call).is_empty());
        }
    }

    #[test]
    fn a_users_profile_keeps_what_it_denies() {
        let theirs = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "fsync"], "action": "SCMP_ACT_ERRNO"}, {"name": "sync", "action": "SCMP_ACT_KILL"}]});
        let ours: Value = serde_json::from_str(&added_to(&theirs.to_string()).unwrap()).unwrap();
        assert_eq!(ours["syscalls"].as_array().unwrap().len(), 2);
        assert_eq!(ours["syscalls"][0]["names"], json!(["mkdir"]));
        assert!(added_to("[]").is_err());
        assert!(added_to("{").is_err());
    }

    /// Runs this test binary in a container, as a program that makes the calls.
    fn inside(options: &[&str]) -> Option<String> {
        const IMAGE: &str = "sbx-test/busybox:latest";
        let found = Command::new("docker").args(["image", "inspect", IMAGE]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            eprintln!("skipped: no engine, or no {IMAGE}");
            return None;
        }
        let exe = format!("--volume={}:/test:ro", std::env::current_exe().unwrap().display());
        let run = Command::new("docker")
            .args(["run", "--rm", "--network=none", "--env=FSYNC_INSIDE=1", &exe])
            .args(options)
            .args([
                IMAGE,
                "/test",
                "--ignored",
                "--exact",
                "--nocapture",
                "data::fsync_profile::tests::calls",
            ])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        Some(text.lines().find_map(|line| line.strip_prefix("CALLS ")).unwrap().to_owned())
    }

    #[test]
    #[ignore = "runs only inside a container that the test below starts"]
    fn calls() {
        if std::env::var_os("FSYNC_INSIDE").is_none() {
            return;
        }
        // SAFETY: none of these calls gets memory; a descriptor of -1 fails unless the call is ignored.
        let answer = |number: i64, first: i64| unsafe {
            let outcome = libc::syscall(number, first, 0, 0, 0, 0);
            if outcome < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
        };
        let syncs = [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs, libc::SYS_sync_file_range];
        let ignored: Vec<i32> = syncs.into_iter().map(|number| answer(number, -1)).collect();
        // The kernel rejects an unaligned address, if the call reaches it.
        let memory = answer(libc::SYS_msync, 1);
        let denied: Vec<i32> = [
            (libc::SYS_mount, 0),
            (libc::SYS_keyctl, 0),
            (libc::SYS_unshare, i64::from(libc::CLONE_NEWUSER)),
            (libc::SYS_bpf, 0),
            (libc::SYS_io_uring_setup, 0),
            (libc::SYS_socket, i64::from(AF_VSOCK)),
        ]
        .into_iter()
        .map(|(number, first)| answer(number, first))
        .collect();
        println!("\nCALLS {ignored:?} {memory} {denied:?}");
    }

    #[test]
    fn a_container_is_answered_at_once_and_denied_what_it_was() {
        let option = format!("seccomp={}", profile());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), profile()).unwrap();
        let by_file = format!("--security-opt=seccomp={}", file.path().display());
        assert!(option.len() < 100_000);
        let Some(with_rule) = inside(&[&by_file]) else { return };
        assert_eq!(with_rule, "[0, 0, 0, 0] 0 [1, 1, 1, 1, 1, 1]");
        let plain = inside(&[]).unwrap();
        assert!(plain.starts_with("[9, 9, 9, 9] 22 [1, 1, 1, 1, "), "{plain}");
        // With the capability the engine's conditions allow the call, as they do by default.
        let capable = inside(&[&by_file, "--cap-add=SYS_ADMIN"]).unwrap();
        assert!(capable.starts_with("[0, 0, 0, 0] 0 [14, "), "{capable}");
    }
}
