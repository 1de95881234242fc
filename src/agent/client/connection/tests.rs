//! Tests of a connection whose keeper goes away and comes back, with a fake clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::agent::protocol::Build;
use crate::engine::{EngineError, ErrorKind, ObjectKind};

/// A keeper that answers this many dials.
struct Answering {
    dials: AtomicUsize,
    answers: usize,
    connections: mpsc::UnboundedSender<DuplexStream>,
}

#[async_trait]
impl Dial for Answering {
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError> {
        if self.dials.fetch_add(1, Ordering::SeqCst) >= self.answers {
            return std::future::pending().await;
        }
        let (ours, theirs) = duplex(1024);
        self.connections.send(theirs).unwrap();
        let greeting = Greeting {
            build: Build::default(),
            storage: None,
            storage_refused: Vec::new(),
            sandboxes: 0,
            groups: None,
            groups_refused: None,
            disk: None,
        };
        Ok((Wire::of_pipe(ours), greeting))
    }
}

type Harness = (Arc<Answering>, mpsc::UnboundedReceiver<DuplexStream>, mpsc::UnboundedSender<Command>);

/// A client whose connection has just broken.
async fn broken(answers: usize) -> Harness {
    let (connections, mut kept) = mpsc::unbounded_channel();
    let keeper = Arc::new(Answering { dials: AtomicUsize::new(0), answers, connections });
    let dial = Arc::clone(&keeper) as Arc<dyn Dial>;
    let (wire, _) = dial.dial().await.unwrap();
    let commands = Link::start(dial, wire);
    drop(kept.recv().await);
    (keeper, kept, commands)
}

fn ask(commands: &mpsc::UnboundedSender<Command>) -> oneshot::Receiver<Result<Value, KeeperError>> {
    let (answer, answered) = oneshot::channel();
    assert!(commands.send(Command::Ask(RequestKind::Sandboxes, answer)).is_ok());
    answered
}

#[tokio::test(start_paused = true)]
async fn an_idle_broken_connection_is_replaced_at_the_next_request() {
    let (keeper, mut kept, commands) = broken(2).await;
    sleep(PATIENCE).await;
    assert_eq!(keeper.dials.load(Ordering::SeqCst), 1);

    let _answered = ask(&commands);
    let mut line = [0; 16];
    kept.recv().await.unwrap().read_exact(&mut line).await.unwrap();

    assert!(line.starts_with(b"{\"id\":1"), "{line:?}");
    assert_eq!(keeper.dials.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn no_dial_follows_the_drop_of_the_last_handle() {
    let (keeper, _kept, commands) = broken(1).await;
    let answered = ask(&commands);
    sleep(PATIENCE / 2).await;
    assert_eq!(keeper.dials.load(Ordering::SeqCst), 2);

    drop(commands);

    assert!(matches!(answered.await, Ok(Err(KeeperError::Lost { .. }))));
    assert_eq!(Arc::strong_count(&keeper), 1);
}

/// A keeper whose engine does not answer until some time.
struct Away {
    back: Instant,
    answering: Arc<Answering>,
}

#[async_trait]
impl Dial for Away {
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError> {
        if Instant::now() >= self.back {
            return self.answering.dial().await;
        }
        let source = EngineError::new("ping", ObjectKind::Engine, "", ErrorKind::Unreachable, "it is away");
        Err(KeeperError::Engine { doing: "look for the keeper", source })
    }
}

#[tokio::test(start_paused = true)]
async fn who_holds_a_lease_waits_for_an_engine_that_is_away_for_minutes() {
    let (connections, mut kept) = mpsc::unbounded_channel();
    let answering = Arc::new(Answering { dials: AtomicUsize::new(0), answers: 2, connections });
    let (wire, _) = answering.dial().await.unwrap();
    let away = Away { back: Instant::now() + Duration::from_mins(5), answering };
    let commands = Link::start(Arc::new(away), wire);
    let (told, mut hears) = mpsc::unbounded_channel();
    let terms = LeaseRequest {
        name: "shop".parse().unwrap(),
        sandbox: SandboxId::random(),
        grace: Duration::from_secs(10),
        lifetime: crate::agent::protocol::Lifetime::default(),
        again: false,
        changing: false,
        client: 0,
    };
    assert!(commands.send(Command::Hold(terms, told, oneshot::channel().0)).is_ok());

    drop(kept.recv().await);
    let mut line = [0; 16];
    kept.recv().await.unwrap().read_exact(&mut line).await.unwrap();

    assert!(line.starts_with(b"{\"id\":1"), "{line:?}");
    assert!(hears.try_recv().is_err());
}
