//! Finds the shared libraries of a binary that is not static.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::ImageError;

/// Returns the libraries that the loader lists, and the loader itself.
pub(super) fn libraries(binary: &Path, interpreter: &Path) -> Result<Vec<(PathBuf, PathBuf)>, ImageError> {
    let failed = |cause: String| ImageError::Libraries { path: binary.to_owned(), cause };
    let output = Command::new(interpreter)
        .arg("--list")
        .arg(seen_by_another(binary))
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut files = vec![(interpreter.to_owned(), interpreter.to_owned())];
    for (name, path) in listed(&String::from_utf8_lossy(&output.stdout)) {
        let Some(path) = path else { return Err(failed(format!("`{name}` is not found"))) };
        if path != interpreter {
            // Under the same path: the loader in the image searches where the loader on this machine found it.
            files.push((path.clone(), path));
        }
    }
    Ok(files)
}

/// The path under which another process finds a file. `/proc/self/exe` of that process would be the loader.
fn seen_by_another(path: &Path) -> PathBuf {
    match path.strip_prefix("/proc/self") {
        Ok(rest) => Path::new("/proc").join(std::process::id().to_string()).join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Parses the lines `NAME => PATH (ADDRESS)` of a loader's `--list`. The kernel's own library has no path.
fn listed(text: &str) -> Vec<(String, Option<PathBuf>)> {
    text.lines()
        .filter_map(|line| line.trim().split_once(" => "))
        .map(|(name, rest)| {
            let path = rest.rsplit_once(" (").map(|(path, _)| PathBuf::from(path.trim()));
            (name.to_owned(), path.filter(|it| it.is_absolute()))
        })
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_very_program_is_what_the_loader_is_asked_about() {
        let own = fs::canonicalize("/proc/self/exe").unwrap();
        let seen =
            Command::new("readlink").arg(seen_by_another(Path::new("/proc/self/exe"))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), own.display().to_string());
        assert_eq!(seen_by_another(Path::new("/bin/ls")), Path::new("/bin/ls"));
    }

    #[test]
    fn a_loaders_list_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibz.so.1 => not found\n";
        let expected = vec![
            ("libc.so.6".to_owned(), Some(PathBuf::from("/lib/x/libc.so.6"))),
            ("libz.so.1".to_owned(), None),
        ];
        assert_eq!(listed(text), expected);
    }
}
