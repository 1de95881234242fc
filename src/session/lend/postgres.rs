//! PostgreSQL: copies of a template database on one server. A copy costs milliseconds, a server most of a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::address::{Login, ServerAddress, login};
use super::console::Console;
use super::protocol::SourceKind;
use super::shelf::Bounds;
use super::source::{Lent, Source};
use crate::engine::{Engine, Exec};
use crate::session::error::SessionError;

/// The template. Nobody can connect to it, so that nothing holds up a copy.
const TEMPLATE: &str = "sandbox_lend_template";

/// The database that the clients connect to: they must not use one that is copied.
const MAINTENANCE: &str = "postgres";

/// How often to try to copy the seeded database, which fails while somebody is connected to it.
const TRIES: u32 = 20;

/// Waits until the server accepts connections, then becomes the client. Errors are part of the output.
const CLIENT: &str = "command -v psql > /dev/null || { echo 'the image has no psql'; exit 127; }; \
                      n=0; until psql -X -q -c 'SELECT 1' > /dev/null 2>&1 || [ $n -ge 300 ]; do n=$((n+1)); sleep 0.1; done; \
                      exec psql -X -q -A -t 2>&1";

/// Databases that are copies of one template.
pub(super) struct TemplateDatabases {
    address: ServerAddress,
    login: Login,
    /// Makes copies.
    maker: Mutex<Console>,
    /// Drops copies at the same time.
    dropper: Mutex<Console>,
    template: Template,
    number: AtomicU64,
}

/// What is known about the seeded database and its server.
struct Template {
    /// ` OWNER "…"`, if the client's own user does not own it.
    owner: String,
    /// Statements that give a copy the settings and rights of the database, which PostgreSQL does not copy.
    copy_settings: Vec<String>,
    /// Whether `DROP DATABASE … WITH (FORCE)` exists.
    has_force: bool,
}

impl TemplateDatabases {
    /// Makes the template from the database that the spec names.
    ///
    /// # Errors
    /// Fails if the server does not let its user create databases.
    pub async fn prepare(engine: &Arc<dyn Engine>, address: ServerAddress) -> Result<Self, SessionError> {
        let login = address.url().as_ref().map(login).unwrap_or_default();
        let container = address.container().unwrap_or_default().to_owned();
        let console =
            |database: &str| Console::new(engine, &container, client(&login, database), r"\echo", &[]);
        // `template1` is the database that is certainly not the seeded one, but tests may copy it.
        let mut preparing = console("template1");
        let template = Template::make(&mut preparing, &login.database).await?;
        let (maker, dropper) = (Mutex::new(console(MAINTENANCE)), Mutex::new(console(MAINTENANCE)));
        Ok(Self { address, login, maker, dropper, template, number: AtomicU64::new(0) })
    }

