//! Redis and Valkey: the numbered databases of one server. Database 0 holds the seeded data and is copied, never lent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::address::{Login, ServerAddress, login};
use super::console::Console;
use super::protocol::SourceKind;
use super::shelf::Bounds;
use super::source::{Lent, Source};
use crate::engine::{Engine, Exec};
use crate::session::error::SessionError;

/// How many databases a server has that does not say so.
const DEFAULT: u64 = 16;

/// Waits until the server has loaded its data, then becomes the client. Errors are part of the output.
const CLIENT: &str = "c=$(command -v redis-cli || command -v valkey-cli) || { echo 'the image has neither redis-cli nor valkey-cli'; exit 127; }; \
                      n=0; until [ \"$($c ping 2>&1)\" = PONG ] || [ $n -ge 300 ]; do n=$((n+1)); sleep 0.1; done; exec $c 2>&1";

/// Copies database 0 to another database. `COPY` exists only since version 6.2.
const FILL: &str = "redis.call('SELECT',ARGV[1]) redis.call('FLUSHDB') redis.call('SELECT','0') local c='0' repeat local r=redis.call('SCAN',c,'COUNT',1000) c=r[1] for _,k in ipairs(r[2]) do \
                    local t=redis.call('PTTL',k) local d=redis.call('DUMP',k) if d then redis.call('SELECT',ARGV[1]) \
                    redis.call('RESTORE',k,math.max(t,0),d,'REPLACE') redis.call('SELECT','0') end end until c=='0' return 'done'";

/// Empties a database.
const EMPTY: &str = "redis.call('SELECT',ARGV[1]) redis.call('FLUSHDB') return 'done'";

/// The numbered databases of one server.
pub(super) struct NumberedDatabases {
    address: ServerAddress,
    console: tokio::sync::Mutex<Console>,
    free: Mutex<BTreeSet<u64>>,
    most: u64,
}

impl NumberedDatabases {
    /// Asks the server how many databases it has.
    ///
    /// # Errors
    /// Fails if it does not answer, or has only one.
    pub async fn prepare(engine: &Arc<dyn Engine>, address: ServerAddress) -> Result<Self, SessionError> {
        let login = address.url().as_ref().map(login).unwrap_or_default();
        let container = address.container().unwrap_or_default().to_owned();
        let hopeless = &["Could not connect", "Error: "];
        let mut console = Console::new(engine, &container, client(&login), "ECHO", hopeless);
        let (said, _) =
            console.ask("CONFIG GET databases", "").await.map_err(|error| refused(&error.to_string()))?;
        if said.iter().any(|line| line.starts_with("NOAUTH") || line.starts_with("WRONGPASS")) {
            return Err(refused("it wants a password"));
        }
        let databases = said.last().and_then(|line| line.parse().ok()).unwrap_or(DEFAULT);
        if databases < 2 {
            return Err(refused("it has only one database"));
        }
        let most = databases - 1;
        let (console, free) = (tokio::sync::Mutex::new(console), Mutex::new((1..=most).collect()));
        Ok(Self { address, console, free, most })
    }

    fn release(&self, number: u64) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    }

    async fn script(&self, script: &str, number: u64) -> Result<(), SessionError> {
        let mut console = self.console.lock().await;
        let (said, _) = console.ask(&format!("EVAL \"{script}\" 0 {number}"), "").await?;
        if said.last().is_some_and(|line| line == "done") { Ok(()) } else { Err(refused(&said.join("; "))) }
    }

    /// Ends the connections that use a database: a borrower's late write must not reach the next one.
    async fn disconnect(&self, number: u64) -> Result<(), SessionError> {
        let mut console = self.console.lock().await;
        let (clients, _) = console.ask("CLIENT LIST", "").await?;
        for id in users(&clients, number) {
            // It may have gone by itself.
            console.ask(&format!("CLIENT KILL ID {id}"), "").await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Source for NumberedDatabases {
    fn kind(&self) -> SourceKind {
        SourceKind::Numbered
    }

    fn notes(&self) -> Vec<String> {
        vec![
            "the databases are numbers of one server and share its settings, users, functions and channels; --whole makes a \
             server for each"
                .to_owned(),
        ]
    }

    fn bounds(&self, ready: Option<usize>) -> Bounds {
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        Bounds { ready: ready.unwrap_or(4).min(most), at_once: 1, most: Some(most) }
    }

    async fn make(&self, token: &CancellationToken) -> Result<Lent, SessionError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
        let Some(number) = free else {
            return Err(refused("no number is free"));
        };
        let filled = token.run_until_cancelled(self.script(FILL, number)).await;
        if let Err(error) = filled.unwrap_or(Err(SessionError::Cancelled)) {
            self.release(number);
            return Err(error);
        }
        let (url, env) = self.address.of_database(&number.to_string());
        Ok(Lent { url: Some(url), env, number })
    }

    async fn clear(&self, lent: Lent) -> Result<(), SessionError> {
        let number = lent.number;
        let disconnected = self.disconnect(number).await;
        let emptied = disconnected.and(self.script(EMPTY, number).await);
        // It is emptied again before it is lent.
        self.release(number);
        emptied
    }
}

fn client(login: &Login) -> Exec {
    let mut exec = Exec::new(["sh", "-c", CLIENT]);
    if !login.password.is_empty() {
        exec.env.insert("REDISCLI_AUTH".to_owned(), login.password.clone());
    }
    exec
}

/// The ids of the connections that use a database, from `CLIENT LIST`.
fn users(clients: &[String], number: u64) -> Vec<u64> {
    let database = format!("db={number}");
    let uses = clients.iter().filter(|line| line.split(' ').any(|field| field == database));
    uses.filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id="))?.parse().ok())
        .collect()
}

fn refused(said: &str) -> SessionError {
    SessionError::Lend {
        what: format!("the server makes no database: {said}"),
        hint: Some(
            "a password belongs into `REDIS_PASSWORD` of the service; `--whole` lends servers instead"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_a_database_are_found_by_its_number() {
        let clients = [
            "id=3 addr=127.0.0.1:1 fd=8 name= db=1 cmd=get",
            "id=4 addr=127.0.0.1:2 fd=9 name= db=11 cmd=get",
            "id=5 addr=127.0.0.1:3 fd=10 name= db=1 cmd=set",
        ];
        assert_eq!(users(&clients.map(str::to_owned), 1), [3, 5]);
    }
}
