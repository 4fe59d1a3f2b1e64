//! The text of audit records about Landlock, read strictly (linux/audit.h; security/landlock/audit.c and
//! security/lsm_audit.c write it). Names in it are chosen by whoever is refused something: the kernel puts those without
//! control characters, spaces and quotes in quotes and writes all others in hexadecimal, so that no name ends early.
//!
//! A record that does not have the form is an error, and never half of it a record.

/// `AUDIT_SYSCALL`.
const SYSCALL: u16 = 1300;
/// `AUDIT_LANDLOCK_ACCESS`.
const ACCESS: u16 = 1423;
/// `AUDIT_LANDLOCK_DOMAIN`.
const DOMAIN: u16 = 1424;
/// The most bytes of a record that are looked at: a path of PATH_MAX in hexadecimal, twice.
pub(super) const MAX_RECORD: usize = 20 << 10;
/// The most rights of one refusal: more than Landlock has.
const MAX_BLOCKERS: usize = 64;

/// Which event a record belongs to: records of one system call have the same where the kernel traces calls, and each
/// one of its own where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    /// Milliseconds of the wall clock.
    pub(super) ms: u64,
    /// The kernel's count.
    pub(super) serial: u64,
}

/// A record that is of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Something was refused.
    Access { stamp: Stamp, domain: u64, access: Access },
    /// With the first refusal of a domain: who made it.
    Made { domain: u64, pid: u32, uid: u32 },
    /// A domain of which refusals were told is gone, after so many.
    Gone { domain: u64, denials: u64 },
    /// The system call of the event's refusals is over.
    Call { stamp: Stamp, pid: u32, exe: Option<Vec<u8>> },
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Access {
    /// Names of the rights that were missing (`fs.read_file`).
    pub(super) blockers: Vec<String>,
    /// Fields that say of what, decoded where they are names.
    pub(super) path: Option<Vec<u8>>,
    /// A name without its directories, where the kernel has no more.
    pub(super) name: Option<Vec<u8>>,
    /// The process that a signal or trace was for.
    pub(super) pid: Option<u32>,
    /// An address (`daddr`, `saddr`).
    pub(super) address: Option<std::net::IpAddr>,
    /// A port (`dest`, `src`).
    pub(super) port: Option<u16>,
}

/// It does not have the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text<'a> {
    Quoted(&'a [u8]),
    Bare(&'a [u8]),
}

/// A record's fields, one after the other: `key=value`, with one space between.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Parsed<Option<(&'a str, Text<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let equals = self.0.iter().position(|b| *b == b'=').ok_or(Malformed)?;
        let (key, rest) = self.0.split_at(equals);
        let named = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_' || *b == b'-';
        if key.is_empty() || !key.iter().all(named) {
            return Err(Malformed);
        }
        let key = str::from_utf8(key).map_err(|_| Malformed)?;
        let rest = &rest[1..];
        let plain = |b: &u8| (0x21..=0x7e).contains(b) && *b != b'"';
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = quoted.iter().position(|b| !plain(b)).ok_or(Malformed)?;
                let (value, rest) = quoted.split_at(end);
                (Text::Quoted(value), rest.strip_prefix(b"\"").ok_or(Malformed)?)
            }
            None => {
                let end = rest.iter().position(|b| !plain(b)).unwrap_or(rest.len());
                let (value, rest) = rest.split_at(end);
                (Text::Bare(value), rest)
            }
        };
        self.0 = match rest {
            [] => rest,
            // A space is followed by something.
            [b' ', more @ ..] if !more.is_empty() => more,
            _ => return Err(Malformed),
        };
        Ok(Some((key, value)))
    }

    fn expect(&mut self, name: &str) -> Parsed<Text<'a>> {
        match self.next()? {
            Some((key, value)) if key == name => Ok(value),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Text<'a> {
    fn bare(self) -> Parsed<&'a str> {
        match self {
            Self::Bare(bytes) if !bytes.is_empty() => str::from_utf8(bytes).map_err(|_| Malformed),
            Self::Bare(_) | Self::Quoted(_) => Err(Malformed),
        }
    }

    fn number<T: std::str::FromStr>(self) -> Parsed<T> {
        decimal(self.bare()?)
    }

    /// A name (`audit_log_untrustedstring`): as it is in quotes, or in hexadecimal; `None` for what the kernel says where
    /// it has none.
    fn name(self) -> Parsed<Option<Vec<u8>>> {
        match self {
            Self::Quoted(bytes) => Ok(Some(bytes.to_vec())),
            Self::Bare(b"<no_memory>" | b"<too_long>" | b"(null)") => Ok(None),
            Self::Bare(digits) if digits.is_empty() || digits.len() % 2 != 0 => Err(Malformed),
            Self::Bare(digits) => digits
                .chunks(2)
                .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
                .collect::<Option<_>>()
                .map(Some)
                .ok_or(Malformed),
        }
    }
}

