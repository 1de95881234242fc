//! Fault injection: delays, drops or throttles the packets of a service, from and to all peers, until the fault is
//! removed.
//!
//! A fault is a container of our own image in the network namespace of the service's container. There is no other
//! state: its labels describe the fault, its process applies it, and it is removed with the fault or the sandbox. The
//! kernel passes each packet to the process ([`packet_queue`]), which decides when to release it or whether to drop it
//! ([`link`]). This needs only the kernel's packet filter, and so works in the same way on every kernel. When the
//! service stops, its network namespace ends, and so does the process; the keeper creates the container again when the
//! service starts ([`container`]).

pub mod container;
mod link;
mod packet_queue;

use std::{fmt, io, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

/// What happens to a service's packets. Unset fields have no effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Added to each round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// The latency varies by this much, up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// The share of packets that is dropped, in each direction: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The bandwidth limit in bits per second, in each direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// Drop all packets.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Fault {
    /// Combines two faults; fields of `more` take precedence.
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

    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the fields do not contradict each other. The error uses the names of the command-line options.
    ///
    /// # Errors
    /// Fails if they do.
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

/// Formats the fault as the command-line options that request it.
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

/// What the process prints on its standard output, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum FaultEvent {
    /// The fault is active.
    Imposed,
    /// The fault could not be started.
    Failed {
        /// The cause.
        message: String,
    },
}

/// `sandbox agent fault JSON`: applies a fault in its network namespace, until SIGTERM or until the namespace ends.
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
        // The reader may have gone; the fault is active all the same.
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
    fn a_second_fault_adds_to_the_first_and_overrides_what_it_repeats() {
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