    /// The variables that PostgreSQL's own programs read.
    fn client_variables(&self, database: &str) -> BTreeMap<String, String> {
        let url = self.address.url();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or("127.0.0.1");
        let port = url.as_ref().and_then(url::Url::port).unwrap_or(5432);
        [
            ("PGHOST", host.to_owned()),
            ("PGPORT", port.to_string()),
            ("PGUSER", self.login.user.clone()),
            ("PGPASSWORD", self.login.password.clone()),
            ("PGDATABASE", database.to_owned()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

#[async_trait]
impl Source for TemplateDatabases {
    fn kind(&self) -> SourceKind {
        SourceKind::Template
    }

    fn notes(&self) -> Vec<String> {
        vec![
            "the databases are on one PostgreSQL server and share its roles, passwords, settings and connections; \
             --whole makes a server for each"
                .to_owned(),
        ]
    }

    fn bounds(&self, ready: Option<usize>) -> Bounds {
        Bounds { ready: ready.unwrap_or(4), at_once: 1, most: None }
    }

    async fn make(&self, token: &CancellationToken) -> Result<Lent, SessionError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let name = copy_name(number);
        let mut maker = self.maker.lock().await;
        let making = async {
            let owner = &self.template.owner;
            execute(&mut maker, &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}{owner};")).await?;
            for statement in &self.template.copy_settings {
                execute(&mut maker, &statement.replace("$COPY", &literal(&name))).await?;
            }
            Ok(())
        };
        token.run_until_cancelled(making).await.unwrap_or(Err(SessionError::Cancelled))?;
        let (url, mut env) = self.address.of_database(&name);
        env.extend(self.client_variables(&name));
        Ok(Lent { url: Some(url), env, number })
    }

    async fn clear(&self, lent: Lent) -> Result<(), SessionError> {
        let name = copy_name(lent.number);
        let mut dropper = self.dropper.lock().await;
        if self.template.has_force {
            return execute(&mut dropper, &format!("DROP DATABASE {name} WITH (FORCE);")).await.map(drop);
        }
        disconnect(&mut dropper, &name).await?;
        execute(&mut dropper, &format!("DROP DATABASE {name};")).await.map(drop)
    }
}

impl Template {
    async fn make(console: &mut Console, seeded: &str) -> Result<Self, SessionError> {
        let mut tries = 0;
        loop {
            disconnect(console, seeded).await?;
            let create = format!("CREATE DATABASE {TEMPLATE} TEMPLATE {};", identifier(seeded));
            match execute(console, &create).await {
                Ok(_) => break,
                Err(error) if tries >= TRIES || !error.to_string().contains("being accessed") => {
                    return Err(error);
                }
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        execute(
            console,
            &format!("ALTER DATABASE {TEMPLATE} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true;"),
        )
        .await?;
        Self::look(console, seeded).await
    }

    async fn look(console: &mut Console, seeded: &str) -> Result<Self, SessionError> {
        let database = format!("(SELECT oid FROM pg_database WHERE datname = {})", literal(seeded));
        let owner = format!(
            "SELECT CASE WHEN pg_get_userbyid(datdba) = current_user THEN '' \
             ELSE ' OWNER ' || quote_ident(pg_get_userbyid(datdba)) END FROM pg_database WHERE oid = {database};"
        );
        let owner = execute(console, &owner).await?.concat();
        let force = "SELECT current_setting('server_version_num')::int >= 130000;";
        let has_force = execute(console, force).await?.concat() == "t";
        let is_there = |rows: Vec<String>| rows.concat() != "0";
        let copy = "(SELECT oid FROM pg_database WHERE datname = $COPY)";
        let mut copy_settings = Vec::new();
        let settings = format!("SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = {database};");
        if is_there(execute(console, &settings).await?) {
            copy_settings.push(format!(
                "INSERT INTO pg_db_role_setting SELECT {copy}, setrole, setconfig FROM pg_db_role_setting \
                 WHERE setdatabase = {database};"
            ));
        }
        let rights = format!("SELECT count(datacl) FROM pg_database WHERE oid = {database};");
        if is_there(execute(console, &rights).await?) {
            copy_settings.push(format!(
                "UPDATE pg_database SET datacl = (SELECT datacl FROM pg_database WHERE oid = {database}) \
                 WHERE datname = $COPY;"
            ));
        }
        Ok(Self { owner, copy_settings, has_force })
    }
}

fn copy_name(number: u64) -> String {
    format!("sandbox_lend_{number}")
}

/// The client's command, as the spec's own user.
fn client(login: &Login, database: &str) -> Exec {
    let mut exec = Exec::new(["sh", "-c", CLIENT]);
    let variables = [
        ("PGUSER", login.user.as_str()),
        ("PGPASSWORD", &login.password),
        ("PGDATABASE", database),
        ("PGOPTIONS", "-c client_min_messages=error"),
    ];
    exec.env = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    exec
}

/// Runs one statement and returns its rows.
async fn execute(console: &mut Console, statement: &str) -> Result<Vec<String>, SessionError> {
    let (lines, failed) =
        console.ask(statement, " :ERROR").await.map_err(|error| refused(&error.to_string()))?;
    // Clients before 11 do not know the variable and print its name.
    let is_error =
        failed == "true" || failed == ":ERROR" && lines.iter().any(|line| line.starts_with("ERROR:"));
    if is_error { Err(refused(&lines.join("; "))) } else { Ok(lines) }
}

fn refused(said: &str) -> SessionError {
    SessionError::Lend {
        what: format!("PostgreSQL makes no database: {said}"),
        hint: Some(
            "the user of the spec must be allowed to create databases; `--whole` lends servers instead"
                .to_owned(),
        ),
    }
}

/// Ends the connections to a database.
async fn disconnect(console: &mut Console, database: &str) -> Result<(), SessionError> {
    let database = literal(database);
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {database} AND pid <> pg_backend_pid();"
    );
    execute(console, &end).await.map(drop)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
