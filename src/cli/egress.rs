//! `sandbox egress`: shows blocked outbound connections and the `egress` rule that would allow each one.

use futures_util::StreamExt;

use super::{Context, Exit, Failure};
use crate::agent::client::{Keeper, Options};
use crate::agent::gateway::stats::{LogSummary, RefusalKey};
use crate::engine::{Engine, LogOptions};
use crate::plan::gateway_config::GatewayMode;
use crate::report::Output;
use crate::report::table::Table;
use crate::session::inspect;

/// Arguments of `egress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Follow: print refusals as they happen
    #[arg(long)]
    follow: bool,
}

/// Runs `egress`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let gateway = observed.gateway.as_ref().map(|gateway| gateway.name.clone());
    let Some(gateway) = gateway else {
        return Err(Failure::failed(format!("sandbox `{}` has no gateway", observed.name), None));
    };
    if args.follow {
        return follow(&*engine, &gateway, context).await;
    }
    let summary = LogSummary::read(&log(&*engine, &gateway).await?);
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&summary.refusals);
        return Ok(Exit::Done);
    }
    if summary.refusals.is_empty() {
        // With internal networks the engine drops these packets before they reach the gateway.
        let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
        let spec = inspect::declared(&keeper, &observed).await?;
        let mode = spec.map(|spec| spec.egress.mode());
        Output::stderr().line(match mode {
            Some(GatewayMode::Proxy) => {
                "no name was refused; what is sent to addresses outside is dropped and not counted"
            }
            _ => "nothing was refused",
        });
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["service", "asked for", "port", "times", "to let it out"]).right(3);
    for refusal in &summary.refusals {
        table.row([
            refusal.key.service.clone(),
            refusal.key.target.clone(),
            refusal.key.port.map(|port| port.to_string()).unwrap_or_default(),
            refusal.count.to_string(),
            way_out(&refusal.key),
        ]);
    }
    out.table(&table);
    Ok(Exit::Done)
}

/// The `egress` rule that allows the connection, or the reason why there is none.
fn way_out(key: &RefusalKey) -> String {
    let rule = key.rule().map(|rule| format!("egress: [\"{rule}\"]"));
    let none = || key.reason.as_ref().map(|reason| format!("(nothing: {reason})"));
    rule.or_else(none).unwrap_or_default()
}

/// Reads the complete log of a gateway.
pub(super) async fn log(engine: &dyn Engine, gateway: &str) -> Result<String, Failure> {
    let mut stream = engine.logs(gateway, &LogOptions::default()).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?.bytes);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn follow(engine: &dyn Engine, gateway: &str, context: &Context) -> Result<Exit, Failure> {
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = engine.logs(gateway, &options).await?;
    let mut out = Output::stdout();
    let mut pending = String::new();
    while let Some(chunk) = stream.next().await {
        pending.push_str(&String::from_utf8_lossy(&chunk?.bytes));
        while let Some(end) = pending.find('\n') {
            let line: String = pending.drain(..=end).collect();
            for refusal in LogSummary::read(&line).refusals {
                if context.globals.json {
                    out.json(&refusal);
                } else {
                    let port = refusal.key.port.map(|port| format!(":{port}")).unwrap_or_default();
                    let way_out = match refusal.key.rule() {
                        Some(_) => format!("; to let it out: {}", way_out(&refusal.key)),
                        None => refusal
                            .key
                            .reason
                            .as_ref()
                            .map(|reason| format!("; {reason}"))
                            .unwrap_or_default(),
                    };
                    out.line(&format!(
                        "{} asked for {}{port} ({}){}",
                        refusal.key.service, refusal.key.target, refusal.count, way_out
                    ));
                }
            }
        }
    }
    Ok(Exit::Done)
}
