//! Parses times on the command line: RFC 3339, a date, or an age (`10m`, `2h30m`).

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Parses a time. A clap value parser.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    at(text, Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Some(ago) = duration(text) {
        return now.checked_sub(ago).map_err(|error| error.to_string());
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).map_err(|error| error.to_string());
    }
    text.parse::<jiff::civil::DateTime>()
        .ok()
        .and_then(|local| local.to_zoned_datetime(TimeZone::system()).ok())
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| {
            "not a moment such as `10m`, `2h30m`, `2026-11-01` or `2026-11-01T10:00:00Z`".to_owned()
        })
}

/// Parses a duration: `1h30m`, `45s`, `2d`, `500ms`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let one = match &rest[..unit] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" | "min" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            "d" => Duration::from_hours(24),
            "w" => Duration::from_hours(24 * 7),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(u32::try_from(number).ok()?)?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_a_time_ago() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let read = |text| at(text, now).unwrap().to_string();
        assert_eq!(read("2026-11-01T10:00:00Z"), "2026-11-01T10:00:00Z");
        assert_eq!(read("1h30m"), "2026-11-23T10:30:00Z");
        assert_eq!(read("90s"), "2026-11-23T11:58:30Z");
        assert!(at("yesterday-ish", now).is_err());
        assert!(at("", now).is_err());
        assert!(at("5", now).is_ok());
        assert!(at("5x", now).is_err());
    }
}
