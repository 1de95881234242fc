//! `stats`: shows the resource use of services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;

use super::support::format::{self, Form};
use super::{Context, Exit, Failure, complete};
use crate::engine::{Engine, Stats};
use crate::report::Output;
use crate::report::amount;
use crate::report::live_view::Live;
use crate::report::logs::log_name;
use crate::report::style::{OutputStyle, Tint};
use crate::report::table::Table;
use crate::session::inspect::{ObservedSandbox, replica_of, service_of};
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Print once instead of every second
    #[arg(long, visible_alias = "no-stream")]
    once: bool,
    /// Form of the output: table, json, or a template such as `{{.Service}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Form,
    /// Accepted for Compose; a stopped service uses nothing
    #[arg(long, short, hide = true)]
    all: bool,
}

type Samples = Arc<Mutex<BTreeMap<String, (Stats, u32)>>>;

#[derive(Serialize)]
struct Row {
    service: String,
    cpus: f64,
    memory: u64,
    memory_limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

impl Row {
    /// The fields as `docker stats` names them.
    fn in_docker_words(&self) -> serde_json::Value {
        let (memory, limit) = (amount::bytes(self.memory), amount::bytes(self.memory_limit));
        serde_json::json!({
            "Name": self.service, "Service": self.service, "CPUPerc": format!("{:.2}%", self.cpus * 100.0),
            "MemUsage": format!("{memory} / {limit}"), "PIDs": self.pids,
            "NetIO": format!("{} / {}", amount::bytes(self.received), amount::bytes(self.sent)),
            "BlockIO": format!("{} / {}", amount::bytes(self.read), amount::bytes(self.written)),
        })
    }
}

/// Runs `stats`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    /// Shows it until everything has ended.
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        for service in &self.services {
            observed.container(service, 1)?;
        }
        let samples = Samples::default();
        let mut watchers = self.watch(&engine, &observed, &samples);
        if watchers.is_empty() {
            Output::stderr().line("no service runs");
            return Ok(Exit::Done);
        }
        let mut out = Output::stdout();
        let mut live = Live::stdout();
        let wanted = watchers.len();
        let mut every = tokio::time::interval(Duration::from_millis(if self.once { 50 } else { 1_000 }));
        loop {
            tokio::select! {
                _ = every.tick() => {}
                ended = watchers.join_next() => if ended.is_none() { break },
            }
            let rows = rows(&samples);
            // CPU use is a difference, so the first sample has none.
            let ready =
                samples.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|s| s.1 > 1).count();
            if ready < wanted.min(watchers.len()) {
                continue;
            }
            if self.format != Form::Table {
                let rows: Vec<_> = rows.iter().map(Row::in_docker_words).collect();
                format::print(&mut out, &self.format, &rows);
                if self.once || out.is_closed() {
                    break;
                }
                continue;
            }
            match (&mut live, context.globals.json, self.once) {
                (_, true, _) => out.json_line(&rows),
                (Some(live), false, false) => live.show(|look, width| table(look, &rows).lines(look, width)),
                _ => out.table(&table(out.look(), &rows)),
            }
            if self.once || out.is_closed() {
                break;
            }
        }
        Ok(Exit::Done)
    }

    fn watch(
        &self,
        engine: &Arc<dyn Engine>,
        observed: &ObservedSandbox,
        samples: &Samples,
    ) -> tokio::task::JoinSet<()> {
        let mut watchers = tokio::task::JoinSet::new();
        let wanted = |service: &str| self.services.is_empty() || self.services.iter().any(|s| s == service);
        for container in observed.services.iter().filter(|c| c.state.is_alive() && wanted(service_of(c))) {
            let name = log_name(service_of(container), replica_of(container));
            let (engine, container, samples) =
                (Arc::clone(engine), container.name.clone(), Arc::clone(samples));
            watchers.spawn(async move {
                let Ok(mut stream) = engine.stats(&container).await else { return };
                while let Some(Ok(stats)) = stream.next().await {
                    let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                    let entry = samples.entry(name.clone()).or_insert((stats, 0));
                    *entry = (stats, entry.1.saturating_add(1));
                }
                samples.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            });
        }
        watchers
    }
}

fn rows(samples: &Samples) -> Vec<Row> {
    let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
    samples
        .iter()
        .map(|(service, (stats, _))| Row {
            service: service.clone(),
            cpus: stats.cpus,
            memory: stats.memory,
            memory_limit: stats.memory_limit,
            received: stats.received,
            sent: stats.sent,
            read: stats.read,
            written: stats.written,
            pids: stats.pids,
        })
        .collect()
}

fn table(look: OutputStyle, rows: &[Row]) -> Table {
    let head = ["service", "cpu", "memory", "of", "received", "sent", "read", "written", "pids"];
    let mut table = (1..9).fold(Table::new(head), Table::right);
    for row in rows {
        table.row([
            look.paint(Tint::Strong, &row.service),
            format!("{:.1} %", row.cpus * 100.0),
            amount::bytes(row.memory),
            amount::bytes(row.memory_limit),
            amount::bytes(row.received),
            amount::bytes(row.sent),
            amount::bytes(row.read),
            amount::bytes(row.written),
            row.pids.to_string(),
        ]);
    }
    table
}
