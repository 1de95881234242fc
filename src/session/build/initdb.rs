//! Finds the statement at which an image's init scripts failed, in the user's own file.

use std::path::PathBuf;

use regex::Regex;

use crate::session::error::SessionError;
use crate::spec::{MountKind, Service, Spec};

/// Adds the failed statement from the log to the error of a service that initializes its data.
pub(crate) fn with_statement(spec: &Spec, mut error: SessionError) -> SessionError {
    if let SessionError::Exited { service, log, .. } = &mut error
        && let Some(service) = spec.services.get(service.as_str())
        && let Some(statement) = statement(service, log)
    {
        log.push(statement);
    }
    error
}

/// `FILE:LINE: STATEMENT`, with the file's path on this machine.
fn statement(service: &Service, log: &[String]) -> Option<String> {
    // `psql:/docker-entrypoint-initdb.d/2.sql:3: ERROR`, or `running …/2.sql` and later `ERROR 1064 (42000) at line 3`.
    let named = Regex::new(r"(/docker-entrypoint-initdb\.d/\S+?):(\d+): ").ok()?;
    let running = Regex::new(r"(/docker-entrypoint-initdb\.d/\S+)").ok()?;
    let numbered = Regex::new(r"ERROR \d+ .*at line (\d+)").ok()?;
    let mut file = None;
    let mut found = None;
    for line in log {
        if let Some(it) = named.captures(line) {
            found.get_or_insert((it[1].to_owned(), it[2].to_owned()));
        } else if let Some(it) = running.captures(line) {
            file = Some(it[1].to_owned());
        } else if let (Some(it), Some(file)) = (numbered.captures(line), &file) {
            found.get_or_insert((file.clone(), it[1].to_owned()));
        }
    }
    let (file, number) = found?;
    let path = on_this_machine(service, &file)?;
    let line: usize = number.parse().ok()?;
    let text = std::fs::read_to_string(&path).ok()?;
    let statement = text.lines().nth(line.checked_sub(1)?)?.trim().to_owned();
    Some(format!("{}:{line}: {statement}", path.display()))
}

/// The path on this machine of a file that a service sees through a bind mount.
fn on_this_machine(service: &Service, file: &str) -> Option<PathBuf> {
    service.initdb_mounts().find_map(|mount| {
        let MountKind::Bind { source, .. } = &mount.kind else { return None };
        let inside = file.strip_prefix(mount.target.trim_end_matches('/'))?.trim_start_matches('/');
        let path = if inside.is_empty() { source.clone() } else { source.join(inside) };
        // The log is untrusted input: only plain file names of that folder are accepted.
        let plain = !inside.contains('/') && !inside.starts_with("..");
        let is_file = path.symlink_metadata().is_ok_and(|file| file.is_file());
        (plain && is_file).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{At, Mount, ServiceName};

    fn said(log: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("2.sql"), "SELECT 1;\nSELECT nonsense;\n").unwrap();
        let mut service = Service::new(ServiceName::new("db").unwrap(), "db");
        service.mounts.push(Mount {
            kind: MountKind::Bind { source: folder.path().to_owned(), options: None },
            target: "/docker-entrypoint-initdb.d".to_owned(),
            read_only: true,
            consistency: None,
            at: At::default(),
        });
        let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        let said = statement(&service, &log)?;
        Some(said.strip_prefix(&format!("{}/", folder.path().display())).unwrap().to_owned())
    }

    #[test]
    fn the_statement_is_found_in_the_file_that_the_log_names() {
        let postgres = "psql:/docker-entrypoint-initdb.d/2.sql:2: ERROR:  column \"nonsense\" does not exist";
        assert_eq!(said(&["running 2.sql", postgres]).unwrap(), "2.sql:2: SELECT nonsense;");
        let mariadb = [
            "/usr/local/bin/docker-entrypoint.sh: running /docker-entrypoint-initdb.d/2.sql",
            "ERROR 1054 (42S22) at line 2: Unknown column 'nonsense' in 'field list'",
        ];
        assert_eq!(said(&mariadb).unwrap(), "2.sql:2: SELECT nonsense;");
        assert_eq!(said(&["killed"]), None);
    }
}
