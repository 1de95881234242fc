//! The text below the options in a verb's help: differences from Compose, and examples.

/// Differences from Compose's verb of the same name.
const DIFFERENCES: &[(&str, &str)] = &[
    ("up", "without --detach the sandbox lives as long as this command; with it, until its deadline"),
    ("down", "arguments are sandboxes, not services; volumes are always removed"),
    ("run", "CMD runs on this machine unless --in names a service, in a sandbox of its own"),
    ("create", "the sandbox ends at its deadline"),
    ("ps", "stopped services are always listed"),
    ("ls", "every sandbox is listed, whatever its state"),
    ("rm", "data stays; `sandbox reset` and `sandbox down` remove it"),
    ("watch", "it is an attached `up --watch`: the sandbox ends with it"),
    ("config", "what sandbox adds to Compose is printed as well"),
    ("events", "it starts with the last 24 hours"),
    ("stats", "it lists one sandbox; `top` is the same, `sandbox exec SERVICE ps` lists processes"),
    ("volumes", "it lists one sandbox"),
    ("push", "nothing is built first; `sandbox build` does"),
    ("start", "it waits until the services are ready"),
    ("cp", "the path in the service starts at its root"),
    ("scale", "the sandbox must be detached"),
];

const EXAMPLES: &[(&str, &[&str])] = &[
    ("init", &["sandbox init", "sandbox init --from compose.yaml", "sandbox init --database postgres --yes"]),
    (
        "up",
        &[
            "sandbox up",
            "sandbox up -d --wait",
            "sandbox up --from before-migration",
            "sandbox up web --watch",
            "sandbox up https://github.com/org/shop#main",
            "sandbox up -d --ref 123",
        ],
    ),
    ("down", &["sandbox down", "sandbox down shop-main shop-fix", "sandbox down --all"]),
    (
        "run",
        &[
            "sandbox run -- npm test",
            "sandbox run --in web -- pytest -x",
            "sandbox run --junit junit.xml --matrix NODE=20,22 --parallel 2 -- npm test",
        ],
    ),
    ("shell", &["sandbox shell", "sandbox shell --egress allow"]),
    ("extend", &["sandbox extend 2h", "sandbox extend shop-main 90m", "sandbox extend --until 18:00"]),
    ("create", &["sandbox create", "sandbox create db"]),
    ("start", &["sandbox start", "sandbox start db"]),
    ("stop", &["sandbox stop", "sandbox stop -t 5 web"]),
    ("restart", &["sandbox restart web"]),
    ("kill", &["sandbox kill web", "sandbox kill -s SIGHUP proxy"]),
    ("pause", &["sandbox pause db"]),
    ("unpause", &["sandbox unpause db"]),
    ("rm", &["sandbox rm", "sandbox rm --stop --force web"]),
    ("scale", &["sandbox scale web=3 worker=2"]),
    ("watch", &["sandbox watch", "sandbox watch web"]),
    ("build", &["sandbox build", "sandbox build --no-cache web"]),
    ("pull", &["sandbox pull", "sandbox pull --policy missing"]),
    ("push", &["sandbox push", "sandbox build web && sandbox push web"]),
    ("images", &["sandbox images", "sandbox images --format '{{.Repository}}:{{.Tag}}'"]),
    ("bake", &["sandbox bake"]),
    ("repro", &["sandbox repro bug-1234.sandbox.tar.zst", "sandbox repro bug-1234 --build"]),
    ("diff", &["sandbox diff", "sandbox diff --from before-migration"]),
    ("reset", &["sandbox reset", "sandbox reset db", "sandbox reset --to before-migration"]),
    ("fork", &["sandbox fork try-upgrade", "sandbox fork shop-main try-upgrade"]),
    (
        "lend",
        &[
            "sandbox lend",
            "sandbox lend --service db --ready 8",
            "sandbox lend --whole --socket /tmp/lend.sock",
        ],
    ),
    (
        "snapshot",
        &[
            "sandbox snapshot create before-migration",
            "sandbox snapshot create bug-1234 --repro 'pytest tests/test_total.py' --in web",
            "sandbox snapshot export before-migration",
            "sandbox snapshot import bug.sandbox.tar.zst",
            "sandbox snapshot push bug-1234 ghcr.io/team/shop-data:bug-1234",
            "sandbox snapshot pull ghcr.io/team/shop-data:bug-1234",
        ],
    ),
    ("volumes", &["sandbox volumes", "sandbox volumes -q db"]),
    ("artifacts", &["sandbox artifacts", "sandbox artifacts shop-main --into logs"]),
    ("egress", &["sandbox egress", "sandbox egress --follow"]),
    (
        "fault",
        &[
            "sandbox fault add db --latency 200ms",
            "sandbox fault add api --loss 5%",
            "sandbox fault rm --all",
        ],
    ),
    ("gc", &["sandbox gc", "sandbox gc --dry-run", "sandbox gc --merged --dry-run"]),
    ("ls", &["sandbox ls", "sandbox ls --quiet"]),
    (
        "ps",
        &[
            "sandbox ps",
            "sandbox ps --status running --services",
            "sandbox ps --format '{{.Service}} {{.State}}'",
        ],
    ),
    ("logs", &["sandbox logs -f web", "sandbox logs --tail 100 --since 10m"]),
    ("attach", &["sandbox attach web"]),
    ("exec", &["sandbox exec db psql -U postgres", "sandbox exec -T db pg_dump shop > shop.sql"]),
    ("task", &["sandbox task", "sandbox task test --verbose"]),
    ("port", &["sandbox port web 80", "sandbox port dns 53/udp"]),
    ("env", &["eval \"$(sandbox env)\"", "sandbox env --format dotenv > .env.sandbox"]),
    ("cp", &["sandbox cp web:/var/log/app.log .", "sandbox cp fixtures.sql db:/tmp/"]),
    ("open", &["sandbox open", "sandbox open web --print"]),
    ("welcome", &["sandbox welcome", "sandbox welcome --json"]),
    ("events", &["sandbox events", "sandbox events --past --all"]),
    ("wait", &["sandbox wait migrate"]),
    ("stats", &["sandbox stats", "sandbox stats --no-stream db"]),
    ("ui", &["sandbox ui --open"]),
    (
        "config",
        &["sandbox config", "sandbox config --services", "sandbox -f compose.yaml config --format json"],
    ),
    ("schema", &["sandbox schema > sandbox.schema.json"]),
    ("graph", &["sandbox graph", "sandbox graph --format dot | dot -Tsvg > spec.svg"]),
    ("timeline", &["sandbox timeline"]),
    (
        "mcp",
        &[
            "sandbox mcp",
            "sandbox mcp --folder ~/shop --egress api.example.com,*.npmjs.org",
            "claude mcp add sandbox -- sandbox mcp --folder .",
        ],
    ),
    ("doctor", &["sandbox doctor"]),
    ("version", &["sandbox version", "sandbox version --format json"]),
    (
        "completions",
        &["source <(sandbox completions bash)", "sandbox completions --man ~/.local/share/man/man1"],
    ),
];

/// The text below a verb's options; `None` if there is no such verb.
pub fn below(verb: &str) -> Option<String> {
    let (_, lines) = EXAMPLES.iter().find(|(name, _)| *name == verb)?;
    let difference = DIFFERENCES.iter().find(|(name, _)| *name == verb);
    let difference = difference.map(|(_, text)| format!("Unlike Compose: {text}\n\n")).unwrap_or_default();
    Some(format!("{difference}Examples:\n  {}", lines.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a line into words, without shell operators.
    fn words(line: &str) -> Option<Vec<String>> {
        let line = line.split(['>', '|']).next().unwrap_or(line).trim();
        shlex::split(line).filter(|words| words.first().is_some_and(|word| word == "sandbox"))
    }

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        for line in EXAMPLES.iter().flat_map(|(_, lines)| lines.iter()) {
            let Some(words) = words(line) else { continue };
            let parsed = super::super::help::command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