/// The kernel writes capitals (`hex_asc_upper`).
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Without the sign that `FromStr` takes.
fn decimal<T: std::str::FromStr>(text: &str) -> Parsed<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed);
    }
    text.parse().map_err(|_| Malformed)
}

fn domain(text: Text<'_>) -> Parsed<u64> {
    let digits = text.bare()?;
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Malformed);
    }
    u64::from_str_radix(digits, 16).map_err(|_| Malformed)
}

/// `audit(SECONDS.MILLISECONDS:SERIAL): `, and what is behind it.
fn stamp(text: &[u8]) -> Parsed<(Stamp, &[u8])> {
    let text = text.strip_prefix(b"audit(").ok_or(Malformed)?;
    // As far as numbers can reach: nothing of the text behind is looked at.
    let end = text.iter().take(64).position(|b| *b == b')').ok_or(Malformed)?;
    let (numbers, rest) = text.split_at(end);
    let rest = rest.strip_prefix(b"): ").ok_or(Malformed)?;
    let numbers = str::from_utf8(numbers).map_err(|_| Malformed)?;
    let (time, serial) = numbers.split_once(':').ok_or(Malformed)?;
    let (seconds, millis) = time.split_once('.').ok_or(Malformed)?;
    if millis.len() != 3 {
        return Err(Malformed);
    }
    let (seconds, millis): (u64, u64) = (decimal(seconds)?, decimal(millis)?);
    let ms = seconds.checked_mul(1000).and_then(|s| s.checked_add(millis)).ok_or(Malformed)?;
    Ok((Stamp { ms, serial: decimal(serial)? }, rest))
}

/// One record; `None` for a kind that is of no use.
pub(super) fn parse(kind: u16, text: &[u8]) -> Parsed<Option<Record>> {
    let of_use = [SYSCALL, ACCESS, DOMAIN].contains(&kind);
    if !of_use {
        return Ok(None);
    }
    if text.len() > MAX_RECORD {
        return Err(Malformed);
    }
    // Some records end with a NUL byte, as a line of C.
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    let (stamp, rest) = stamp(text)?;
    let mut fields = Fields(rest);
    match kind {
        ACCESS => {
            let domain = domain(fields.expect("domain")?)?;
            Ok(Some(Record::Access { stamp, domain, access: access(&mut fields)? }))
        }
        DOMAIN => made_or_gone(&mut fields).map(Some),
        _ => call(&mut fields, stamp).map(Some),
    }
}

fn access(fields: &mut Fields<'_>) -> Parsed<Access> {
    let blockers = fields.expect("blockers")?.bare()?;
    let blockers: Vec<String> = blockers.split(',').map(str::to_owned).collect();
    let right = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
    if blockers.len() > MAX_BLOCKERS || blockers.iter().any(|one| one.is_empty() || !one.bytes().all(right)) {
        return Err(Malformed);
    }
    let mut access = Access { blockers, ..Access::default() };
    let mut seen = vec!["domain", "blockers"];
    while let Some((key, value)) = fields.next()? {
        // What is said twice is not the kernel's word.
        if seen.contains(&key) {
            return Err(Malformed);
        }
        seen.push(key);
        match key {
            "path" => access.path = value.name()?,
            "name" => access.name = value.name()?,
            "opid" => access.pid = Some(value.number()?),
            "daddr" | "saddr" => {
                access.address = Some(value.bare()?.parse().map_err(|_| Malformed)?);
            }
            "dest" | "src" => access.port = Some(value.number()?),
            // `dev`, `ino`, `ocomm`, `ioctlcmd`, `netif`, and what a later kernel adds.
            _ => {}
        }
    }
    Ok(access)
}

fn made_or_gone(fields: &mut Fields<'_>) -> Parsed<Record> {
    let domain = domain(fields.expect("domain")?)?;
    match fields.expect("status")?.bare()? {
        "allocated" => {
            fields.expect("mode")?.bare()?;
            let pid = fields.expect("pid")?.number()?;
            let uid = fields.expect("uid")?.number()?;
            fields.expect("exe")?.name()?;
            fields.expect("comm")?.name()?;
            end(fields)?;
            Ok(Record::Made { domain, pid, uid })
        }
        "deallocated" => {
            let denials = fields.expect("denials")?.number()?;
            end(fields)?;
            Ok(Record::Gone { domain, denials })
        }
        _ => Err(Malformed),
    }
}

fn end(fields: &mut Fields<'_>) -> Parsed<()> {
    match fields.next()? {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

/// Up to the program: behind it a security module's word may stand, which has spaces in it.
fn call(fields: &mut Fields<'_>, stamp: Stamp) -> Parsed<Record> {
    let mut pid = None;
    while let Some((key, value)) = fields.next()? {
        match key {
            "pid" if pid.is_none() => pid = Some(value.number()?),
            "pid" => return Err(Malformed),
            "exe" => return Ok(Record::Call { stamp, pid: pid.ok_or(Malformed)?, exe: value.name()? }),
            _ => {}
        }
    }
    Err(Malformed)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
