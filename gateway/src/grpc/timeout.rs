//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

/// gRPC's form of a time.
pub(crate) fn write(limit: Duration) -> String {
    match limit.as_millis() {
        0 => format!("{}u", limit.as_micros()),
        millis @ 1..100_000_000 => format!("{millis}m"),
        _ => format!("{}S", limit.as_secs().min(99_999_999)),
    }
}

/// The time that is meant; `None`: it is none.
pub(crate) fn read(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(amount * 3600),
        'M' => Duration::from_secs(amount * 60),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_eight_digits_at_most() {
        assert_eq!(write(Duration::from_secs(600)), "600000m");
        assert_eq!(write(Duration::from_secs(100_000)), "100000S");
        assert_eq!(write(Duration::from_micros(500)), "500u");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for time in [500, 20_000, 600_000_000, 100_000_000_000].map(Duration::from_micros) {
            assert_eq!(read(&write(time)), Some(time));
        }
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "é", "1é"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
