//! Checks whether this machine can run sandboxes. Each check reports its result, the reason and a hint.

mod tried;

use std::path::Path;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::Serialize;

use crate::agent::client::{KeeperError, Trial};
use crate::engine::identity::Scope;
use crate::engine::network::Subnet as EngineSubnet;
use crate::engine::{
    ApiVersion, CgroupVersion, Engine, EngineError, EngineInfo, EngineKind, Filter, Location,
};
use crate::plan::SubnetPool;
use crate::session::inspect;
use crate::storage::StorageKind;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// How severe the result is.
    pub verdict: Verdict,
    /// What the check found.
    pub found: String,
    /// How to solve it, if there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How severe the result of a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No problem.
    Ok,
    /// Sandboxes work, but with restrictions.
    Warn,
    /// Sandboxes do not work here.
    Fail,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>, hint: Option<&str>) -> Self {
        Self { check, verdict, found: found.into(), hint: hint.map(ToOwned::to_owned) }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found, None)
    }

    fn warn(check: &'static str, found: impl Into<String>, hint: &str) -> Self {
        Self::new(check, Verdict::Warn, found, Some(hint))
    }

    fn fail(check: &'static str, found: impl Into<String>, hint: &str) -> Self {
        Self::new(check, Verdict::Fail, found, Some(hint))
    }
}

/// The state of the keeper and its storage. The caller asks the keeper, since this module has no connection to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// There is no keeper, which is normal without sandboxes.
    Absent,
    /// Its container exists but does not run.
    Down,
    /// It runs and answers.
    Answers {
        /// Its version.
        version: String,
        /// The kind of storage that it uses.
        storage: Option<StorageKind>,
        /// Why it does not use a better kind.
        refused: Vec<String>,
        /// Why it creates no control groups, if it does not.
        ungrouped: Option<String>,
    },
    /// It runs but does not answer.
    Fails {
        /// The cause of the failure.
        cause: String,
    },
}

/// The only finding if the engine cannot be reached.
pub fn unreachable(error: &EngineError) -> Vec<Finding> {
    let found = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    let hint = error.hint().unwrap_or_else(|| "start the engine, or say where it is with DOCKER_HOST".into());
    vec![Finding::fail("engine", found, &hint)]
}

/// Runs all checks on an engine that answers. `trial` is what was tried on it, or why no keeper could be started.
pub async fn examine(
    engine: &dyn Engine,
    scope: &Scope,
    subnets: &SubnetPool,
    keeper: &Keeper,
    trial: &Result<Trial, KeeperError>,
) -> Result<Vec<Finding>, EngineError> {
    let info = engine.info().await?;
    let mut findings = vec![reached(&info), api(&info), machine(&info)];
    findings.extend(location(&info));
    findings.push(control_groups(&info));
    findings.push(seccomp(&info));
    findings.extend(addresses(&info));
    findings.push(builder(&info));
    findings.push(self::keeper(keeper));
    findings.extend(tried::findings(&info, keeper, trial));
    findings.push(address_space(engine, subnets).await?);
    findings.push(overdue(engine, scope).await?);
    findings.extend(stale_edge(networks_here(engine, &info, scope).await?.as_deref()));
    findings.extend(own_words(&info));
    Ok(findings)
}

/// What the engine warns about. Features that its kernel or its rights lack have one cause, so they are one finding.
fn own_words(info: &EngineInfo) -> Vec<Finding> {
    const CHECK: &str = "engine's own word";
    let words = info.warnings.iter().map(|warning| warning.trim().trim_start_matches("WARNING: "));
    let lacks = |word: &str| Some(word.strip_prefix("No ")?.strip_suffix(" support")?.to_owned());
    let (lacking, others): (Vec<&str>, Vec<&str>) = words.partition(|word| lacks(word).is_some());
    let hint = "see the engine's documentation on kernel options";
    let mut findings: Vec<Finding> =
        others.into_iter().map(|word| Finding::warn(CHECK, word, hint)).collect();
    // Already said of the control groups.
    let explained = info.security.rootless && info.cgroup == CgroupVersion::V1;
    if !lacking.is_empty() && !explained {
        let lacking: Vec<String> = lacking.into_iter().filter_map(lacks).collect();
        findings.push(Finding::warn(CHECK, format!("no support for {}", lacking.join(", ")), hint));
    }
    findings
}

