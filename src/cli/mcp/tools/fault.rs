//! `fault`: disturbs the network of a service.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::agent::fault_injector::Fault;
use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{Reply, ToolResult};
use crate::cli::mcp::server::Server;
use crate::session::existing::fault as faults;
use crate::session::inspect::service_of;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct FaultArgs {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    #[serde(default)]
    latency_ms: Option<u64>,
    #[serde(default)]
    jitter_ms: Option<u64>,
    /// Share of packets to drop
    #[serde(default)]
    loss_percent: Option<f64>,
    /// At least 8
    #[serde(default)]
    bandwidth_kbit: Option<u64>,
    /// Drop everything
    #[serde(default)]
    cut: bool,
    /// Remove the service's faults
    #[serde(default)]
    clear: bool,
}

impl FaultArgs {
    fn fault(&self) -> Result<Fault, Failure> {
        let usage = |message: &str| Failure::usage(message.to_owned(), None);
        if self.loss_percent.is_some_and(|loss| !(loss > 0.0 && loss <= 100.0)) {
            return Err(usage("`loss_percent` is above 0 and at most 100"));
        }
        if self.bandwidth_kbit.is_some_and(|rate| !(8..=1_000_000_000).contains(&rate)) {
            return Err(usage("`bandwidth_kbit` is at least 8"));
        }
        let fault = Fault {
            latency: self.latency_ms.map(Duration::from_millis),
            jitter: self.jitter_ms.map(Duration::from_millis),
            loss: self.loss_percent.map(|percent| percent / 100.0),
            bandwidth: self.bandwidth_kbit.map(|rate| rate * 1000),
            cut: self.cut,
        };
        if fault.is_empty() {
            return Err(usage("name a fault: latency_ms, loss_percent, bandwidth_kbit, cut or clear"));
        }
        match fault.jitter {
            Some(jitter) if jitter > fault.latency.unwrap_or_default() => {
                Err(usage("`jitter_ms` is at most `latency_ms`"))
            }
            _ => Ok(fault),
        }
    }
}

/// Adds a fault, or removes all.
pub(in crate::cli::mcp) async fn fault(server: Server, args: FaultArgs, call: Call) -> ToolResult {
    if args.clear {
        let target = server.target(args.sandbox.as_deref()).await?;
        target.observed.container(&args.service, 1).map_err(Failure::from)?;
        for imposed in faults::all(&*target.engine, &target.observed).await? {
            if service_of(&imposed.container) == args.service {
                faults::lift(&*target.engine, &imposed).await?;
            }
        }
        return Ok(Reply::new(json!({ "service": args.service, "fault": "none" })));
    }
    let wanted = args.fault()?;
    let (target, existing) = server.existing(args.sandbox.as_deref(), &call).await?;
    target.running(&args.service)?;
    let whole = existing.impose(&args.service, &wanted).await?;
    Ok(Reply::new(json!({ "service": args.service, "fault": whole.to_string() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(json: serde_json::Value) -> FaultArgs {
        let mut whole = json!({ "service": "db" });
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_refused() {
        for wrong in [
            json!({}),
            json!({ "loss_percent": 0.0 }),
            json!({ "loss_percent": 101.0 }),
            json!({ "bandwidth_kbit": 7 }),
            json!({ "jitter_ms": 5 }),
        ] {
            assert!(args(wrong.clone()).fault().is_err(), "{wrong}");
        }
        assert_eq!(args(json!({ "loss_percent": 5.0 })).fault().unwrap().loss, Some(0.05));
    }
}
