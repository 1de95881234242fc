//! The tools, in groups.

pub(super) mod lifecycle;

mod data;
mod diff;
mod egress;
mod exec;
mod fault;
mod files;
mod http;
pub(super) mod logs;
mod more;
mod sql;
mod status;

use super::server::{Effect, Tool};

/// All tools, in the order in which they are listed.
pub(super) fn all() -> Vec<Tool> {
    use Effect::{Changes, Destroys, Reads};
    vec![
        Tool::new(
            "up",
            Changes,
            "Build and start a sandbox from a spec and wait until it is ready; on a running one, apply the changed spec.",
            lifecycle::up,
        ),
        Tool::new("down", Destroys, "Destroy a sandbox with its data and snapshots.", lifecycle::down),
        Tool::new("list", Reads, "List your sandboxes.", status::list),
        Tool::new(
            "status",
            Reads,
            "State, addresses, snapshots and recent warnings of a sandbox.",
            status::status,
        ),
        Tool::new(
            "logs",
            Reads,
            "Read services' logs. Pass the returned cursor to get only newer lines.",
            logs::logs,
        ),
        Tool::new("exec", Destroys, "Run a command in a service.", exec::exec),
        Tool::new(
            "sql",
            Destroys,
            "Run SQL in a service's PostgreSQL, MySQL, MariaDB or SQLite database. Result as CSV or TSV.",
            sql::sql,
        ),
        Tool::new(
            "http",
            Destroys,
            "Send an HTTP request to a service, published or not. Redirects are not followed.",
            http::http,
        ),
        Tool::new("read_file", Reads, "Read a file in a service.", files::read_file),
        Tool::new(
            "write_file",
            Destroys,
            "Write a file in a service; missing folders are made.",
            files::write_file,
        ),
        Tool::new(
            "snapshot",
            Changes,
            "Keep the data of a sandbox under a name, as long as the sandbox lives.",
            data::snapshot,
        ),
        Tool::new("reset", Destroys, "Put data back to its first state, or to a snapshot.", data::reset),
        Tool::new(
            "diff",
            Reads,
            "List files of volumes that changed since the first state or a snapshot.",
            diff::diff,
        ),
        Tool::new("fork", Changes, "Copy a sandbox with its current data.", data::fork),
        Tool::new(
            "egress",
            Reads,
            "Outbound connections that were refused, and the rule that would allow each.",
            egress::egress,
        ),
        Tool::new(
            "fault",
            Changes,
            "Disturb a service's network: latency, loss, bandwidth, or a cut. Adds to what there is; clear removes all.",
            fault::fault,
        ),
        Tool::new("more", Reads, "Continue a long output.", more::more),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upper bound of what a list costs a model: one token for four bytes of its JSON.
    const BYTES_PER_TOKEN: usize = 4;

    #[test]
    fn the_whole_list_costs_less_than_3000_tokens() {
        let tools: Vec<_> = all().into_iter().map(|tool| tool.listed).collect();
        let list = serde_json::to_string(&tools).unwrap();
        assert!(list.len() / BYTES_PER_TOKEN < 3000, "{} bytes: {list}", list.len());
    }

    #[test]
    fn every_tool_has_an_input_schema_and_no_output_schema() {
        for tool in all() {
            let listed = serde_json::to_value(&tool.listed).unwrap();
            assert_eq!(listed["inputSchema"]["type"], "object", "{listed}");
            assert_eq!(listed["inputSchema"]["additionalProperties"], false, "{listed}");
            assert!(listed.get("outputSchema").is_none(), "{listed}");
            assert!(!listed.to_string().contains("null"), "{listed}");
        }
    }
}
