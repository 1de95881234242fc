//! `sql`: runs a query with the database's own client, in the service's container.

use schemars::JsonSchema;
use serde::Deserialize;

use super::exec;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::reply::{Reply, ToolResult};
use crate::cli::mcp::server::Server;
use crate::engine::Exec;
use crate::session::exec::captured::End;

/// Chooses the client by what the image has and by the variables of the official images. `$1` is the database; the
/// query comes on standard input. Exits with 127 if there is no client.
const SCRIPT: &str = r#"
has() { command -v "$1" > /dev/null 2>&1; }
file() { if [ -n "$1" ] && [ -r "$1" ]; then cat "$1"; fi; }
case "$1" in
/*) if has sqlite3; then exec sqlite3 -batch -bail -csv -header "$1"; fi ;;
esac
if has psql; then
    export PGPASSWORD="${PGPASSWORD:-${POSTGRES_PASSWORD:-$(file "${POSTGRES_PASSWORD_FILE:-}")}}"
    user=${PGUSER:-${POSTGRES_USER:-$(file "${POSTGRES_USER_FILE:-}")}}
    user=${user:-postgres}
    base=${1:-${PGDATABASE:-${POSTGRES_DB:-$user}}}
    exec psql -X -q --csv -v ON_ERROR_STOP=1 -U "$user" -d "$base" -f -
fi
for client in mariadb mysql; do
    if has $client; then
        password=${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-$(file "${MARIADB_ROOT_PASSWORD_FILE:-${MYSQL_ROOT_PASSWORD_FILE:-}}")}}
        user=root
        if [ -z "$password" ] && [ -n "${MARIADB_USER:-${MYSQL_USER:-}}" ]; then
            user=${MARIADB_USER:-$MYSQL_USER}
            password=${MARIADB_PASSWORD:-${MYSQL_PASSWORD:-$(file "${MARIADB_PASSWORD_FILE:-${MYSQL_PASSWORD_FILE:-}}")}}
        fi
        export MYSQL_PWD="$password"
        exec $client --batch -u "$user" ${1:-${MARIADB_DATABASE:-${MYSQL_DATABASE:-}}}
    fi
done
exit 127
"#;

/// The exit code of the script without a client.
const NO_CLIENT: i64 = 127;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct Sql {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    query: String,
    /// Default: the service's own. For SQLite the absolute path of the file
    #[serde(default)]
    database: Option<String>,
    /// Default: 60
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

/// Runs a query.
pub(in crate::cli::mcp) async fn sql(server: Server, args: Sql, call: Call) -> ToolResult {
    let target = server.target(args.sandbox.as_deref()).await?;
    let exec = Exec::new(["sh", "-c", SCRIPT, "sql", args.database.as_deref().unwrap_or_default()]);
    let query = format!("{}\n", args.query);
    let done =
        exec::capture(&target, &args.service, exec, Some(query.as_bytes()), args.timeout_seconds, &call)
            .await?;
    if done.end == End::Exited(NO_CLIENT) && done.output.is_empty() || matches!(done.end, End::NotBegun(_)) {
        let facts = serde_json::json!({
            "error": format!("service `{}` has no client for a database", args.service),
            "hint": "psql, mariadb, mysql or sqlite3 must be in its image; name the service of the database",
            "exit_code": NO_CLIENT,
        });
        return Err(Reply::new(facts).into_error());
    }
    let failed = !matches!(done.end, End::Exited(0));
    let reply = exec::reply(&server, &args.service, "sql", &done)?;
    if failed { Err(reply.into_error()) } else { Ok(reply) }
}
