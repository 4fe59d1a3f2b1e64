//! Times as the evidence writes them: RFC 3339, UTC, microseconds, always 27 characters.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Microseconds since 1970 by the wall clock; a clock before 1970 reads as 0.
#[must_use]
pub fn now_micros() -> i64 {
    micros_of(SystemTime::now())
}

fn micros_of(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// `2026-06-01T12:00:00.000001Z`. Times that no calendar here can hold read as the latest one that it can.
#[must_use]
pub fn format_micros(micros: i64) -> String {
    let mut text = seconds_prefix(micros.div_euclid(1_000_000));
    push_fraction(&mut text, micros.rem_euclid(1_000_000));
    text
}

/// Reads exactly the form that [`format_micros`] writes; anything else is `None`.
#[must_use]
pub fn parse_micros(text: &str) -> Option<i64> {
    let shaped = text.len() == 27
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            19 => byte == b'.',
            26 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !shaped {
        return None;
    }
    let micros = text.parse::<Timestamp>().ok()?.as_microsecond();
    // A leap second or an impossible day would come back as another text.
    (format_micros(micros) == text).then_some(micros)
}

fn seconds_prefix(seconds: i64) -> String {
    let timestamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

fn push_fraction(text: &mut String, micros: i64) {
    text.push('.');
    let mut place = 100_000;
    while place > 0 {
        let digit = u8::try_from(micros / place % 10).unwrap_or(0);
        text.push(char::from(b'0' + digit));
        place /= 10;
    }
    text.push('Z');
}

/// Where the writer has its time from.
pub trait Clock: Send {
    /// Microseconds since 1970.
    fn micros(&mut self) -> i64;
}

/// The host's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn micros(&mut self) -> i64 {
        now_micros()
    }
}

/// Formats times that mostly share their second, and never lets them run backwards.
#[derive(Debug, Default)]
pub(super) struct Stamper {
    last: i64,
    second: Option<i64>,
    text: String,
}

impl Stamper {
    /// The time that was stamped last, microseconds.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    pub(super) fn stamp(&mut self, micros: i64) -> &str {
        // A wall clock that is set back would otherwise contradict the order in which things were seen.
        self.last = self.last.max(micros);
        let second = self.last.div_euclid(1_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = seconds_prefix(second);
        }
        self.text.truncate(19);
        push_fraction(&mut self.text, self.last.rem_euclid(1_000_000));
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_reads_back() {
        assert_eq!(format_micros(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format_micros(1_780_315_200_000_001), "2026-06-01T12:00:00.000001Z");
        for micros in [0, 1, 999_999, 1_780_315_200_123_456] {
            assert_eq!(parse_micros(&format_micros(micros)), Some(micros));
        }
    }

    #[test]
    fn reads_nothing_else() {
        for text in [
            "",
            "2026-06-01T12:00:00Z",
            "2026-06-01T12:00:00.000001+00:00",
            "2026-06-01 12:00:00.000001Z",
            "2026-02-30T12:00:00.000001Z",
            "2026-06-01T12:00:60.000001Z",
            "２026-06-01T12:00:00.00001Z",
        ] {
            assert_eq!(parse_micros(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_set_back_does_not_run_backwards() {
        let mut stamper = Stamper::default();
        assert_eq!(stamper.stamp(1_500_000), "1970-01-01T00:00:01.500000Z");
        assert_eq!(stamper.stamp(400_000), "1970-01-01T00:00:01.500000Z");
        assert_eq!(stamper.stamp(2_000_007), "1970-01-01T00:00:02.000007Z");
    }
}
