//! Draws a timeline: one bar for each operation in a recording of events.

use std::collections::BTreeMap;
use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, truncate_str};
use serde::Serialize;

use super::style::{Glyphs, OutputStyle, Tint};
use crate::report::amount;
use crate::session::event::{BakeState, Event, Phase, Recorded};

/// An operation with its duration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The service, image or volume; empty for the sandbox itself.
    pub subject: String,
    /// The operation.
    pub what: String,
    /// The kind of work.
    pub phase: Phase,
    /// Start, in milliseconds from the session's start.
    pub from_ms: u64,
    /// Duration, in milliseconds.
    pub length_ms: u64,
}

/// Whether a recording for the timeline needs `event`. Logs and build output are left out, because they are long.
pub fn counts(event: &Event) -> bool {
    !matches!(
        event,
        Event::Log { .. } | Event::BuildLine { .. } | Event::BuildFailed { .. } | Event::Plan { .. }
    )
}

/// The time spans of a recording, in the order of their starts. If it contains several sessions, only the last.
pub fn spans(recording: &[Recorded]) -> Vec<Span> {
    let last = recording.iter().rposition(|r| matches!(r.event, Event::Started { .. })).unwrap_or(0);
    let mut begun: BTreeMap<String, Duration> = BTreeMap::new();
    let mut spans = Vec::new();
    for Recorded { at, event } in &recording[last..] {
        let mut through = |subject: &str, what: &str, phase, length: Duration| {
            let from = at.saturating_sub(length);
            spans.push(Span {
                subject: subject.to_owned(),
                what: what.to_owned(),
                phase,
                from_ms: millis(from),
                length_ms: millis(length),
            });
        };
        match event {
            // A wait has its own, more detailed event.
            Event::StepDone { phase: Phase::Ready, .. } | Event::StepFailed { phase: Phase::Ready, .. } => {}
            Event::StepDone { phase, what, service, elapsed, .. }
            | Event::StepFailed { phase, what, service, elapsed, .. } => {
                through(service.as_deref().unwrap_or(""), what, *phase, *elapsed);
            }
            Event::Ready { service, after } => through(service, "until ready", Phase::Ready, *after),
            Event::Pull { image, done, .. } => {
                let from = *begun.entry(format!("pull {image}")).or_insert(*at);
                if *done {
                    through(image, "pull", Phase::Pull, at.saturating_sub(from));
                }
            }
            Event::Transfer { what, done, .. } => {
                let from = *begun.entry(what.clone()).or_insert(*at);
                if *done {
                    through("", what, Phase::Data, at.saturating_sub(from));
                }
            }
            Event::Seed { target, what, done, .. } => {
                let from = *begun.entry(format!("seed {target} {what}")).or_insert(*at);
                if *done {
                    through(target, &format!("seed {what}"), Phase::Seed, at.saturating_sub(from));
                }
            }
            Event::Bake { volumes, state: BakeState::Done { elapsed }, .. } => {
                through(&volumes.join(", "), "make data", Phase::Data, *elapsed);
            }
            _ => {}
        }
    }
    spans.sort_by_key(|span| (span.from_ms, std::cmp::Reverse(span.length_ms)));
    spans
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The timeline, `width` columns wide.
pub fn picture(look: OutputStyle, width: usize, spans: &[Span]) -> Vec<String> {
    let end = spans.iter().map(|span| span.from_ms + span.length_ms).max().unwrap_or(0).max(1);
    let subject = spans.iter().map(|span| measure_text_width(&span.subject)).max().unwrap_or(0).min(24);
    let what = spans.iter().map(|span| measure_text_width(&span.what)).max().unwrap_or(0).min(36);
    let room = width.saturating_sub(subject + what + 16).clamp(10, 100);
    let mut lines: Vec<String> = spans
        .iter()
        .map(|span| {
            let time = amount::duration(Duration::from_millis(span.length_ms));
            format!(
                "{}  {}  {}  {time:>8}",
                look.paint(Tint::Strong, &pad_str(&span.subject, subject, Alignment::Left, Some("…"))),
                pad_str(&truncate_str(&span.what, what, "…"), what, Alignment::Left, None),
                bar(look, span, end, room),
            )
        })
        .collect();
    lines.push(String::new());
    lines.push(totals(look, spans, end));
    lines
}

fn bar(look: OutputStyle, span: &Span, end: u64, room: usize) -> String {
    let (on, off) = if look.glyphs == Glyphs::Unicode { ("█", "·") } else { ("#", ".") };
    let place = |at: u64| usize::try_from(at * room as u64 / end).unwrap_or(room).min(room);
    let from = place(span.from_ms).min(room - 1);
    let length = (place(span.from_ms + span.length_ms) - place(span.from_ms)).clamp(1, room - from);
    format!(
        "{}{}{}",
        look.paint(Tint::Faint, &off.repeat(from)),
        look.paint(tone(span.phase), &on.repeat(length)),
        look.paint(Tint::Faint, &off.repeat(room - from - length)),
    )
}

fn tone(phase: Phase) -> Tint {
    match phase {
        Phase::Network | Phase::Create => Tint::Name(0),
        Phase::Pull | Phase::Build => Tint::Name(1),
        Phase::Data | Phase::Seed => Tint::Name(2),
        Phase::Start | Phase::Ready => Tint::Good,
        Phase::Remove => Tint::Bad,
    }
}

/// "3.2 s in all; pull 2.1 s, ready 0.8 s": for each kind, the time during which at least one of its spans was active.
fn totals(look: OutputStyle, spans: &[Span], end: u64) -> String {
    let mut kinds: BTreeMap<Phase, Vec<(u64, u64)>> = BTreeMap::new();
    for span in spans {
        kinds.entry(span.phase).or_default().push((span.from_ms, span.from_ms + span.length_ms));
    }
    let mut sums: Vec<(Phase, u64)> =
        kinds.into_iter().map(|(phase, times)| (phase, covered(times))).collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    let parts: Vec<String> = sums
        .into_iter()
        .filter(|(_, sum)| *sum > 0)
        .map(|(phase, sum)| {
            format!(
                "{} {}",
                look.paint(tone(phase), phase.word()),
                amount::duration(Duration::from_millis(sum))
            )
        })
        .collect();
    format!("{} in all; {}", amount::duration(Duration::from_millis(end)), parts.join(", "))
}

fn covered(mut times: Vec<(u64, u64)>) -> u64 {
    times.sort_unstable();
    let mut sum = 0;
    let mut reached = 0;
    for (from, to) in times {
        sum += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::test_events;

    fn recording() -> Vec<Recorded> {
        let events = test_events::of_an_up();
        events
            .into_iter()
            .enumerate()
            .map(|(n, event)| Recorded { at: Duration::from_millis(n as u64 * 400), event })
            .collect()
    }

    #[test]
    fn every_span_is_a_bar_and_kinds_are_summed() {
        insta::assert_snapshot!(picture(OutputStyle::BARE, 100, &spans(&recording())).join("\n"));
    }

    #[test]
    fn nothing_recorded_is_an_empty_picture() {
        assert_eq!(picture(OutputStyle::BARE, 80, &[]).last().unwrap(), "1 ms in all; ");
    }

    #[test]
    fn spans_side_by_side_are_counted_once() {
        assert_eq!(covered(vec![(0, 10), (5, 12), (20, 25)]), 17);
    }
}
