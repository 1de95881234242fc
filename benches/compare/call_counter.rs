//! Counts the engine calls of a command: a socket that passes everything on to the engine's and counts request lines.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::engine_api::socket;

pub struct CallCounter {
    path: PathBuf,
    calls: Arc<AtomicUsize>,
}

impl CallCounter {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("counted.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = UnixStream::connect(socket()).unwrap();
                let (answers, to_client) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass_on(answers, to_client, |_| ()));
                let counted = Arc::clone(&counted);
                thread::spawn(move || {
                    pass_on(client, engine, |bytes| {
                        let calls = bytes.windows(11).filter(|line| line == b" HTTP/1.1\r\n").count();
                        counted.fetch_add(calls, Ordering::Relaxed);
                    });
                });
            }
        });
        Self { path, calls }
    }

    /// For `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The number of calls since the last time.
    pub fn take(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
