//! `open`: opens the pages of the spec, or a service, in the browser.

mod pages;

use std::process::{Command, Stdio};

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Exit, Failure, complete};
use crate::report::Output;
use crate::session::event::{Endpoint, ServiceStatus};
use crate::session::inspect::{self, Passwords};

/// Arguments of `open`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service (default: the pages in `open` of the spec, else the only service with a web page)
    #[arg(add = ArgValueCandidates::new(complete::services))]
    service: Option<String>,
    /// Port in the service (default: the first with a web page)
    port: Option<u16>,
    /// Print the address instead of opening it
    #[arg(long)]
    print: bool,
}

/// Runs `open`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context).await
}

impl Args {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let engine = context.engine().await?;
        let observed = context.chosen().await?;
        if let Some(service) = &self.service {
            observed.container(service, 1)?;
        }
        let statuses = inspect::statuses(engine.as_ref(), &observed, Passwords::LeftOut).await?;
        let pages = match &self.service {
            Some(_) => None,
            None => pages::of(&engine, &observed, &statuses).await?,
        };
        let (urls, foreign) = match pages {
            Some(pages) => (pages.urls, pages.foreign),
            None => (vec![self.choose(&statuses)?], Vec::new()),
        };
        let mut out = Output::stdout();
        if context.globals.json {
            out.json(&urls);
        } else {
            out.lines(urls.iter());
        }
        if self.print {
            return Ok(Exit::Done);
        }
        pages::may_open(&foreign).await?;
        if urls.iter().all(|url| browse(url)) {
            return Ok(Exit::Done);
        }
        Err(Failure::failed(
            "no browser could be started".to_owned(),
            Some("open the address above yourself, or name a browser in BROWSER".to_owned()),
        ))
    }

    fn choose(&self, statuses: &[ServiceStatus]) -> Result<String, Failure> {
        let pages: Vec<(&str, String)> = statuses
            .iter()
            .filter(|status| self.service.as_ref().is_none_or(|service| *service == status.service))
            .flat_map(|status| status.endpoints.iter().map(|endpoint| (status.service.as_str(), endpoint)))
            .filter(|(_, endpoint)| self.port.is_none_or(|port| port == endpoint.target))
            .filter_map(|(service, endpoint)| Some((service, self.page(endpoint)?)))
            .collect();
        let first = pages.first();
        let services: Vec<&str> = pages.iter().map(|(service, _)| *service).collect();
        match first {
            Some((service, url)) if services.iter().all(|other| other == service) => Ok(url.clone()),
            Some(_) => Err(Failure::usage(
                "several services have a web page",
                Some(format!("say which: {}", services.join(", "))),
            )),
            None => Err(Failure::failed(
                "nothing here publishes a web page".to_owned(),
                Some(
                    "publish one in the spec, with `app_protocol: http` if its port does not tell".to_owned(),
                ),
            )),
        }
    }

    fn page(&self, endpoint: &Endpoint) -> Option<String> {
        match &endpoint.url {
            Some(url) if url.starts_with("http") => Some(url.clone()),
            // A port that the user named is not checked.
            _ if self.port.is_some() => {
                Some(format!("http://{}", std::net::SocketAddr::new(endpoint.host, endpoint.port)))
            }
            _ => None,
        }
    }
}

/// Opens an address in the user's browser; returns whether that worked.
pub(super) fn browse(url: &str) -> bool {
    let browsers = std::env::var("BROWSER").unwrap_or_default();
    let named = browsers.split(':').filter(|browser| !browser.is_empty());
    let mut known = named.chain(["xdg-open", "open", "wslview", "sensible-browser"]);
    known.any(|program| {
        Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}
