//! Runs a command on its own terminal.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Record;
use super::process::{Heard, Outcome, is_stopped, line_of};

/// A command whose stdin, stdout and stderr are one pseudo-terminal, which is also its controlling terminal.
pub struct Terminal {
    child: Child,
    line: String,
    keyboard: Option<File>,
    screen: Heard,
    record: Record,
    began: Instant,
}

impl Terminal {
    pub(super) fn start(mut command: Command, record: Record) -> Self {
        let (ours, theirs) = open_terminal(40, 120);
        let line = line_of(&command);
        let _ = writeln!(record.lock().unwrap(), "$ {line}    (on a terminal)");
        command.stdin(Stdio::from(theirs.try_clone().unwrap()));
        command.stdout(Stdio::from(theirs.try_clone().unwrap()));
        command.stderr(Stdio::from(theirs));
        // SAFETY: setsid, ioctl and signal are async-signal-safe and touch no memory of the parent's.
        unsafe {
            command.pre_exec(|| {
                // Restores the default handling as on a terminal: tests in the background of a shell ignore these
                // signals.
                for key in [libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(key, libc::SIG_DFL);
                }
                if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        drop(command);
        let screen = Heard::from(ours.try_clone().unwrap());
        Self { child, line, keyboard: Some(ours), screen, record, began: Instant::now() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All output so far, including escape sequences.
    pub fn raw(&self) -> String {
        self.screen.so_far()
    }

    /// All output so far, without escape sequences.
    pub fn text(&self) -> String {
        console::strip_ansi_codes(&self.raw()).into_owned()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether a signal has stopped the command.
    pub fn is_stopped(&self) -> bool {
        is_stopped(self.child.id())
    }

    /// Waits until the output contains a text.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> &mut Self {
        let start = Instant::now();
        loop {
            let running = self.is_running();
            if !running {
                self.screen.drained();
            }
            if self.text().contains(text) {
                return self;
            }
            assert!(
                running && start.elapsed() < Duration::from_mins(3),
                "`{}` {} and does not show {text:?}; the screen:\n{}",
                self.line,
                if running { "runs on" } else { "ended" },
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types on the keyboard.
    pub fn types(&mut self, keys: &str) -> &mut Self {
        self.keyboard.as_mut().expect("the terminal is open").write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Presses Ctrl-C.
    pub fn ctrl_c(&mut self) -> &mut Self {
        self.types("\x03")
    }

    /// Presses Ctrl-Z.
    pub fn ctrl_z(&mut self) -> &mut Self {
        self.types("\x1a")
    }

    /// Changes the size of the terminal.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = self.keyboard.as_ref().expect("the terminal is open");
        // SAFETY: the descriptor is open and the structure lives through the call.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// Sends a signal to the command only.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two integers; the child is ours and not yet reaped.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Simulates closing the terminal's window: the command's process group gets a hang-up signal.
    ///
    /// The signal is sent explicitly, because the reader also holds a descriptor of our side, so closing it would not
    /// be the last close.
    pub fn close_window(&mut self) {
        self.keyboard = None;
        // SAFETY: kill takes two integers; the session's group is the child's own.
        unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGHUP) };
    }

    /// Waits for the command's end; fails the test at the time limit.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let start = Instant::now();
        while self.is_running() {
            assert!(
                start.elapsed() < limit,
                "`{}` did not end within {limit:?}; the screen:\n{}",
                self.line,
                self.text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.wait().unwrap();
        self.screen.drained();
        let outcome = Outcome {
            line: self.line.clone(),
            code: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            stdout: self.text(),
            stderr: String::new(),
            took: self.began.elapsed(),
        };
        let _ = writeln!(self.record.lock().unwrap(), "{outcome}");
        outcome
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = writeln!(
                self.record.lock().unwrap(),
                "--- the screen of `{}`\n{}",
                self.line,
                self.screen.so_far()
            );
            // SAFETY: kill takes two integers; the session's group is the child's own.
            unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
            let _ = self.child.wait();
        }
    }
}

fn open_terminal(rows: u16, columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both descriptors are written by the call; name and attributes may be null.
    let result = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    assert_eq!(result, 0, "cannot open a terminal: {}", std::io::Error::last_os_error());
    // The child must not inherit our descriptor, or it would never get the hang-up.
    // SAFETY: the descriptor was opened just now.
    unsafe { libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: as above, and again for the other end.
    unsafe { libc::fcntl(theirs, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: both descriptors are open and have no other owner.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}
