//! Faults on demand: what happens to the packets of a service, from everybody, until it is taken back.
//!
//! A fault is a container of our own image in the network of the service's container. That container is all there is
//! of it: its labels say what the fault is, its process carries it out, its end is the fault's end, and it goes with
//! the sandbox. The kernel hands each packet that comes or leaves to the process ([`queue`]), which decides when it may
//! go on, or that it does not ([`line`]). That asks nothing of the kernel but its packet filter, and is the same on
//! every one. When the service's network ends (it stopped) so does the process; the keeper makes the container anew
//! when the service starts again ([`container`]).

pub mod container;
mod link;
mod packet_queue;

use std::{fmt, io, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

/// What happens to a service's packets. Nothing, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Each round trip takes so much longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// The latency varies by so much, up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// The share of packets that are lost, each way: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The most bits a second, each way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// No packet passes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Fault {
    /// This fault with what another one says besides or otherwise.
    #[must_use]
    pub fn and(self, more: &Self) -> Self {
        Self {
            latency: more.latency.or(self.latency),
            jitter: more.jitter.or(self.jitter),
            loss: more.loss.or(self.loss),
            bandwidth: more.bandwidth.or(self.bandwidth),
            cut: more.cut || self.cut,
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it, in the words of the command line.
    ///
    /// # Errors
    /// When parts contradict each other.
    pub fn check(&self) -> Result<(), &'static str> {
        let latency = self.latency.unwrap_or_default();
        match self.jitter {
            _ if self.is_empty() => Err("a fault needs --latency, --loss, --bandwidth or --cut"),
            Some(jitter) if jitter > latency => {
                Err("--jitter is at most --latency: a packet cannot come early")
            }
            _ => Ok(()),
        }
    }
}

/// As the options that ask for it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.cut {
            words.push("cut".to_owned());
        }
        words.extend(self.latency.map(|latency| format!("latency {latency:?}")));
        words.extend(self.jitter.map(|jitter| format!("jitter {jitter:?}")));
        words.extend(self.loss.map(|loss| format!("loss {}%", (loss * 1e6).round() / 1e4)));
        words.extend(self.bandwidth.map(bits));
        f.write_str(&words.join(", "))
    }
}

fn bits(rate: u64) -> String {
    for (unit, size) in [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)] {
        if rate >= size && rate.is_multiple_of(size) {
            return format!("bandwidth {}{unit}", rate / size);
        }
    }
    format!("bandwidth {rate}bit")
}

/// What the process says on its standard output, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum FaultEvent {
    /// It is in force.
    Imposed,
    /// It could not be put in force.
    Failed {
        /// Why not.
        message: String,
    },
}

/// `sandbox agent fault JSON`: carries a fault out in the network that it was started in, until it is told to stop
/// (SIGTERM) or the network ends.
pub fn run(args: &[String]) -> ExitCode {
    let outcome = args
        .first()
        .ok_or_else(|| io::Error::other("no fault was named"))
        .and_then(|json| serde_json::from_str::<Fault>(json).map_err(io::Error::from))
        .and_then(|fault| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(packet_queue::carry_out(fault, || say(&FaultEvent::Imposed)))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&FaultEvent::Failed { message: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

fn say(event: &FaultEvent) {
    use io::Write;
    if let Ok(line) = serde_json::to_string(event) {
        // Whoever reads may have gone; the fault is in force all the same.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_it_was_asked_for() {
        let fault = Fault {
            latency: Some(Duration::from_millis(200)),
            jitter: Some(Duration::from_millis(50)),
            loss: Some(0.05),
            bandwidth: Some(1_000_000),
            cut: false,
        };
        assert_eq!(fault.to_string(), "latency 200ms, jitter 50ms, loss 5%, bandwidth 1mbit");
        let json = serde_json::to_string(&fault).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
    }

    #[test]
    fn a_second_fault_adds_to_the_first_and_overrides_what_it_says_anew() {
        let first = Fault { latency: Some(Duration::from_millis(100)), loss: Some(0.1), ..Fault::default() };
        let second = Fault { loss: Some(0.2), ..Fault::default() };
        assert_eq!(first.and(&second).to_string(), "latency 100ms, loss 20%");
    }

    #[test]
    fn a_fault_that_says_nothing_or_contradicts_itself_is_refused() {
        assert!(Fault::default().check().is_err());
        let jitter = Fault { jitter: Some(Duration::from_millis(5)), ..Fault::default() };
        assert!(jitter.check().is_err());
        let both = Fault { latency: Some(Duration::from_millis(5)), ..jitter };
        assert!(both.check().is_ok());
    }
}
