//! The keeper's two clocks, and a wall-clock timer that also fires after the machine was asleep or the clock was set,
//! so that the keeper need not poll the time.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::state::Clocks;

/// Returns the time since the keeper's start and the time of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begin: Instant,
}

impl Clock {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { begin: Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Clocks {
        // On Linux `Instant` is CLOCK_MONOTONIC, which does not advance while the machine sleeps.
        Clocks { mono: self.begin.elapsed(), wall: Timestamp::now() }
    }

    /// Converts a time of the first clock for the runtime's timers.
    pub fn instant(&self, mono: Duration) -> Instant {
        self.begin + mono
    }
}

#[cfg(target_os = "linux")]
mod timer {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::os::fd::OwnedFd;
    use tokio::io::unix::AsyncFd;

    use super::{Timestamp, io};

    /// A timer on the wall clock.
    pub struct WallTimer {
        fd: AsyncFd<OwnedFd>,
        set: Option<Timestamp>,
    }

    impl WallTimer {
        /// Creates a timer that is not armed.
        pub fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Realtime, flags)?;
            // SAFETY: the file descriptor is open, and the `AsyncFd` owns it and keeps it open.
            let fd = unsafe { AsyncFd::register(fd)? };
            Ok(Self { fd, set: None })
        }

        /// Arms the timer for this time, or disarms it.
        pub fn set(&mut self, at: Option<Timestamp>) -> io::Result<()> {
            if at == self.set {
                return Ok(());
            }
            self.set = at;
            // All zeros disarm the timer; a time in the past makes it fire at once.
            let value = at.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |at| Timespec {
                tv_sec: at.as_second().max(1),
                tv_nsec: at.subsec_nanosecond().max(0).into(),
            });
            let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
            match timerfd_settime(self.fd.get_ref(), flags, &spec) {
                // The timer is armed in spite of this error: the clock was set since the last read (timerfd_create(2),
                // notes).
                Err(rustix::io::Errno::CANCELED) => Ok(()),
                set => Ok(set.map(drop)?),
            }
        }

        /// Waits until the timer fires or the clock is set.
        pub async fn fired(&mut self) -> io::Result<()> {
            let mut count = [0_u8; 8];
            loop {
                let mut guard = self.fd.readable().await?;
                let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?));
                match read {
                    Ok(Err(error)) if error.raw_os_error() != Some(libc::ECANCELED) => return Err(error),
                    Ok(_) => {
                        self.set = None;
                        return Ok(());
                    }
                    // Not ready yet.
                    Err(_) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::time::Duration;

    use super::{Timestamp, io};

    /// How often to poll on systems without a wall-clock timer.
    const LOOK: Duration = Duration::from_secs(15);

    /// A timer on the wall clock.
    pub struct WallTimer {
        set: Option<Timestamp>,
    }

    impl WallTimer {
        /// Creates a timer that is not armed.
        pub fn new() -> io::Result<Self> {
            Ok(Self { set: None })
        }

        /// Arms the timer for this time, or disarms it.
        pub fn set(&mut self, at: Option<Timestamp>) -> io::Result<()> {
            self.set = at;
            Ok(())
        }

        /// Waits until the timer fires.
        pub async fn fired(&mut self) -> io::Result<()> {
            let Some(at) = self.set else { return std::future::pending().await };
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            tokio::time::sleep(left.min(LOOK)).await;
            Ok(())
        }
    }
}

pub use timer::WallTimer;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_timer_fires_when_the_clock_on_the_wall_shows_its_time() {
        let mut timer = WallTimer::new().unwrap();
        let at = Timestamp::now().checked_add(Duration::from_millis(50)).unwrap();
        timer.set(Some(at)).unwrap();
        tokio::time::timeout(SOON, timer.fired()).await.unwrap().unwrap();
        assert!(Timestamp::now() >= at);
    }

    #[tokio::test]
    async fn a_time_that_has_passed_fires_at_once() {
        let mut timer = WallTimer::new().unwrap();
        timer.set(Some(Timestamp::from_second(1_000_000_000).unwrap())).unwrap();
        tokio::time::timeout(SOON, timer.fired()).await.unwrap().unwrap();
    }
}
