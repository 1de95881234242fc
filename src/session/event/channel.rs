//! The channel from the core to a reporter.
//!
//! Log lines are the only events without a natural limit. They wait until the reporter has room for them, so that a
//! reader that is slower than the services (or a stopped terminal) does not fill the memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::Event;

/// Bytes of log lines that may wait for the reporter.
const ROOM: u32 = 32 << 20;

/// What a waiting line occupies besides its text, in bytes.
const OVERHEAD: usize = 256;

/// How long to wait until the terminal is cleared: a terminal that is stopped (Ctrl-S) never is.
const CLEARED: Duration = Duration::from_secs(2);

/// Notifies the sender of an event that it has been rendered.
#[derive(Clone, Debug, Default)]
pub struct Acknowledgement(Arc<Notify>);

impl Acknowledgement {
    /// Signals that the event has been rendered.
    pub fn give(&self) {
        self.0.notify_one();
    }
}

impl PartialEq for Acknowledgement {
    /// Equal events may have different senders.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An event on its way, with the room that it occupies.
#[derive(Debug)]
struct Queued {
    event: Event,
    _room: Option<OwnedSemaphorePermit>,
}

/// Sends the core's events to a reporter. Cheap to clone. Sending without a reporter is not an error.
#[derive(Clone, Debug)]
pub struct Events {
    sender: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
}

impl Events {
    /// Creates a sender and the receiver for a reporter's loop.
    pub fn channel() -> (Self, EventReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, room: Arc::new(Semaphore::new(ROOM as usize)) }, EventReceiver(receiver))
    }

    /// A sender without a receiver.
    pub fn nowhere() -> Self {
        Self::channel().0
    }

    /// Sends `event` to the reporter.
    pub fn emit(&self, event: Event) {
        // The reporter's end closes only when the process is about to end.
        let _ = self.sender.send(Queued { event, _room: None });
    }

    /// Sends a log line of `length` bytes once the lines before it leave room for it.
    pub async fn emit_log(&self, event: Event, length: usize) {
        let size = u32::try_from(length.saturating_add(OVERHEAD)).unwrap_or(ROOM).min(ROOM);
        // The semaphore is never closed.
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok();
        let _ = self.sender.send(Queued { event, _room: room });
    }

    /// Hands the terminal over to a command: returns once our display is cleared.
    pub async fn hand_over(&self) {
        let cleared = Acknowledgement::default();
        let event = Event::CommandStarted { cleared: cleared.clone() };
        if self.sender.send(Queued { event, _room: None }).is_ok() {
            // Without a reporter there is no display.
            let _ = tokio::time::timeout(CLEARED, cleared.0.notified()).await;
        }
    }
}

/// The reporter's end of the channel. An event that is received gives up its room.
#[derive(Debug)]
pub struct EventReceiver(mpsc::UnboundedReceiver<Queued>);

impl EventReceiver {
    /// The next event; `None` once all senders are dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.map(|queued| queued.event)
    }

    /// The next event, if one has been sent.
    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Option<Event> {
        self.0.try_recv().ok().map(|queued| queued.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Stream;

    fn line(text: &str) -> Event {
        Event::Log {
            service: "web".into(),
            replica: 1,
            stream: Stream::Stdout,
            time: None,
            line: text.to_owned().into(),
        }
    }

    #[test]
    fn an_event_that_nobody_listens_to_is_no_error() {
        Events::nowhere().emit(Event::Notice { text: "nobody".into() });
    }

    #[tokio::test(start_paused = true)]
    async fn lines_wait_for_a_slow_reader_and_other_events_do_not() {
        let (events, mut heard) = Events::channel();
        let half = ROOM as usize / 2 - OVERHEAD;
        for _ in 0..2 {
            events.emit_log(line("first"), half).await;
        }

        let third = events.emit_log(line("third"), half);
        tokio::pin!(third);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut third).await.is_err());
        events.emit(Event::Notice { text: "not a line".into() });

        assert_eq!(heard.recv().await, Some(line("first")));
        third.await;
        assert_eq!(heard.recv().await, Some(line("first")));
        assert_eq!(heard.recv().await, Some(Event::Notice { text: "not a line".into() }));
        assert_eq!(heard.recv().await, Some(line("third")));
    }

    #[tokio::test]
    async fn a_line_larger_than_the_room_is_sent() {
        let (events, mut heard) = Events::channel();

        events.emit_log(line("long"), usize::MAX).await;

        assert_eq!(heard.recv().await, Some(line("long")));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_has_left() {
        let (events, heard) = Events::channel();
        events.emit_log(line("unread"), ROOM as usize).await;

        drop(heard);

        events.emit_log(line("late"), ROOM as usize).await;
    }
}