/// Known restrictions with Podman's service.
const PODMAN: &str = "with Podman services reach the engine's machine at its address on their network, an `egress` list of \
                      names lets nothing out, fsync is not made cheap, and volumes may have to be copied; Podman 4.3 lets \
                      services find each other by address only";

fn reached(info: &EngineInfo) -> Finding {
    let found = format!("{} {} at {}", info.kind, info.version, info.location);
    match info.kind {
        EngineKind::Docker => Finding::ok("engine", found),
        EngineKind::Podman => Finding::warn("engine", found, PODMAN),
    }
}

fn api(info: &EngineInfo) -> Finding {
    let found = format!("API {}", info.api);
    if info.api >= ApiVersion::OLDEST {
        Finding::ok("api", found)
    } else {
        Finding::fail("api", found, "sandbox speaks API 1.41 and later: Docker Engine 20.10 or newer")
    }
}

fn machine(info: &EngineInfo) -> Finding {
    let gib = info.memory / (1 << 30);
    let found = format!(
        "{} on {}, kernel {}, {} processors, {gib} GiB of memory",
        info.distribution, info.arch, info.kernel, info.cpus
    );
    if info.os != "linux" {
        return Finding::fail("machine", found, "sandboxes need an engine for Linux containers");
    }
    if info.memory < 1 << 30 {
        return Finding::warn(
            "machine",
            found,
            "databases want a gigabyte or more: give the engine's machine more",
        );
    }
    Finding::ok("machine", found)
}

fn location(info: &EngineInfo) -> Option<Finding> {
    match &info.location {
        Location::Unix(_) => None,
        Location::Tcp(host) | Location::Ssh(host) => Some(Finding::warn(
            "location",
            format!("the engine is on another machine, {host}"),
            "published ports are on that machine's 127.0.0.1: reach them through a tunnel, such as `ssh -L`",
        )),
    }
}

fn control_groups(info: &EngineInfo) -> Finding {
    match info.cgroup {
        CgroupVersion::V2 => Finding::ok("control groups", "version 2"),
        CgroupVersion::V1 if info.security.rootless => Finding::warn(
            "control groups",
            "version 1, and the engine runs without root",
            "limits of memory and processors are not applied: boot with systemd.unified_cgroup_hierarchy=1",
        ),
        CgroupVersion::V1 => Finding::ok("control groups", "version 1"),
    }
}

fn seccomp(info: &EngineInfo) -> Finding {
    let more = [
        (info.security.apparmor, "AppArmor"),
        (info.security.selinux, "SELinux"),
        (info.security.rootless, "no root"),
        (info.security.userns, "mapped users"),
    ];
    let seccomp = if info.security.seccomp { "seccomp" } else { "no seccomp" };
    let all: Vec<&str> =
        std::iter::once(seccomp).chain(more.iter().filter(|(on, _)| *on).map(|(_, name)| *name)).collect();
    if info.security.seccomp {
        Finding::ok("confinement", all.join(", "))
    } else {
        Finding::warn(
            "confinement",
            all.join(", "),
            "fsync is not made cheap, and containers may use every system call: use an engine with seccomp",
        )
    }
}

/// An engine without root has a network namespace of its own, in which the host firewall does not see the machine's
/// addresses.
fn addresses(info: &EngineInfo) -> Option<Finding> {
    info.security.rootless.then(|| {
        Finding::warn(
            "egress",
            "the engine's network is a namespace of its own",
            "with `egress: allow` services may reach addresses that this machine gains after `up`: list names or \
             addresses in `egress`, or run `up` again",
        )
    })
}

fn builder(info: &EngineInfo) -> Finding {
    if info.buildkit {
        Finding::ok("builder", "BuildKit")
    } else {
        let hint = "build secrets, ssh and cache mounts need Docker Engine with BuildKit";
        Finding::warn("builder", "the classic builder", hint)
    }
}

