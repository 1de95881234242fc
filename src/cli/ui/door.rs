//! A temporary file that redirects the user's browser to the page. It contains the token, so only the user can read
//! it, and it is removed when the verb ends.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use tempfile::NamedTempFile;

/// The redirect file, removed on drop.
pub(super) struct Door(NamedTempFile);

impl Door {
    /// Creates a file that redirects to `url`, an address that we generated.
    pub(super) fn to(url: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("sandbox-ui-").suffix(".html").permissions(std::fs::Permissions::from_mode(0o600));
        // Confined browsers can read only the home folder.
        let home = std::env::home_dir().filter(|home| home.is_dir());
        let made = home.map(|home| builder.tempfile_in(home));
        let mut file = match made {
            Some(Ok(file)) => file,
            _ => builder.tempfile()?,
        };
        write!(
            file,
            "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer>\
             <meta http-equiv=refresh content=\"0;url={url}\"><title>sandbox</title><a href=\"{url}\">sandbox</a>"
        )?;
        file.flush()?;
        Ok(Self(file))
    }

    /// The `file:` address for the browser.
    pub(super) fn address(&self) -> String {
        format!("file://{}", self.0.path().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_in_a_file_of_the_user_s_alone_and_not_in_its_address() {
        let door = Door::to("http://127.0.0.1:1/secret/").unwrap();
        let path = door.0.path().to_owned();
        assert!(!door.address().contains("secret"));
        assert!(std::fs::read_to_string(&path).unwrap().contains("secret"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(door);
        assert!(!path.exists());
    }
}
