//! Tells whether an official image's container still initializes its data or already runs its real server.
//!
//! By convention such an image's entrypoint is a script, `docker-entrypoint.sh`. On empty data it starts a temporary
//! server, initializes the data with it, stops it, and replaces itself with the real server (`exec "$@"`). So the real
//! server runs once no process of the script is left.

/// Programs that run another one as their child: their command line names the script for as long as the container runs.
const INITS: [&str; 5] = ["docker-init", "tini", "tini-static", "dumb-init", "catatonit"];

/// Whether one of these command lines is a process of an entrypoint script.
pub(crate) fn entrypoint_runs(command_lines: &[String]) -> bool {
    command_lines.iter().any(|line| {
        let mut words = line.split_whitespace().map(base_name).peekable();
        let is_init = words.peek().is_some_and(|program| INITS.contains(program));
        let mut words = words.skip_while(|word| !is_shell_command(word) && !is_entrypoint(word));
        // `sh -c "docker-entrypoint.sh …"` runs the script as its own process.
        !is_init && words.next().is_some_and(is_entrypoint)
    })
}

/// `-c`, also combined (`-ec`): a shell command follows.
fn is_shell_command(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|flags| flags.ends_with('c') && flags.bytes().all(|it| it.is_ascii_lowercase()))
}

fn is_entrypoint(name: &str) -> bool {
    name.starts_with("docker-entrypoint") && !name.starts_with("docker-entrypoint-initdb.d")
}

fn base_name(word: &str) -> &str {
    word.trim_end_matches('/').rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(lines: &[&str]) -> bool {
        entrypoint_runs(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_script_that_still_initializes_is_seen() {
        assert!(runs(&[
            "bash /usr/local/bin/docker-entrypoint.sh postgres",
            "postgres -D /data -c listen_addresses="
        ]));
        assert!(runs(&["/bin/bash /usr/local/bin/docker-entrypoint.sh mysqld", "mysqld --skip-networking"]));
        assert!(runs(&["setpriv --reuid=postgres -- /usr/local/bin/docker-entrypoint.sh postgres"]));
        assert!(runs(&[
            "/sbin/docker-init -- docker-entrypoint.sh mariadbd",
            "bash /docker-entrypoint.sh mariadbd"
        ]));
    }

    /// The processes of `mysql:8.4` on empty data, in order, as its `docker-entrypoint.sh` starts them
    /// (`docker_init_database_dir`, `docker_temp_server_start`, `docker_process_sql`, `docker_temp_server_stop`, `exec`).
    #[test]
    fn a_mysql_server_that_is_temporary_is_told_apart_from_the_real_one() {
        const SCRIPT: &str = "/bin/bash /usr/local/bin/docker-entrypoint.sh mysqld";
        const TEMPORARY: &str = "mysqld --daemonize --skip-networking --default-time-zone=SYSTEM --socket=/var/run/mysqld/mysqld.sock";
        let stages: [&[&str]; 9] = [
            &[SCRIPT],
            &["gosu mysql /usr/local/bin/docker-entrypoint.sh mysqld"],
            &[SCRIPT, "mysqld --initialize-insecure --default-time-zone=SYSTEM --autocommit=1"],
            // The server daemonizes: its first process waits, the second one serves the socket.
            &[SCRIPT, TEMPORARY, TEMPORARY],
            &[SCRIPT, TEMPORARY],
            &[
                SCRIPT,
                TEMPORARY,
                SCRIPT,
                "mysql --defaults-extra-file=/dev/fd/63 --protocol=socket -uroot -hlocalhost \
                 --socket=/var/run/mysqld/mysqld.sock --comments --database=mysql",
            ],
            &[SCRIPT, TEMPORARY, "mysql_tzinfo_to_sql /usr/share/zoneinfo"],
            &[
                SCRIPT,
                TEMPORARY,
                "mysqladmin --defaults-extra-file=/dev/fd/63 shutdown -uroot --socket=/var/run/mysqld/mysqld.sock",
            ],
            &["/sbin/docker-init -- docker-entrypoint.sh mysqld", SCRIPT, TEMPORARY],
        ];
        for stage in stages {
            assert!(runs(stage), "{stage:?}");
        }
        assert!(!runs(&["mysqld"]));
        assert!(!runs(&["mysqld --character-set-server=utf8mb4"]));
        assert!(!runs(&["/sbin/docker-init -- docker-entrypoint.sh mysqld", "mysqld"]));
    }

    #[test]
    fn a_server_that_has_replaced_it_is_told_apart() {
        assert!(!runs(&["postgres", "postgres: checkpointer"]));
        assert!(!runs(&["/usr/bin/tini -- /docker-entrypoint.sh node", "node server.js"]));
        assert!(!runs(&["sh -c docker-entrypoint.sh postgres & wait", "postgres"]));
        assert!(!runs(&["sh /start.sh", "ls /docker-entrypoint-initdb.d/"]));
        assert!(!runs(&[]));
    }
}
