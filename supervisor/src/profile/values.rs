//! Single values: durations, sizes, counts, CPUs, nonces, names. Text in, checked value or reason out;
//! no layers, no files, no environment.

use std::time::Duration;

use super::error::Bad;

/// The longest duration that is accepted: deadlines must stay representable on every clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration such as `90s`, `30m` or `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, Bad> {
    let parsed = humantime::parse_duration(text.trim()).map_err(|error| {
        Bad::new(format!("`{text}` is not a duration: {error}"))
            .remedy("write a number and a unit, for example `90s`, `30m` or `1h 30m`")
    })?;
    if parsed > LONGEST {
        return Err(Bad::new(format!("`{text}` is longer than a year")).remedy("give a shorter time"));
    }
    Ok(parsed)
}

/// A duration that is not zero.
pub fn positive_duration(text: &str) -> Result<Duration, Bad> {
    let parsed = duration(text)?;
    if parsed.is_zero() {
        return Err(Bad::new(format!("`{text}`: a time of zero would end the run before it starts"))
            .remedy("give a time of at least `1ms`"));
    }
    Ok(parsed)
}

/// A size in bytes: plain, or with K, M, G, T or KiB, MiB, GiB, TiB (all powers of 1024).
pub fn size(text: &str) -> Result<u64, Bad> {
    let help = "write bytes, or a whole number with K, M, G, T (powers of 1024) or KiB, MiB, GiB, TiB: `64M`";
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(Bad::new(format!("`{text}` is not a size")).remedy(help)),
    };
    let number: u64 = number.parse().map_err(|_| Bad::new(format!("`{text}` is not a size")).remedy(help))?;
    let bytes = number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| Bad::new(format!("`{text}` is too large")).remedy("give less than 8 EiB"))?;
    if bytes == 0 {
        return Err(Bad::new(format!("`{text}`: a limit of zero bytes lets nothing run")).remedy(help));
    }
    Ok(bytes)
}

/// A count of at least one.
pub fn count(text: &str) -> Result<u64, Bad> {
    match text.trim().parse::<u64>() {
        Ok(0) => Err(Bad::new("a limit of 0 lets nothing run").remedy("give at least 1")),
        Ok(count) if count <= i64::MAX as u64 => Ok(count),
        _ => Err(Bad::new(format!("`{text}` is not a whole number from 1 up"))
            .remedy("write digits only, for example `4096`")),
    }
}

/// A number of CPUs; `all` is no limit.
pub fn cpus(text: &str) -> Result<Option<f64>, Bad> {
    if text.trim() == "all" {
        return Ok(None);
    }
    let plain = !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.trim().parse::<f64>() {
        Ok(cpus) if plain && (0.01..=65536.0).contains(&cpus) => Ok(Some(cpus)),
        _ => Err(Bad::new(format!("`{text}` is not a number of CPUs"))
            .remedy("write a number from 0.01 up, for example `1.5`, or `all`")),
    }
}

/// A nonce: 16 to 128 hexadecimal digits, an even number of them; given back in lower case.
pub fn nonce(text: &str) -> Result<String, Bad> {
    let remedy = "give whole bytes in hexadecimal, 8 to 64 of them, for example from `openssl rand -hex 16`";
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Bad::new("the nonce is not hexadecimal").remedy(remedy));
    }
    if !(16..=128).contains(&text.len()) || !text.len().is_multiple_of(2) {
        let what = format!("the nonce has {} digits; an even number from 16 to 128 is needed", text.len());
        return Err(Bad::new(what).remedy(remedy));
    }
    Ok(text.to_ascii_lowercase())
}

/// A name of a profile, view or engine: what cannot be mistaken for a path.
pub fn name(text: &str) -> Result<String, Bad> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if starts && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("`{}` is not a name", text.escape_debug())).remedy(
        "a name has up to 64 of the characters a-z, 0-9, `-`, `_`, `.` and starts with a letter or digit",
    ))
}

/// The name of an environment variable that a sandbox may have.
pub fn env_name(text: &str) -> Result<(), Bad> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.is_empty() || text.as_bytes()[0].is_ascii_digit() || !text.bytes().all(plain) {
        return Err(Bad::new(format!("`{}` is not a variable's name", text.escape_debug()))
            .remedy("use letters, digits and `_`, not starting with a digit"));
    }
    if text.starts_with("PROCTOR_") {
        return Err(Bad::new(format!("`{text}`: names that start with PROCTOR_ are set by Proctor alone"))
            .remedy("choose another name"));
    }
    Ok(())
}

/// A value of an environment variable.
pub fn env_value(text: &str) -> Result<(), Bad> {
    if text.contains('\0') {
        return Err(Bad::new("a variable's value cannot hold a NUL byte").remedy("remove it"));
    }
    if text.len() > 100 * 1024 {
        return Err(Bad::new(
            "a variable's value is larger than 100 KiB, more than a program can be started with",
        )
        .remedy("put it into a file and mount that"));
    }
    Ok(())
}

/// A command for `sh -c`.
pub fn shell_command(text: &str) -> Result<String, Bad> {
    if text.trim().is_empty() {
        return Err(Bad::new("the command is empty").remedy("name a command that `sh -c` can run"));
    }
    if text.contains('\0') {
        return Err(Bad::new("the command holds a NUL byte").remedy("remove it"));
    }
    Ok(text.to_owned())
}

/// One word of a fixed set.
pub fn word<T: Copy>(kind: &str, text: &str, words: &[(&str, T)]) -> Result<T, Bad> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    Err(Bad::new(format!("`{}` is no {kind}", text.escape_debug()))
        .near(text, words.iter().map(|(word, _)| *word))
        .remedy(format!("one of {all}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("8G"), Ok(8 << 30));
        assert_eq!(size("3KiB"), Ok(3072));
        assert_eq!(size(" 2 MiB "), Ok(2 << 20));
        assert_eq!(size("1tib"), Ok(1 << 40));
        for bad in ["", "M", "-1", "1.5G", "1MB", "8X", "0", "0G", "99999999T", "99999999999999999999", "1 0"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(positive_duration("0s").is_err());
        for bad in ["", "90", "-1s", "1 fortnight", "400days"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_cpus() {
        assert_eq!(cpus("1.5"), Ok(Some(1.5)));
        assert_eq!(cpus("all"), Ok(None));
        for bad in ["0", "-1", "NaN", "inf", "1e9", "", "0.001", "."] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonces() {
        assert_eq!(nonce("00112233AABBCCDD").as_deref(), Ok("00112233aabbccdd"));
        assert!(nonce(&"0".repeat(128)).is_ok());
        for bad in ["", "00", "00112233aabbccd", "0011223344556677z0", &"0".repeat(130)] {
            assert!(nonce(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_never_paths() {
        for good in ["default", "ci-2", "rust.nightly"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".x", "a/b", "/etc", "A", "a b", &"a".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables() {
        for good in ["A", "_x1", "npm_config_cache"] {
            assert!(env_name(good).is_ok(), "{good}");
        }
        for bad in ["", "1A", "A=B", "A B", "A\0", "PROCTOR_TASK", "é"] {
            assert!(env_name(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (size(&text), duration(&text), count(&text), cpus(&text), nonce(&text), name(&text));
        }

        #[test]
        fn plain_bytes_are_themselves(bytes in 1u64..=i64::MAX as u64) {
            prop_assert_eq!(size(&bytes.to_string()), Ok(bytes));
        }
    }
}
