use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::report::logs::LogFormat;
use crate::report::output::memory::Memory;
use crate::report::style::{Colour, Glyphs};
use crate::report::test_events;

const PLAIN: OutputStyle = OutputStyle { colour: Colour::Off, glyphs: Glyphs::Unicode };

/// A terminal that can be resized, and the renderer that draws on it.
struct Stage {
    tty: Tty,
    screen: vt100::Parser,
    memory: Memory,
    columns: Arc<AtomicUsize>,
    millis: Arc<AtomicU64>,
}

impl Stage {
    fn new(columns: usize, look: OutputStyle) -> Self {
        let memory = Memory::default();
        let (shared, millis) = (Arc::new(AtomicUsize::new(columns)), Arc::new(AtomicU64::new(0)));
        let size = Arc::clone(&shared);
        let elapsed = Arc::clone(&millis);
        let clock = Clock {
            elapsed: Box::new(move || Duration::from_millis(elapsed.load(Ordering::Relaxed))),
            ..test_events::clock()
        };
        let tty = Tty::new(
            Output::new(Box::new(memory.clone()), look),
            clock,
            Box::new(move || (24, size.load(Ordering::Relaxed))),
            LogPrinter::new(Output::terminal(Box::new(memory.clone()), look), LogFormat::default()),
        );
        let width = u16::try_from(columns).unwrap();
        Self { tty, screen: vt100::Parser::new(24, width, 0), memory, columns: shared, millis }
    }

    fn tell(&mut self, events: &[Event]) -> &mut Self {
        for event in events {
            self.millis.fetch_add(100, Ordering::Relaxed);
            self.tty.event(event);
        }
        self.tty.tick();
        self
    }

    fn shown(&mut self) -> String {
        let bytes = self.memory.take();
        self.screen.process(&bytes);
        let width = u16::try_from(self.columns.load(Ordering::Relaxed)).unwrap();
        let rows: Vec<String> =
            self.screen.screen().rows(0, width).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }
}

fn building() -> Vec<Event> {
    let mut events = vec![test_events::started(), test_events::pull(42_000_000)];
    events.push(
        test_events::step(
            "default",
            crate::session::event::Phase::Network,
            "creating network `default`",
            None,
        )[0]
        .clone(),
    );
    events.push(test_events::waiting("db", "tcp 5432", Some("connection refused"), 1_200));
    events.push(Event::Ready { service: "cache".into(), after: Duration::from_millis(310) });
    events
}

#[test]
fn the_board_shows_each_pull_and_what_each_service_waits_for() {
    insta::assert_snapshot!(Stage::new(90, PLAIN).tell(&building()).shown());
}

#[test]
fn a_narrow_terminal_cuts_lines_and_never_wraps_them() {
    insta::assert_snapshot!(Stage::new(40, PLAIN).tell(&building()).shown());
}

#[test]
fn an_ascii_terminal_gets_no_other_characters_on_its_board() {
    let look = OutputStyle { colour: Colour::Off, glyphs: Glyphs::Ascii };
    let shown = Stage::new(90, look).tell(&building()).shown();
    assert!(shown.is_ascii(), "{shown}");
}

#[test]
fn the_final_table_and_logs_stay_above_one_line_of_status() {
    let mut stage = Stage::new(90, PLAIN);
    stage.tell(&building());
    stage.tell(&[
        test_events::up(),
        test_events::log("db", "ready to accept connections"),
        test_events::log("web", "GET / 200"),
    ]);
    insta::assert_snapshot!(stage.shown());
}

#[test]
fn nothing_of_the_board_is_left_at_the_end() {
    let mut stage = Stage::new(90, PLAIN);
    stage.tell(&building()).tell(&test_events::of_a_failure());
    stage.tty.finish();
    insta::assert_snapshot!(stage.shown());
}

#[test]
fn after_a_resize_the_old_board_is_taken_away_whole() {
    let mut stage = Stage::new(90, PLAIN);
    stage.tell(&building());
    // The content of a wrapping terminal after it became narrow: the same text, printed again.
    let before = stage.shown();
    stage.columns.store(40, Ordering::Relaxed);
    stage.screen = vt100::Parser::new(24, 40, 0);
    stage.screen.process(before.replace('\n', "\r\n").as_bytes());
    stage.tell(&[]);
    let shown = stage.shown();
    assert_eq!(shown.matches("building").count(), 1, "{shown}");
    assert_eq!(shown.matches("postgres").count(), 1, "{shown}");
}

#[test]
fn an_unchanged_picture_is_not_written_again() {
    let mut stage = Stage::new(90, PLAIN);
    stage.tell(&[test_events::up()]);
    stage.memory.take();
    stage.tty.tick();
    assert_eq!(stage.memory.text(), "");
}

#[test]
fn many_services_are_counted_where_there_is_no_room_for_them() {
    let services = (0..60).map(|n| format!("service-{n}")).collect();
    let started = Event::Started { name: "big".into(), id: "1".into(), services };
    let shown = Stage::new(80, PLAIN).tell(&[started]).shown();
    assert!(shown.lines().count() < 24, "{shown}");
    assert!(shown.ends_with("and 39 more"), "{shown}");
}
