//! Chooses how the databases of a service are made: one file for each kind, and one line here.

use std::sync::Arc;

use super::address::ServerAddress;
use super::postgres::TemplateDatabases;
use super::redis::NumberedDatabases;
use super::source::Source;
use super::whole::WholeServers;
use crate::session::error::SessionError;
use crate::session::lifecycle::run::RunningSandbox;
use crate::spec::ServiceName;

/// Which source is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceChoice {
    /// The cheapest that the server of the service has.
    Cheapest,
    /// A server for each database.
    Whole,
}

/// Prepares the source of a service's databases, in a sandbox that is up.
pub(super) async fn open_source(
    running: &RunningSandbox,
    service: &ServiceName,
    choice: SourceChoice,
) -> Result<Arc<dyn Source>, SessionError> {
    let context = &running.context;
    let address = ServerAddress::find(&*context.engine, &context.scope, &running.order.name, service).await?;
    let url = address.url().filter(|_| choice == SourceChoice::Cheapest);
    Ok(match url.as_ref().map(url::Url::scheme) {
        Some("postgres") => Arc::new(TemplateDatabases::prepare(&context.engine, address).await?),
        Some("redis") => Arc::new(NumberedDatabases::prepare(&context.engine, address).await?),
        _ => Arc::new(WholeServers::prepare(running, service).await?),
    })
}
