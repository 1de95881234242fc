//! What each container may use, so that all of a sandbox's stay within its `limits`.
//!
//! An engine has no limit over several containers that would hold on every kind of control group, so what the sandbox
//! may use is divided: a service that has a limit of its own keeps it, the others get equal parts of the rest. Where
//! the written ones alone are too much, all are made smaller in proportion.

use std::collections::BTreeMap;

use crate::spec::{Service, ServiceName, Spec};

/// What one container of a service may use, where anything limits it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// The shares of all services' containers. Without `limits`, what each service says itself.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes and processes are far below 2^52, and never negative"
)]
pub fn shares(spec: &Spec) -> BTreeMap<ServiceName, Share> {
    let whole = &spec.limits;
    let memory = divide(spec, whole.memory.map(|bytes| bytes as f64), |service| {
        service.memory_limit().map(|bytes| bytes as f64)
    });
    let cpus = divide(spec, whole.cpus, Service::cpu_limit);
    let pids = divide(spec, whole.pids.map(|pids| pids as f64), |service| {
        service.pids_limit().filter(|pids| *pids > 0).map(|pids| pids as f64)
    });
    let share = |name: &ServiceName| Share {
        memory: memory.get(name).map(|bytes| *bytes as u64),
        // The engine counts in hundredths of a percent at best.
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
        // Where nothing is left they get what an equal part would be, and all shrink.
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
        shares(spec).into_values().map(|share| share.memory).collect()
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
    fn all_together_never_exceed_the_whole() {
        assert_eq!(memory(&spec(Some(100), &[("a", Some(150)), ("b", Some(50))])), [Some(75), Some(25)]);
        let crowded = memory(&spec(Some(100), &[("a", Some(100)), ("b", None)]));
        assert!(crowded.iter().flatten().sum::<u64>() <= 100 && crowded[1] > Some(30), "{crowded:?}");
    }

    #[test]
    fn a_whole_that_nobody_has_a_part_of_yet_is_divided_equally() {
        let mut spec = spec(None, &[("a", None), ("b", None)]);
        spec.limits.cpus = Some(1.5);
        spec.limits.pids = Some(100);
        let shares: Vec<Share> = shares(&spec).into_values().collect();
        assert_eq!(shares, [Share { memory: None, cpus: Some(0.75), pids: Some(50) }; 2]);
    }
}
