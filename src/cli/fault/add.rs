//! `fault add`: injects a fault into the traffic of a service.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::build_options::duration;
use super::change::existing;
use super::{Context, Exit, Failure, complete, figures};
use crate::agent::fault_injector::Fault;
use crate::report::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Service
    #[arg(add = ArgValueCandidates::new(complete::services))]
    service: String,
    /// Delay to add to each round trip: 200ms, 1s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    latency: Option<Duration>,
    /// Variation of the latency, up or down
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "latency")]
    jitter: Option<Duration>,
    /// Share of packets to drop, each way: 5%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    loss: Option<f64>,
    /// Bandwidth limit, each way: 500kbit, 1mbit
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bandwidth: Option<u64>,
    /// Drop all packets
    #[arg(long, conflicts_with_all = ["latency", "jitter", "loss", "bandwidth"])]
    cut: bool,
}

/// Runs `fault add`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let wanted = Fault {
        latency: args.latency,
        jitter: args.jitter,
        loss: args.loss,
        bandwidth: args.bandwidth,
        cut: args.cut,
    };
    wanted.check().map_err(|problem| Failure::usage(problem, None))?;
    context.chosen().await?.container(&args.service, 1)?;
    let reporting = context.reporter();
    let outcome = async {
        let existing = existing(context, &reporting).await?;
        Ok::<_, Failure>(existing.impose(&args.service, &wanted).await?)
    }
    .await;
    reporting.finish().await;
    let whole = outcome?;
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&json!({ "service": args.service, "fault": figures(&whole), "text": whole.to_string() }));
    } else {
        out.line(&format!("{}: {whole}", args.service));
    }
    Ok(Exit::Done)
}

/// Parses a share: `5%`, `0.5%`.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    percent
        .filter(|percent| (0.0..=100.0).contains(percent) && *percent > 0.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "not a share such as 5% or 0.5%".to_owned())
}

/// Parses a bandwidth: `500kbit`, `1mbit`, `2gbit`.
fn rate(text: &str) -> Result<u64, String> {
    let text = text.to_ascii_lowercase();
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    let read = units.iter().find_map(|(unit, size)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * size)
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against both ends")]
    read.filter(|rate| (8_000.0..=1e12).contains(rate))
        .map(|rate| rate as u64)
        .ok_or_else(|| "not a rate such as 500kbit or 1mbit, of at least 8kbit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_read_as_tc_writes_them() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(rate("1mbit"), Ok(1_000_000));
        assert_eq!(rate("1.5Mbit"), Ok(1_500_000));
        for wrong in ["5", "101%", "0%", "x%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1", "1kbit", "-1mbit", "mbit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
