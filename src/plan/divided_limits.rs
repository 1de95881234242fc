//! Computes each container's limits so that together they stay within the sandbox's `limits`.
//!
//! With a parent control group each container needs only the limits of its own service. Without one, the sandbox's
//! limits are divided: a service with a limit of its own keeps it, and the others get equal parts of the rest. If the
//! written limits alone exceed the total, all are reduced in proportion.

use std::collections::BTreeMap;

use crate::spec::{Limits, Service, ServiceName, Spec};

/// Resource limits of one container of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// How the containers of a sandbox are kept within its `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// A parent control group limits them together.
    Group,
    /// Each container gets a part of the limits.
    Parts,
}

/// Default CPU period (`cpu_period`) in microseconds.
const PERIOD: i64 = 100_000;

/// The CPU quota that equals this many processors.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "microseconds, far below 2^52"
)]
fn quota(cpus: f64, period: i64) -> i64 {
    (cpus * period as f64).round() as i64
}

/// The number of processors that a service's `cpu_quota` and `cpu_period` amount to.
#[expect(clippy::cast_precision_loss, reason = "microseconds, far below 2^52")]
fn cpus_of_quota(service: &Service) -> Option<f64> {
    let quota = service.resources.cpu_quota.filter(|quota| *quota > 0)?;
    let period = service.resources.cpu_period.filter(|period| *period > 0).unwrap_or(PERIOD);
    Some(quota as f64 / period as f64)
}

/// The CPU quota of a service's containers: the one in the spec, capped by the service's share. `None` if the share is
/// given as a number of processors; the engine does not accept both.
pub(super) fn quota_of(
    service: &Service,
    whole: Option<f64>,
    share: Option<f64>,
    sharing: Sharing,
) -> Option<i64> {
    let written = &service.resources;
    let period = written.cpu_period.unwrap_or(PERIOD);
    match sharing {
        Sharing::Group => written.cpu_quota.map(|own| whole.map_or(own, |cpus| own.min(quota(cpus, period)))),
        Sharing::Parts if told_by_quota(service) => {
            share.map(|cpus| quota(cpus, period)).or(written.cpu_quota)
        }
        Sharing::Parts => written.cpu_quota,
    }
}

/// Whether the spec limits a service's processors by quota and period.
pub(super) fn told_by_quota(service: &Service) -> bool {
    let written = &service.resources;
    service.cpu_limit().is_none() && (written.cpu_quota.is_some() || written.cpu_period.is_some())
}

/// The shares of all services' containers. Without `limits`, each service has only the limits that it sets itself.
pub fn shares(spec: &Spec, sharing: Sharing) -> BTreeMap<ServiceName, Share> {
    match sharing {
        Sharing::Parts => parts(spec),
        Sharing::Group => {
            let own = |service: &Service| Share {
                memory: service.memory_limit(),
                // A group must not be granted more processors than its parent (cgroup v1 rejects it).
                cpus: service.cpu_limit().map(|own| spec.limits.cpus.map_or(own, |whole| own.min(whole))),
                pids: service.pids_limit(),
            };
            spec.services.values().map(|service| (service.name.clone(), own(service))).collect()
        }
    }
}

/// Formats the limits of a sandbox for people.
pub(super) fn words(limits: &Limits) -> String {
    let memory = limits.memory.map(|bytes| format!("{} MiB of memory", bytes >> 20));
    let cpus = limits.cpus.map(|cpus| format!("{cpus} cpus"));
    let pids = limits.pids.map(|pids| format!("{pids} pids"));
    let words: Vec<String> = memory.into_iter().chain(cpus).chain(pids).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes and processes are far below 2^52, and never negative"
)]
fn parts(spec: &Spec) -> BTreeMap<ServiceName, Share> {
    let whole = &spec.limits;
    let memory = divide(spec, whole.memory.map(|bytes| bytes as f64), |service| {
        service.memory_limit().map(|bytes| bytes as f64)
    });
    let cpus = divide(spec, whole.cpus, |service| service.cpu_limit().or_else(|| cpus_of_quota(service)));
    let pids = divide(spec, whole.pids.map(|pids| pids as f64), |service| {
        service.pids_limit().filter(|pids| *pids > 0).map(|pids| pids as f64)
    });
    let share = |name: &ServiceName| Share {
        memory: memory.get(name).map(|bytes| *bytes as u64),
        // The engine's resolution is a hundredth of a percent at best.
        cpus: cpus.get(name).map(|cpus| (cpus * 1e4).round() / 1e4),
        pids: pids.get(name).map(|pids| (*pids as i64).max(1)),
    };
    spec.services.keys().map(|name| (name.clone(), share(name))).collect()
}

