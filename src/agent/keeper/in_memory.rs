//! A keeper for tests: the real one without its socket, signals and wall-clock timer. Clients connect by pipes in
//! memory, so that a test can pause the clock.

use futures_util::StreamExt;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::engine_watch::Watch;
use super::serve::{Parts, Serving};
use super::state::Event;

/// A time that no test reaches.
const NEVER: std::time::Duration = std::time::Duration::from_hours(24);

/// Serves until no client can connect any more or the keeper exits.
pub async fn rehearse(parts: Parts, mut connections: mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, mut events) = mpsc::channel(256);
    let clock = Clock::start();
    let mut keeper = Serving::new(parts, clock, sender);
    let mut watch = Watch::default();
    let Ok(mut engine_events) = keeper.subscribe().await else { return };
    keeper.begin().await;
    while !keeper.leaving {
        let alarm = keeper.state.alarms().mono.map_or_else(|| Instant::now() + NEVER, |it| clock.instant(it));
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            connection = connections.recv() => match connection {
                Some(connection) => Some(Event::Connected(keeper.clients.add(connection))),
                None => return,
            },
            Some(Ok(event)) = engine_events.next() => watch.event(&event),
            () = sleep_until(alarm) => Some(Event::Alarm),
        };
        if let Some(event) = event {
            keeper.take(event);
        }
    }
}
