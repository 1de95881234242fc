//! Builds or pulls images without an `up`.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap_complete::engine::ArgValueCandidates;
use tokio_util::sync::CancellationToken;

use super::complete;
use super::context::{Context, ReportOptions};
use super::exit::Exit;
use super::failure::Failure;
use super::options::SpecOptions;
use crate::session::build::converge;
use crate::spec::{Refusals, Spec};

/// The services whose images are meant.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    pub services: Vec<String>,
    #[command(flatten)]
    pub spec: SpecOptions,
    /// Do not show progress
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which images to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Images of services with a `build`.
    Built,
    /// Images that are pulled.
    Pulled,
}

impl ImageArgs {
    /// The spec reduced to the selected services.
    ///
    /// # Errors
    /// Fails if the spec has problems.
    pub fn chosen(&self, which: Which, context: &Context) -> Result<Spec, Failure> {
        let mut spec = context.load(&self.spec, &self.services, Refusals::Fail)?.spec;
        spec.services.retain(|name, service| {
            let asked =
                self.services.is_empty() || self.services.iter().any(|wanted| wanted == name.as_str());
            asked && service.build().is_some() == (which == Which::Built)
        });
        Ok(spec)
    }

    /// Builds or pulls the images of a spec.
    ///
    /// # Errors
    /// Fails if the engine returns an error.
    pub async fn fetch(&self, spec: Spec, context: &Context) -> Result<Exit, Failure> {
        let rebuild: BTreeSet<_> = spec.services.keys().cloned().collect();
        let options =
            ReportOptions { quiet_pulls: self.quiet, quiet_builds: self.quiet, ..ReportOptions::default() };
        let reporting = context.reporter_with(options);
        let outcome = async {
            let session = context.session_context(reporting.events.clone()).await?;
            converge::images(&session, &Arc::new(spec), &rebuild, &CancellationToken::new()).await?;
            Ok(Exit::Done)
        }
        .await;
        reporting.finish().await;
        outcome
    }
}