fn keeper(keeper: &Keeper) -> Finding {
    match keeper {
        Keeper::Absent => Finding::ok("keeper", "not needed: there is no sandbox"),
        Keeper::Answers { version, .. } => Finding::ok("keeper", format!("answers, version {version}")),
        Keeper::Down => Finding::fail(
            "keeper",
            "its container does not run, so no deadline is enforced",
            "any `sandbox up` starts it again; `docker logs sandbox-keeper` says why it left",
        ),
        Keeper::Fails { cause } => Finding::fail(
            "keeper",
            cause,
            "`docker logs sandbox-keeper` says more; where the engine's socket cannot be mounted, set SANDBOX_KEEPER=process",
        ),
    }
}

/// A bridge of our edge network that the engine no longer has: Podman leaves some when it is busy, and then published
/// ports of the next edge network lead nowhere.
fn stale_edge(bridge: Option<&str>) -> Option<Finding> {
    let bridge = bridge?;
    Some(Finding::warn(
        "networks",
        format!("the bridge `{bridge}` is left of a network that the engine has removed"),
        &format!(
            "published ports may not answer: `ip link delete {bridge}` on the engine's machine removes it"
        ),
    ))
}

/// The bridge of our edge network, if this machine has it and the engine has no such network.
async fn networks_here(
    engine: &dyn Engine,
    info: &EngineInfo,
    scope: &Scope,
) -> Result<Option<String>, EngineError> {
    let bridge = scope.edge_bridge(info.kind);
    if !info.shares_kernel() || !Path::new("/sys/class/net").join(&bridge).exists() {
        return Ok(None);
    }
    Ok(engine.network(&scope.edge()).await?.is_none().then_some(bridge))
}

async fn address_space(engine: &dyn Engine, subnets: &SubnetPool) -> Result<Finding, EngineError> {
    let networks = engine.networks(&Filter::all()).await?;
    let taken: Vec<Ipv4Net> =
        networks.iter().flat_map(|network| &network.subnets).filter_map(EngineSubnet::ipv4).collect();
    let ranges: Vec<String> = subnets.ranges().iter().map(ToString::to_string).collect();
    let found =
        format!("{} networks on the engine; sandboxes' come from {}", networks.len(), ranges.join(", "));
    let hint = "destroy sandboxes that are not needed, or give other ranges in SANDBOX_SUBNETS";
    Ok(if subnets.pick(1, &taken, 0).is_some() {
        Finding::ok("subnets", found)
    } else {
        Finding::fail("subnets", format!("{found}, and none is free"), hint)
    })
}

/// Sandboxes whose first deadline passed long ago and that were neither extended nor removed.
async fn overdue(engine: &dyn Engine, scope: &Scope) -> Result<Finding, EngineError> {
    let now = Timestamp::now();
    let sandboxes = inspect::sandboxes(engine, scope).await?;
    let (running, remains): (Vec<_>, Vec<_>) =
        sandboxes.iter().partition(|sandbox| sandbox.gateway.is_some() || !sandbox.services.is_empty());
    let count = running.len();
    let late = running.iter().filter(|sandbox| sandbox.expires.is_some_and(|moment| moment < now)).count();
    if remains.is_empty() {
        let extended =
            if late > 0 { format!(", {late} of them past the first deadline") } else { String::new() };
        return Ok(Finding::ok("sandboxes", format!("{count} here{extended}")));
    }
    let names: Vec<&str> = remains.iter().map(|sandbox| sandbox.name.as_str()).collect();
    Ok(Finding::warn(
        "sandboxes",
        format!("{count} here; networks or volumes without a container: {}", names.join(", ")),
        "`sandbox down NAME` removes what is left of one",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_is_down_fails_and_one_that_is_not_needed_does_not() {
        assert_eq!(keeper(&Keeper::Absent).verdict, Verdict::Ok);
        assert_eq!(keeper(&Keeper::Down).verdict, Verdict::Fail);
        assert!(keeper(&Keeper::Down).hint.is_some());
    }

    #[test]
    fn an_engine_that_does_not_answer_is_the_only_finding() {
        let error = EngineError::classified(
            "connect to",
            crate::engine::ObjectKind::Engine,
            "unix:///var/run/docker.sock",
            None,
            "connection refused",
        );
        let findings = unreachable(&error);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Fail);
        assert!(findings[0].found.contains("connection refused"), "{}", findings[0].found);
    }
}
