//! The measured figures, and what is made of them: lines on the terminal, tables in Markdown, bars in SVG.

use std::fmt::Write as _;
use std::time::Duration;

/// Times of one thing, one a round.
#[derive(Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort();
    }

    pub fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The median, and the smallest and largest in brackets.
    fn text(&self) -> String {
        let [least, most] = [self.0[0], self.0[self.0.len() - 1]];
        format!("{} ({}–{})", short(self.median()), short(least), short(most))
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut all = Self::default();
        times.into_iter().for_each(|time| all.push(time));
        all
    }
}

pub fn short(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.2} s", ms / 1e3) }
}

/// What something is measured against, in the order of the columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    NewCompose,
    OldCompose,
    BareApi,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::NewCompose, Self::OldCompose, Self::BareApi];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NewCompose => "Compose 2.40",
            Self::OldCompose => "Compose 2.26",
            Self::BareApi => "bare API calls",
        }
    }
}

/// One operation: our times, those of the peers, and the limits that are promised.
pub struct Figure {
    pub what: &'static str,
    ours: Times,
    peers: Vec<(Peer, Times)>,
    ratios: Vec<(Peer, f64)>,
    most: Option<Duration>,
}

impl Figure {
    pub fn new(what: &'static str, ours: Times) -> Self {
        Self { what, ours, peers: vec![], ratios: vec![], most: None }
    }

    pub fn against(mut self, peer: Peer, times: Times) -> Self {
        self.peers.push((peer, times));
        self
    }

    /// Promises a ratio to a peer.
    pub fn promise(mut self, peer: Peer, most: f64) -> Self {
        self.ratios.push((peer, most));
        self
    }

    /// Promises a time.
    pub fn promise_time(mut self, most: Duration) -> Self {
        self.most = Some(most);
        self
    }

    fn times(&self, peer: Peer) -> Option<&Times> {
        self.peers.iter().find(|(it, _)| *it == peer).map(|(_, times)| times)
    }

    fn ratio(&self, peer: Peer) -> Option<f64> {
        let theirs = self.times(peer)?.median();
        Some(self.ours.median().as_secs_f64() / theirs.as_secs_f64())
    }

    /// The promises of this operation, and whether they hold.
    fn verdicts(&self) -> Vec<String> {
        let word = |held| if held { "holds" } else { "**does not hold**" };
        let time =
            self.most.map(|most| format!("at most {}: {}", short(most), word(self.ours.median() <= most)));
        let ratios = self.ratios.iter().filter_map(|(peer, most)| {
            let held = self.ratio(*peer)? <= *most;
            Some(format!("at most {most:.2} of {}: {}", peer.name(), word(held)))
        });
        time.into_iter().chain(ratios).collect()
    }
}

/// A Markdown table of all figures.
pub fn table(figures: &[Figure]) -> String {
    let mut text = "| operation | sandbox |".to_owned();
    for peer in Peer::ALL {
        let _ = write!(text, " {} | ratio |", peer.name());
    }
    let _ = writeln!(text, " promised |\n| --- | --- |{} --- |", " --- | --- |".repeat(Peer::ALL.len()));
    for figure in figures {
        let _ = write!(text, "| {} | {} |", figure.what, figure.ours.text());
        for peer in Peer::ALL {
            let times = figure.times(peer).map_or("–".to_owned(), Times::text);
            let ratio = figure.ratio(peer).map_or(String::new(), |it| format!("{it:.2}"));
            let _ = write!(text, " {times} | {ratio} |");
        }
        let _ = writeln!(text, " {} |", figure.verdicts().join("; "));
    }
    text
}

/// The figures for the first screen of the README: those that both tools have.
pub fn short_table(figures: &[Figure]) -> String {
    let mut text = "| | sandbox | Compose 2.40 | |\n| --- | --- | --- | --- |\n".to_owned();
    for figure in figures {
        if let (Some(theirs), Some(ratio)) = (figure.times(Peer::NewCompose), figure.ratio(Peer::NewCompose))
        {
            let _ = writeln!(
                text,
                "| {} | {} | {} | × {ratio:.2} |",
                figure.what,
                figure.ours.text(),
                theirs.text()
            );
        }
    }
    text
}

/// Horizontal bars: for each operation ours and every peer's.
pub fn bars(figures: &[Figure]) -> String {
    const LEFT: f64 = 210.0;
    const WIDTH: f64 = 360.0;
    const BAR: f64 = 14.0;
    let shown: Vec<&Figure> = figures.iter().filter(|it| it.times(Peer::NewCompose).is_some()).collect();
    let longest = shown
        .iter()
        .flat_map(|it| it.peers.iter().map(|(_, times)| times.median()).chain([it.ours.median()]));
    let longest = longest.max().unwrap_or_default().as_secs_f64();
    let mut body = String::new();
    let mut y = 10.0;
    for figure in shown {
        let _ = writeln!(
            body,
            r#"<text x="0" y="{:.0}" class="what">{}</text>"#,
            y + 11.0,
            figure.what.replace('`', "")
        );
        let ours = std::iter::once(("sandbox", "ours", &figure.ours));
        let peers = Peer::ALL.iter().filter_map(|peer| Some((peer.name(), "peer", figure.times(*peer)?)));
        for (name, class, times) in ours.chain(peers) {
            let width = (times.median().as_secs_f64() / longest * WIDTH).max(1.0);
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="11" class="{class}"/><text x="{:.0}" y="{:.0}">{name}: {}</text>"#,
                LEFT + width + 6.0,
                y + 10.0,
                short(times.median()),
            );
            y += BAR;
        }
        y += 10.0;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {y:.0}" role="img" aria-label="Times of sandbox and its peers">
<style>text{{font:11px sans-serif;fill:#57606a}}.what{{font-weight:bold}}.ours{{fill:#2da44e}}.peer{{fill:#afb8c1}}</style>
{body}</svg>
"#
    )
}
