//! `sandbox lend`: serves databases to tests, on standard input and output or on a socket, until it ends.

mod connection;
mod socket;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::build_options::BuildOptions;
use super::snapshot_spec::{loaded, source};
use super::{Context, Exit, Failure, SpecOptions, complete};
use crate::session::error::SessionError;
use crate::session::lend::server::{Inbound, Offer, serve};
use crate::session::lend::{SourceChoice, lent_service};
use crate::session::lifecycle::control::{LoopEvent, StopReason};
use crate::session::lifecycle::open;
use crate::session::lifecycle::run::{Outcome, Purpose, Session, SideTask};
use crate::session::lifecycle::signals::Signals;
use crate::session::request::{InstanceChoice, UpOptions};
use crate::spec::ServiceName;
use socket::Socket;

/// How many requests of all clients may wait.
const QUEUE: usize = 64;

/// Arguments of `lend`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
    /// Service whose databases are lent (default: the database of the spec)
    #[arg(long, value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    service: Option<ServiceName>,
    /// Number of databases that are kept ready (default: 4, whole servers 2)
    #[arg(long, value_name = "NUMBER")]
    ready: Option<NonZeroUsize>,
    /// Lend a server for each database, also where one server could hold many
    #[arg(long)]
    whole: bool,
    /// Serve clients on this Unix socket instead of standard input and output
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Where clients come from.
enum Door {
    Pipes,
    Socket(Socket),
}

/// Runs `lend`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let from = source(context, args.build.from.as_deref()).await?;
    let named: Vec<String> = args.service.iter().map(ToString::to_string).collect();
    let mut loaded = args.build.applied(loaded(context, &args.spec, from.as_ref(), &named).await?)?;
    let service = lent_service::prepare(&mut loaded.spec, args.service.as_ref())
        .map_err(|error| Failure::usage(error.to_string(), error.hint()))?;
    let (engine, scope) = (context.engine().await?, context.scope()?);
    let door = args.socket.as_deref().map_or(Ok(Door::Pipes), |path| Socket::bind(path).map(Door::Socket))?;
    let (stop, stopped) = mpsc::unbounded_channel();
    let (requests, inbox) = mpsc::channel(QUEUE);
    // A client that leaves while the sandbox is built ends it, too.
    let serving = tokio::spawn(admit(door, requests, stop.clone()));
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let services = [service.to_string()];
    let opening = UpOptions {
        instance: InstanceChoice::Numbered { verb: "lend" },
        ..args.build.opening(context, &args.spec, &services, from.as_ref())
    };
    let choice = if args.whole { SourceChoice::Whole } else { SourceChoice::Cheapest };
    let offer = Offer { service, choice, ready: args.ready.map(NonZeroUsize::get) };
    let outcome = match open::open(&engine, &scope, &loaded, &opening, reporting.events.clone()).await {
        Ok(session) => lend(session, offer, inbox, (stop, stopped)).await,
        Err(error) => Err(error),
    };
    // The socket goes with the task.
    serving.abort();
    let _ = serving.await;
    reporting.finish().await;
    exit(outcome?)
}

/// Runs the session until a signal or the end of the client ends it.
async fn lend(
    session: Session,
    offer: Offer,
    inbox: mpsc::Receiver<Inbound>,
    (stop, stopped): (mpsc::UnboundedSender<LoopEvent>, mpsc::UnboundedReceiver<LoopEvent>),
) -> Result<Outcome, SessionError> {
    let listen = |cause| SessionError::Io { what: "cannot listen to signals".to_owned(), cause };
    let stopped = stream::unfold(stopped, |mut stopped| async { Some((stopped.recv().await?, stopped)) });
    let signals = stream::select(Signals::listen().map_err(listen)?.told(), stopped).boxed();
    let (failed, failure) = oneshot::channel();
    let task: SideTask = Box::new(move |running| {
        async move {
            if let Err(error) = serve(running, offer, inbox).await {
                // The receiver waits for the session, which waits for this task.
                let _ = failed.send(error);
                let _ = stop.send(LoopEvent::CommandEnded(1));
            }
        }
        .boxed()
    });
    let outcome = session.run_hearing(signals, Purpose::Held(task)).await?;
    failure.await.map_or(Ok(outcome), Err)
}

/// Serves the clients of a door. The end of standard input ends the session.
async fn admit(door: Door, requests: mpsc::Sender<Inbound>, stop: mpsc::UnboundedSender<LoopEvent>) {
    match door {
        Door::Pipes => {
            connection::serve(0, tokio::io::stdin(), tokio::io::stdout(), requests).await;
            let _ = stop.send(LoopEvent::CommandEnded(0));
        }
        Door::Socket(socket) => socket.serve(requests).await,
    }
}

fn exit(outcome: Outcome) -> Result<Exit, Failure> {
    match outcome {
        Outcome::LeftUp | Outcome::Ended(StopReason::CommandEnded(_)) => Ok(Exit::Done),
        Outcome::Ended(reason) => Ok(Exit::of_signal(reason).unwrap_or(Exit::Failed)),
    }
}
