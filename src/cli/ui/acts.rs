//! The actions behind the page's buttons.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::UiServer;
use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::{Extension, Reason, Standing};
use crate::cli::Failure;
use crate::session::event::Events;
use crate::session::existing::{ExistingSandbox, Target};
use crate::session::inspect::{self, NoSandbox, ObservedSandbox};
use crate::session::lifecycle::teardown::{Teardown, TeardownCause};
use crate::spec::SandboxName;

/// Names the sandbox of a request.
#[derive(Deserialize)]
pub(super) struct SandboxArg {
    name: SandboxName,
}

/// A request for more time.
#[derive(Deserialize)]
pub(super) struct Extend {
    name: SandboxName,
    minutes: u32,
}

/// The result of an action.
#[derive(Serialize)]
pub(super) struct Done {
    done: String,
}

impl UiServer {
    pub(super) async fn observed(&self, name: &SandboxName) -> Result<ObservedSandbox, Failure> {
        let found = inspect::sandbox(&*self.engine, &self.scope, name).await?;
        found
            .ok_or_else(|| Failure::NoSandbox(NoSandbox::Named { name: name.to_string(), known: Vec::new() }))
    }
}

/// Destroys a sandbox.
pub(super) async fn down(desk: &UiServer, which: SandboxArg) -> Result<Done, Failure> {
    let observed = desk.observed(&which.name).await?;
    let keeper = Keeper::ensure(&desk.engine, Options::from_env()?).await?;
    let doomed = Teardown {
        engine: Arc::clone(&desk.engine),
        scope: desk.scope.clone(),
        spec: inspect::declared(&keeper, &observed).await?.map(Arc::new),
        keeper,
        events: Events::nowhere(),
        name: which.name.clone(),
        id: observed.id.parse().map_err(|_| odd(&which.name))?,
        stop_timeout: None,
        follower: None,
        artifacts: None,
        cause: TeardownCause::Other,
    };
    let destroyed = doomed.destroy("requested", Reason::Down, &CancellationToken::new()).await?;
    match destroyed.left.as_slice() {
        [] => Ok(Done { done: format!("{} is gone", which.name) }),
        left => {
            let hint = format!("`sandbox down {}` tries again", which.name);
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            Err(Failure::failed(format!("{} is not gone: {} left", which.name, left.join(", ")), Some(hint)))
        }
    }
}

/// Adds to the time that a sandbox has left.
pub(super) async fn extend(desk: &UiServer, extend: Extend) -> Result<Standing, Failure> {
    desk.observed(&extend.name).await?;
    let keeper = Keeper::ensure(&desk.engine, Options::from_env()?).await?;
    Ok(keeper.extend(&extend.name, Extension::By(Duration::from_mins(extend.minutes.into()))).await?)
}

/// Restores a sandbox's data.
pub(super) async fn reset(desk: &UiServer, which: SandboxArg) -> Result<Done, Failure> {
    let observed = desk.observed(&which.name).await?;
    let existing = ExistingSandbox::of(&desk.engine, &desk.scope, observed, Events::nowhere()).await?;
    let volumes = existing.reset(&Target::Everything, None, Duration::from_mins(5)).await?;
    let names: Vec<String> = volumes.iter().map(ToString::to_string).collect();
    Ok(Done {
        done: if names.is_empty() {
            "it has no data".to_owned()
        } else {
            format!("reset {}", names.join(", "))
        },
    })
}

fn odd(name: &SandboxName) -> Failure {
    Failure::failed(
        format!("sandbox `{name}` is half-made"),
        Some(format!("`sandbox down {name}` destroys it")),
    )
}
