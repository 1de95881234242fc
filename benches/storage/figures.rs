//! How a figure is taken and shown.

use std::time::Duration;

/// What a ratio is held to.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Shows one time over another.
pub fn ratio(what: &str, one: Duration, other: Duration, bound: Bound) {
    let shown = |time: Duration| (format!("{time:.2?}"), time.as_secs_f64());
    quotient(what, shown(one), shown(other), bound);
}

/// Shows one figure over another, each with its words.
pub fn quotient(what: &str, one: (String, f64), other: (String, f64), bound: Bound) {
    let ratio = one.1 / other.1;
    let (held, words) = match bound {
        Bound::AtMost(limit) => (ratio <= limit, format!("at most {limit:.2}")),
        Bound::AtLeast(limit) => (ratio >= limit, format!("at least {limit:.2}")),
    };
    let verdict = if held { "held" } else { "NOT HELD" };
    println!("{what:<68} {:>9} / {:>9} = {ratio:.2}  {words}: {verdict}", one.0, other.0);
}
