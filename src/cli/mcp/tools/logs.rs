//! `logs`: reads the logs of services, and with a cursor only what is newer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::pages::{LogCursor, PAGE, Rest};
use crate::cli::mcp::reply::{Reply, ToolResult};
use crate::cli::mcp::server::Server;
use crate::cli::mcp::untrusted;
use crate::engine::identity;
use crate::engine::{EngineError, Tail};
use crate::session::inspect::logs::{self, Line, Part, Source};

/// How many lines of each service are read without a cursor.
const TAIL: u64 = 100;
/// The longest line; the rest of it is left out.
const LONGEST_LINE: usize = 4096;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli::mcp) struct Logs {
    /// Default: the only one
    sandbox: Option<String>,
    /// Default: all
    services: Vec<String>,
    /// Last lines of each service (default: 100)
    tail: Option<u64>,
    /// Cursor of an earlier reply
    cursor: Option<String>,
}

/// Reads logs.
pub(in crate::cli::mcp) async fn logs(server: Server, args: Logs, _: Call) -> ToolResult {
    if let Some(cursor) = &args.cursor {
        return match server.pages.find(cursor)? {
            Rest::Logs(position) => read(&server, position, Tail::All).await,
            Rest::Text { .. } => {
                let hint = "continue it with `more`".to_owned();
                Err(Failure::usage(format!("`{cursor}` is no cursor of logs"), Some(hint)).into())
            }
        };
    }
    let held = server.registry.pick(args.sandbox.as_deref())?;
    let position =
        LogCursor { sandbox: held.name.to_string(), services: args.services, read: BTreeMap::new() };
    read(&server, position, Tail::Lines(args.tail.unwrap_or(TAIL))).await
}

/// Reads a page of logs from a position on.
pub(super) async fn read(server: &Server, mut position: LogCursor, tail: Tail) -> ToolResult {
    let target = server.target(Some(&position.sandbox)).await?;
    for service in &position.services {
        target.observed.container(service, 1).map_err(Failure::from)?;
    }
    let wanted =
        |source: &Source| position.services.is_empty() || position.services.contains(&source.service);
    let sources: Vec<Source> = target.observed.services.iter().map(Source::from).filter(wanted).collect();
    // The oldest position of all; what was read after it is skipped.
    let since = position.read.values().map(|(time, _)| *time).min();
    let part = Part { since, until: None, tail };
    let (sender, mut lines) = mpsc::channel(256);
    let engine = std::sync::Arc::clone(&target.engine);
    let sources = sources.clone();
    let reader = tokio::spawn(async move { logs::recorded(&engine, &sources, &part, &sender).await });
    let (before, mut seen) = (position.read.clone(), BTreeMap::new());
    let (mut text, mut count, mut is_full) = (String::new(), 0, false);
    while let Some(line) = lines.recv().await {
        if is_known(&line, &before, &mut seen) {
            continue;
        }
        let shown = shown(&line);
        if count > 0 && text.len() + shown.len() > PAGE {
            is_full = true;
            break;
        }
        text.push_str(&shown);
        count += 1;
        advance(&mut position.read, &line);
    }
    drop(lines);
    let ended: Result<Vec<Source>, EngineError> = reader
        .await
        .map_err(|error| Failure::failed(format!("the logs could not be read: {error}"), None))?;
    let not_kept: Vec<String> = ended?.into_iter().map(|source| source.service).collect();
    let source = position.services.join(",");
    let cursor = server.pages.keep(Rest::Logs(position));
    let mut facts = json!({ "lines": count, "more": is_full, "cursor": cursor });
    if !not_kept.is_empty() {
        facts["not_kept"] = json!(not_kept);
    }
    Ok(Reply::new(facts).with_untrusted(if source.is_empty() { "logs" } else { &source }, &text))
}

/// The key of a line's container in a cursor: a replaced container is told apart by the time of its lines.
fn key(line: &Line) -> String {
    identity::replica_name(&line.service, line.replica)
}

/// Whether a line was read before. `seen` counts the lines with the time of the position.
fn is_known(
    line: &Line,
    read: &BTreeMap<String, (Timestamp, usize)>,
    seen: &mut BTreeMap<String, usize>,
) -> bool {
    let (Some((last, lines)), Some(time)) = (read.get(&key(line)), line.time) else { return false };
    if time != *last {
        return time < *last;
    }
    let seen = seen.entry(key(line)).or_default();
    *seen += 1;
    *seen <= *lines
}

fn advance(read: &mut BTreeMap<String, (Timestamp, usize)>, line: &Line) {
    let Some(time) = line.time else { return };
    let position = read.entry(key(line)).or_insert((time, 0));
    *position = if position.0 == time { (time, position.1 + 1) } else { (time, 1) };
}

fn shown(line: &Line) -> String {
    let text = untrusted::plain(&line.text.to_text());
    let text = match text.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    format!("{} | {text}\n", key(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Stream;

    fn line(service: &str, second: i64, text: &str) -> Line {
        Line {
            service: service.to_owned(),
            replica: 1,
            stream: Stream::Stdout,
            time: Timestamp::from_second(second).ok(),
            text: text.into(),
        }
    }

    #[test]
    fn a_cursor_continues_after_the_last_line_of_each_service_also_within_one_time() {
        let all =
            [line("a", 1, "1"), line("b", 1, "2"), line("a", 2, "3"), line("a", 2, "4"), line("b", 3, "5")];
        for stop in 0..=all.len() {
            let mut read = BTreeMap::new();
            all[..stop].iter().for_each(|line| advance(&mut read, line));
            let mut seen = BTreeMap::new();
            let rest: Vec<&Line> = all.iter().filter(|line| !is_known(line, &read, &mut seen)).collect();
            assert_eq!(rest, all[stop..].iter().collect::<Vec<_>>(), "after {stop}");
        }
    }

    #[test]
    fn a_line_is_bounded_and_without_control_sequences() {
        let shown = shown(&line("web", 1, &format!("\u{1b}[2J{}", "x".repeat(10_000))));
        assert!(shown.starts_with("web | xxx") && shown.len() < 5000);
    }
}
