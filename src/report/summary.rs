//! The final table of `up`: every service, its addresses, and the sandbox's lifetime.

use jiff::Timestamp;

use super::messages;
use super::style::{Colour, OutputStyle, Tint, harmless};
use crate::report::amount;
use crate::report::logs::log_name;
use crate::report::table::Table;
use crate::session::event::{Endpoint, Event, ListedTask, Protocol, ServiceStatus};

/// The lines for an [`Event::Up`]; none for any other event.
pub fn up(look: OutputStyle, width: usize, event: &Event, now: Timestamp) -> Vec<String> {
    let Event::Up { name, services, deadline, if_unused, elapsed, attached, stays } = event else {
        return Vec::new();
    };
    let painted = look.paint(Tint::Strong, name);
    let mut lines = vec![format!("{painted} is up after {}", amount::duration(*elapsed)), String::new()];
    lines.extend(endpoints(look, width, services).into_iter().map(|line| format!("  {line}")));
    lines.push(String::new());
    let left = deadline.map(|deadline| messages::time_left(deadline, *if_unused, now));
    let (end, more) = match (attached, stays) {
        (true, false) => (
            "Ctrl-C destroys it with its data".to_owned(),
            Some("`sandbox snapshot create NAME` keeps a copy of the data".to_owned()),
        ),
        (true, true) => (format!("Ctrl-C leaves it up; `sandbox down {name}` destroys it"), None),
        (false, _) => (
            format!("`sandbox down {name}` destroys it with its data"),
            deadline.map(|at| {
                format!("{}; `sandbox extend {name} 2h` adds time", messages::ends(at, *if_unused))
            }),
        ),
    };
    lines.push(left.map_or_else(|| end.clone(), |left| format!("{left}; {end}")));
    lines.extend(more);
    lines
}

/// What a spec greets the user with, and its tasks. The text is the spec's own, so nothing in it acts on a terminal.
pub fn welcome(look: OutputStyle, text: &str, tasks: &[ListedTask]) -> Vec<String> {
    let clean = |line: &str| harmless(line, Colour::Off);
    let mut lines: Vec<String> = text.lines().map(clean).collect();
    if tasks.is_empty() {
        return lines;
    }
    lines.extend([String::new(), "`sandbox task NAME` runs:".to_owned()]);
    let width = tasks.iter().map(|task| task.name.len()).max().unwrap_or_default();
    lines.extend(tasks.iter().map(|task| {
        let padding = " ".repeat(width - task.name.len());
        let what = task.description.as_deref().map(clean).unwrap_or_default();
        format!("  {}{padding}  {what}", look.paint(Tint::Strong, &task.name)).trim_end().to_owned()
    }));
    lines
}

/// The first address that a browser can open, else the first address.
pub fn first_address(services: &[ServiceStatus]) -> Option<String> {
    let all = || services.iter().flat_map(|service| &service.endpoints);
    let url = |endpoint: &Endpoint| endpoint.url.clone().filter(|url| url.starts_with("http"));
    all()
        .find_map(url)
        .or_else(|| all().next().map(|one| one.url.clone().unwrap_or_else(|| plain_address(one))))
}

/// The table of services: name, state, addresses.
pub fn endpoints(look: OutputStyle, width: usize, services: &[ServiceStatus]) -> Vec<String> {
    table(look, services).lines(look, width.saturating_sub(2))
}

/// The table of services, before layout.
pub fn table(look: OutputStyle, services: &[ServiceStatus]) -> Table {
    let mut table = Table::new(["service", "state", "address", "inside"]);
    for service in services {
        let name = look.paint(Tint::Strong, &log_name(&service.service, service.replica));
        let state = messages::state(look, &service.state);
        if service.endpoints.is_empty() {
            table.row([name, state, look.paint(Tint::Faint, "-"), String::new()]);
            continue;
        }
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            let (name, state) = if index == 0 { (name.clone(), state.clone()) } else { Default::default() };
            table.row([name, state, address(look, endpoint), look.paint(Tint::Faint, &inside(endpoint))]);
        }
    }
    table
}

fn address(look: OutputStyle, endpoint: &Endpoint) -> String {
    look.paint(Tint::Busy, &endpoint.url.clone().unwrap_or_else(|| plain_address(endpoint)))
}

/// `127.0.0.1:5432`, `[::1]:53/udp`
pub fn plain_address(endpoint: &Endpoint) -> String {
    let address = std::net::SocketAddr::new(endpoint.host, endpoint.port);
    match endpoint.protocol {
        Protocol::Tcp => address.to_string(),
        Protocol::Udp => format!("{address}/udp"),
    }
}

fn inside(endpoint: &Endpoint) -> String {
    match endpoint.protocol {
        Protocol::Tcp => endpoint.target.to_string(),
        Protocol::Udp => format!("{}/udp", endpoint.target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_has_no_control_sequences_and_lists_the_tasks() {
        let task = |name: &str, description: Option<&str>| ListedTask {
            name: name.into(),
            description: description.map(Into::into),
        };
        let tasks = [task("test", Some("Run the \u{1b}]0;x\u{7}tests")), task("db:console", None)];
        let lines = welcome(OutputStyle::BARE, "Log in as \u{1b}[31mdemo\u{1b}[0m.\nBye\u{202e}", &tasks);
        insta::assert_snapshot!(lines.join("\n"), @r"
        Log in as demo.
        Bye

        `sandbox task NAME` runs:
          test        Run the tests
          db:console
        ");
    }
}