fn divide(
    spec: &Spec,
    whole: Option<f64>,
    own: impl Fn(&Service) -> Option<f64>,
) -> BTreeMap<ServiceName, f64> {
    let containers = |service: &Service| f64::from(service.replicas());
    let services = || spec.services.values();
    let written: f64 = services().filter_map(|service| Some(own(service)? * containers(service))).sum();
    let silent: f64 = services().filter(|service| own(service).is_none()).map(containers).sum();
    let part = whole.filter(|_| silent > 0.0).map(|whole| {
        let rest = whole - written;
        // If nothing is left, they get an equal part of the whole, and all are reduced.
        if rest > 0.0 { rest / silent } else { whole / services().map(containers).sum::<f64>() }
    });
    let asked = written + part.unwrap_or_default() * silent;
    let scale = whole.filter(|whole| asked > *whole).map_or(1.0, |whole| whole / asked);
    let of = |service: &Service| Some((service.name.clone(), own(service).or(part)? * scale));
    services().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(limits: Option<u64>, own: &[(&str, Option<u64>)]) -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        spec.limits.memory = limits;
        for (name, limit) in own {
            let name = ServiceName::new(*name).unwrap();
            let mut service = Service::new(name.clone(), "busybox");
            service.resources.mem_limit = *limit;
            spec.services.insert(name, service);
        }
        spec
    }

    fn memory(spec: &Spec) -> Vec<Option<u64>> {
        shares(spec, Sharing::Parts).into_values().map(|share| share.memory).collect()
    }

    #[test]
    fn without_limits_each_service_has_what_it_says() {
        assert_eq!(memory(&spec(None, &[("a", Some(10)), ("b", None)])), [Some(10), None]);
    }

    #[test]
    fn what_is_not_taken_by_written_limits_is_divided_equally() {
        let spec = spec(Some(100), &[("a", Some(40)), ("b", None), ("c", None)]);
        assert_eq!(memory(&spec), [Some(40), Some(30), Some(30)]);
    }

    #[test]
    fn in_a_group_each_service_has_what_it_says_and_no_more_processors_than_all() {
        let mut spec = spec(Some(100), &[("a", Some(150)), ("b", None)]);
        spec.limits.cpus = Some(1.5);
        spec.services.values_mut().next().unwrap().resources.cpus = Some(4.0);
        let shares: Vec<Share> = shares(&spec, Sharing::Group).into_values().collect();
        assert_eq!(shares[0], Share { memory: Some(150), cpus: Some(1.5), pids: None });
        assert_eq!(shares[1], Share::default());
    }

    #[test]
    fn all_together_never_exceed_the_whole() {
        assert_eq!(memory(&spec(Some(100), &[("a", Some(150)), ("b", Some(50))])), [Some(75), Some(25)]);
        let crowded = memory(&spec(Some(100), &[("a", Some(100)), ("b", None)]));
        assert!(crowded.iter().flatten().sum::<u64>() <= 100 && crowded[1] > Some(30), "{crowded:?}");
    }

    #[test]
    fn who_writes_a_quota_has_a_part_of_the_processors_told_as_one() {
        let mut spec = spec(None, &[("a", None), ("b", None)]);
        spec.limits.cpus = Some(2.0);
        let first = spec.services.values_mut().next().unwrap();
        first.resources.cpu_quota = Some(50_000);
        let parts: Vec<Share> = shares(&spec, Sharing::Parts).into_values().collect();
        assert_eq!([parts[0].cpus, parts[1].cpus], [Some(0.5), Some(1.5)]);
        let service = spec.services.values().next().unwrap();
        assert!(told_by_quota(service));
        let told = |share, sharing| quota_of(service, spec.limits.cpus, share, sharing);
        assert_eq!(told(Some(0.25), Sharing::Parts), Some(25_000));
        assert_eq!(told(None, Sharing::Group), Some(50_000));
    }

    #[test]
    fn an_unclaimed_limit_is_divided_equally() {
        let mut spec = spec(None, &[("a", None), ("b", None)]);
        spec.limits.cpus = Some(1.5);
        spec.limits.pids = Some(100);
        let shares: Vec<Share> = shares(&spec, Sharing::Parts).into_values().collect();
        assert_eq!(shares, [Share { memory: None, cpus: Some(0.75), pids: Some(50) }; 2]);
    }
}
