//! Parses and formats durations and sizes like Compose.

use std::time::Duration;

/// Parses a duration: `1h30m`, `1.5s`, `500ms`, also days and weeks.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| "a number is missing".to_owned())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "" => return Err(format!("the unit is missing; `{text}s` is {text} seconds")),
            unit => return Err(format!("the unit `{unit}` is none of ns, us, ms, s, m, h, d, w")),
        };
        total += number * seconds;
        rest = &rest[end..];
    }
    // Rounded to nanoseconds, so that 0.1s is exactly a tenth of a second.
    Duration::try_from_secs_f64((total * 1e9).round() / 1e9).map_err(|_| "it is too long".to_owned())
}

/// Formats a duration like Go: `1m30s`, `500ms`, `1h0m0s`.
pub(super) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 0),
            1_000..1_000_000 => ("µs", 3),
            _ => ("ms", 6),
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(nanos % 60_000_000_000, 9);
    if hours > 0 {
        format!("{hours}h{minutes}m{rest}s")
    } else if minutes > 0 {
        format!("{minutes}m{rest}s")
    } else {
        format!("{rest}s")
    }
}

/// Formats `n` divided by ten to the power of `scale`, without trailing zeros.
fn decimal(n: u128, scale: u32) -> String {
    let unit = 10_u128.pow(scale);
    let (whole, part) = (n / unit, n % unit);
    if part == 0 {
        return whole.to_string();
    }
    let digits = format!("{part:0width$}", width = scale as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// Parses a size: `64m`, `1.5gb`, `1GiB`, `512`; all units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| "it does not begin with a number".to_owned())?;
    let unit = text[split..].trim().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("the unit `{}` is none of b, k, m, g, t, p", text[split..].trim())),
    };
    let bytes = number * 1024_f64.powi(power);
    #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
    if bytes > i64::MAX as f64 {
        return Err("it is too large".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above; digits only")]
    let bytes = bytes as u64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, written) in [
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("500ms", "500ms"),
            ("1.5s", "1.5s"),
            ("0s", "0s"),
            ("0", "0s"),
            ("100us", "100µs"),
            ("1h30m5.25s", "1h30m5.25s"),
            ("2m", "2m0s"),
            ("0.1s", "100ms"),
        ] {
            assert_eq!(duration(text).map(duration_text).as_deref(), Ok(written), "{text}");
        }
        assert!(duration("10").unwrap_err().contains("`10s`"));
        assert!(duration("10 parsecs").is_err());
        assert!(duration("").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("64m", 64 << 20), ("1gb", 1 << 30), ("1GiB", 1 << 30), ("512", 512), ("1.5g", 3 << 29)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("many").is_err());
        assert!(size("5x").is_err());
    }
}
