//! `ui`: serves one page for the browser on loopback while the verb runs.

mod acts;
mod answer;
mod door;
mod guard;
mod reply;
mod stream;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

use self::door::Door;
use self::guard::Guard;
use super::{Context, Exit, Failure};
use crate::agent::client::{self, Keeper, Options};
use crate::engine::identity::Scope;
use crate::engine::{ContainerState, Engine};
use crate::report::Output;

/// Arguments of `ui`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1 (0: any free one)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Shared state of all requests.
struct UiServer {
    engine: Arc<dyn Engine>,
    scope: Scope,
    guard: Guard,
    keeper: Mutex<Option<Keeper>>,
}

impl UiServer {
    /// Connects to the keeper if it is running; never starts it.
    async fn keeper(&self) -> Option<Keeper> {
        let mut known = self.keeper.lock().await;
        let options = Options::from_env().ok()?;
        let state = client::keeper_state(&self.engine, &options).await.ok().flatten();
        if !state.is_some_and(ContainerState::is_alive) {
            *known = None;
        } else if known.is_none() {
            *known = Keeper::ensure(&self.engine, options).await.ok();
        }
        known.clone()
    }
}

/// Runs `ui` until it is interrupted.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(|error| {
        let hint = "another one is found if `--port` is left out".to_owned();
        Failure::failed(format!("cannot listen on 127.0.0.1:{}: {error}", args.port), Some(hint))
    })?;
    let guard = Guard::new(listener.local_addr()?);
    let url = guard.url();
    let mut out = Output::stdout();
    if context.globals.json {
        out.json_line(&serde_json::json!({ "url": url }));
    } else {
        out.line(&url);
        Output::stderr().line("only this address lets a browser in; Ctrl-C ends it, the sandboxes stay");
    }
    // Other users can read the browser's arguments, so they name a file that only the user can read.
    let door = if args.open { Door::to(&url).ok() } else { None };
    if args.open && !door.as_ref().is_some_and(|door| super::open::browse(&door.address())) {
        Output::stderr().line("no browser could be started: open the address above yourself");
    }
    let desk = Arc::new(UiServer { engine, scope, guard, keeper: Mutex::default() });
    let Some(door) = door else { return serve(listener, desk).await };
    let ended = ended()?;
    // The file is removed after a while, or with this verb.
    tokio::spawn(async move {
        tokio::time::sleep(DOOR_STAYS).await;
        drop(door);
    });
    tokio::select! {
        served = serve(listener, desk) => served,
        exit = ended => Ok(exit),
    }
}

/// How long a browser may take to start.
const DOOR_STAYS: Duration = Duration::from_mins(1);

/// Completes when the verb is asked to stop, after which the redirect file is removed.
fn ended() -> std::io::Result<impl Future<Output = Exit>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Signalled(15),
            _ = hang_up.recv() => Exit::Signalled(1),
        }
    })
}

async fn serve(listener: TcpListener, desk: Arc<UiServer>) -> Result<Exit, Failure> {
    loop {
        let (connection, _): (_, SocketAddr) = listener.accept().await?;
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, std::convert::Infallible>(answer::answer(desk, request).await) }
            });
            // A browser that disconnects early is not an error.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}
