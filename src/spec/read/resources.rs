//! Reads the limits, devices and `deploy` of a service.

use std::collections::BTreeMap;

use super::super::model::{
    BlkioConfig, Deploy, Device, DeviceRate, DeviceRequest, DeviceWeight, ResourceBounds, Resources, Ulimit,
};
use super::super::node::{Entry, Node};
use super::super::problem::ProblemKind;
use super::{Fields, Reader};

impl Reader<'_> {
    /// Reads the service-level limits.
    pub(super) fn resources(&self, fields: &Fields<'_>) -> Resources {
        for key in ["cpu_count", "cpu_percent", "isolation"] {
            if fields.node(key).is_some() {
                let message =
                    format!("`{key}` of {} is not applied: it means something on Windows only", fields.what);
                self.not_applied(fields.key_span(key), message);
            }
        }
        Resources {
            mem_limit: fields.size("mem_limit"),
            mem_reservation: fields.size("mem_reservation"),
            mem_swappiness: fields.int_in("mem_swappiness", "from 0 to 100"),
            memswap_limit: self.size_or_unlimited(fields, "memswap_limit"),
            cpus: fields.number("cpus"),
            cpu_percent: fields.number("cpu_percent"),
            cpu_period: self.micros(fields, "cpu_period"),
            cpu_quota: self.micros(fields, "cpu_quota"),
            cpu_rt_period: self.micros(fields, "cpu_rt_period"),
            cpu_rt_runtime: self.micros(fields, "cpu_rt_runtime"),
            pids_limit: fields.int("pids_limit"),
            blkio: self.blkio(fields),
            ulimits: self.ulimits(fields),
            gpus: self.requests(fields, "gpus"),
        }
    }

    /// Reads microseconds, or a duration.
    fn micros(&self, fields: &Fields<'_>, key: &'static str) -> Option<i64> {
        let node = fields.node(key)?;
        if node.as_str().is_some_and(|text| text.parse::<i64>().is_err()) {
            let duration = fields.duration(key)?;
            return i64::try_from(duration.as_micros()).ok();
        }
        fields.int(key)
    }

    fn size_or_unlimited(&self, fields: &Fields<'_>, key: &'static str) -> Option<i64> {
        if fields.node(key)?.scalar().as_deref() == Some("-1") {
            return Some(-1);
        }
        fields.size(key).and_then(|size| i64::try_from(size).ok())
    }

    fn blkio(&self, fields: &Fields<'_>) -> Option<BlkioConfig> {
        let inner = fields.inner("blkio_config")?;
        let rates = |key| -> Vec<DeviceRate> {
            inner
                .list(key)
                .iter()
                .filter_map(|node| {
                    let fields = Fields::of(self.log, node, format!("an entry of `{key}`"))?;
                    let read = DeviceRate {
                        path: fields.text("path").unwrap_or_default(),
                        rate: fields.size("rate").unwrap_or_default(),
                    };
                    fields.finish();
                    Some(read)
                })
                .collect()
        };
        let weights = inner.list("weight_device").iter().filter_map(|node| {
            let fields = Fields::of(self.log, node, "an entry of `weight_device`")?;
            let read = DeviceWeight {
                path: fields.text("path").unwrap_or_default(),
                weight: fields.int_in("weight", "from 10 to 1000").unwrap_or_default(),
            };
            fields.finish();
            Some(read)
        });
        let read = BlkioConfig {
            weight: inner.int_in("weight", "from 10 to 1000"),
            weight_device: weights.collect(),
            device_read_bps: rates("device_read_bps"),
            device_read_iops: rates("device_read_iops"),
            device_write_bps: rates("device_write_bps"),
            device_write_iops: rates("device_write_iops"),
        };
        inner.finish();
        Some(read)
    }

    pub(super) fn ulimits(&self, fields: &Fields<'_>) -> BTreeMap<String, Ulimit> {
        let Some(inner) = fields.inner("ulimits") else { return BTreeMap::new() };
        let mut limits = BTreeMap::new();
        for entry in &inner.map.entries {
            limits.extend(self.ulimit(entry).map(|limit| (entry.key.clone(), limit)));
        }
        limits
    }

    fn ulimit(&self, entry: &Entry) -> Option<Ulimit> {
        if entry.value.as_map().is_none() {
            let single = entry.value.scalar().and_then(|text| text.parse().ok());
            if single.is_none() {
                let message = format!("the ulimit `{}` must be a whole number", entry.key);
                self.log.problem(ProblemKind::Type, entry.value.span, message);
            }
            return single.map(|n| Ulimit { soft: n, hard: n, single: true });
        }
        let pair = Fields::of(self.log, &entry.value, format!("the ulimit `{}`", entry.key))?;
        let (soft, hard) = (pair.int("soft"), pair.int("hard"));
        pair.finish();
        if soft.is_none() || hard.is_none() {
            let message = format!("the ulimit `{}` needs both `soft` and `hard`", entry.key);
            self.log.problem(ProblemKind::Type, entry.span, message);
        }
        Some(Ulimit { soft: soft?, hard: hard?, single: false })
    }

    pub(super) fn devices(&self, fields: &Fields<'_>) -> Vec<Device> {
        let read = fields.list("devices").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a device of {}", fields.what))?;
            let source = inner.text("source").unwrap_or_default();
            let device = Device {
                target: inner.text("target").unwrap_or_else(|| source.clone()),
                permissions: inner.text("permissions").unwrap_or_else(|| "rwm".to_owned()),
                source,
                at: self.log.at(node.span),
            };
            inner.finish();
            Some(device)
        });
        read.collect()
    }

    fn requests(&self, fields: &Fields<'_>, key: &'static str) -> Vec<DeviceRequest> {
        let read = fields.list(key).iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("an entry of `{key}` of {}", fields.what))?;
            let all = inner.node("count").and_then(Node::as_str) == Some("all");
            let request = DeviceRequest {
                capabilities: inner.texts("capabilities").unwrap_or_default(),
                driver: inner.text("driver"),
                count: if all { Some(-1) } else { inner.int("count") },
                device_ids: inner.texts("device_ids").unwrap_or_default(),
                options: inner.texts_by_name("options"),
            };
            inner.finish();
            Some(request)
        });
        read.collect()
    }

    pub(super) fn deploy(&self, fields: &Fields<'_>) -> Option<Deploy> {
        let deploy = fields.inner("deploy")?;
        let swarm = "it speaks of a swarm";
        self.without_meaning(
            &deploy,
            &["placement", "update_config", "rollback_config", "endpoint_mode", "labels"],
            swarm,
        );
        if let Some(policy) = deploy.node("restart_policy").and_then(Node::as_map) {
            for key in ["delay", "window"].into_iter().filter(|key| policy.get(key).is_some()) {
                let message =
                    format!("`{key}` of `restart_policy` of {} is not applied: {swarm}", deploy.what);
                self.not_applied(deploy.key_span("restart_policy"), message);
            }
        }
        let mode = deploy.text("mode");
        if let Some(mode) = mode.as_deref().filter(|mode| *mode != "replicated") {
            let message = format!("`mode: {mode}` of {} is not applied: it speaks of a swarm", deploy.what);
            self.not_applied(deploy.key_span("mode"), message);
        }
        let resources = deploy.inner("resources");
        let (mut limits, mut reservations) = (None, None);
        if let Some(resources) = resources {
            limits = resources.inner("limits").map(|inner| self.bounds(inner));
            reservations = resources.inner("reservations").map(|inner| {
                self.without_meaning(&inner, &["cpus"], "engines reserve no processors");
                self.bounds(inner)
            });
            resources.finish();
        }
        let read = Deploy {
            replicas: deploy.int_in("replicas", "from 0 on"),
            limits,
            reservations,
            restart_policy: self.swarm_words(
                &deploy,
                "restart_policy",
                &["condition", "delay", "max_attempts", "window"],
            ),
            labels: deploy.texts_by_name("labels"),
            mode,
            endpoint_mode: deploy.text("endpoint_mode"),
            placement: deploy.node("placement").map(Node::to_json).unwrap_or_default(),
            update_config: self.swarm_words(&deploy, "update_config", &UPDATE),
            rollback_config: self.swarm_words(&deploy, "rollback_config", &UPDATE),
            extensions: deploy.extensions(),
        };
        deploy.finish();
        Some(read)
    }

    fn bounds(&self, inner: Fields<'_>) -> ResourceBounds {
        let cpus = inner.text("cpus");
        if let Some(cpus) = &cpus
            && cpus.parse::<f64>().is_err()
        {
            let message = format!("`{cpus}` is not a number of processors");
            self.log.problem(ProblemKind::Value, inner.key_span("cpus"), message);
        }
        if inner.node("generic_resources").is_some() {
            let message =
                format!("`generic_resources` of {} is not applied: it speaks of a swarm", inner.what);
            self.not_applied(inner.key_span("generic_resources"), message);
        }
        let read = ResourceBounds {
            cpus,
            memory: inner.size("memory"),
            pids: inner.int("pids"),
            devices: self.requests(&inner, "devices"),
            generic_resources: inner.list("generic_resources").iter().map(Node::to_json).collect(),
        };
        inner.finish();
        read
    }

    /// Reads a mapping that is kept as written, with normalized durations and numbers.
    fn swarm_words(
        &self,
        deploy: &Fields<'_>,
        key: &'static str,
        known: &[&'static str],
    ) -> Option<super::super::model::Json> {
        let inner = deploy.inner(key)?;
        let mut read = serde_json::Map::new();
        for word in known {
            let value = match *word {
                "delay" | "window" | "monitor" => inner
                    .duration(word)
                    .filter(|duration| !duration.is_zero())
                    .map(|duration| super::super::units::duration_text(duration).into()),
                "parallelism" | "max_attempts" => inner.int(word).map(Into::into),
                "max_failure_ratio" => inner.number(word).map(Into::into),
                word => inner.text(word).map(Into::into),
            };
            if let Some(value) = value {
                read.insert((*word).to_owned(), value);
            }
        }
        inner.finish();
        Some(read.into())
    }
}

const UPDATE: [&str; 6] = ["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"];
