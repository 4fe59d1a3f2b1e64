//! What shows that evidence was made by this run, at that time, on that kernel; and the names of runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{format_micros, now_micros};
use crate::schema::kinds;

/// Where the nonce came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NonceSource {
    /// The caller gave it: evidence that holds it was made after it was given.
    Caller,
    /// Proctor drew it: it tells runs apart, and no more.
    #[serde(rename = "self")]
    Own,
}

/// The freshness proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// Lower-case hex.
    #[schemars(with = "kinds::Nonce")]
    pub nonce: String,
    /// Whose.
    pub nonce_source: NonceSource,
    /// The run.
    #[schemars(with = "kinds::RunId")]
    pub run_id: String,
    /// Wall clock at the start, RFC 3339.
    #[schemars(with = "kinds::Timestamp")]
    pub wall_start: String,
    /// Wall clock at the end, RFC 3339.
    #[schemars(with = "kinds::Timestamp")]
    pub wall_end: String,
    /// By the monotonic clock (CLOCK_BOOTTIME: time asleep counts), nanoseconds.
    pub monotonic_duration_ns: u64,
    /// `/proc/sys/kernel/random/boot_id`; null where it cannot be read.
    #[schemars(with = "Option<kinds::Uuid>")]
    pub boot_id: Option<String>,
    /// Commit the run is about; null where the run never got so far.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub base_commit: Option<String>,
    /// Its tree.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub base_tree: Option<String>,
    /// Tree of the result; null where there is none.
    #[schemars(with = "Option<kinds::ObjectId>")]
    pub result_tree: Option<String>,
    /// True: every artifact was made exclusively by this run after its start (recorded by the supervisor; file times
    /// prove nothing).
    #[schemars(extend("const" = true))]
    pub artifacts_created_exclusively: bool,
}

/// The start of a run, from which [`Freshness`] is made at its end.
#[derive(Debug, Clone)]
pub struct FreshnessStart {
    /// The run.
    pub run_id: String,
    /// Lower-case hex.
    pub nonce: String,
    /// Whose.
    pub nonce_source: NonceSource,
    /// Wall clock, RFC 3339.
    pub wall_start: String,
    start_ns: u64,
    boot_id: Option<String>,
}

impl FreshnessStart {
    /// Now, with a new run id and, where the caller gave none, a nonce of 32 random bytes.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn now(nonce: Option<&str>) -> Result<Self, getrandom::Error> {
        let (nonce, nonce_source) = match nonce {
            Some(nonce) => (nonce.to_owned(), NonceSource::Caller),
            None => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes)?;
                (crate::event::hex::encode(&bytes), NonceSource::Own)
            }
        };
        let micros = now_micros();
        Ok(Self {
            run_id: run_id_at(micros)?,
            nonce,
            nonce_source,
            wall_start: format_micros(micros),
            start_ns: monotonic_ns(),
            boot_id: boot_id(),
        })
    }

    /// The proof, at the end of the run.
    #[must_use]
    pub fn end(
        &self,
        base_commit: Option<String>,
        base_tree: Option<String>,
        result_tree: Option<String>,
    ) -> Freshness {
        Freshness {
            nonce: self.nonce.clone(),
            nonce_source: self.nonce_source,
            run_id: self.run_id.clone(),
            wall_start: self.wall_start.clone(),
            wall_end: format_micros(now_micros()),
            monotonic_duration_ns: monotonic_ns().saturating_sub(self.start_ns),
            boot_id: self.boot_id.clone(),
            base_commit,
            base_tree,
            result_tree,
            artifacts_created_exclusively: true,
        }
    }
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The kernel's boot id, where it can be read.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (id.len() == 36).then(|| id.to_owned())
}

/// RFC 4648, lower case: no `0`, `1`, `8` or `9` to mistake.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A new run id: `r-20260601T120000-k3x7qa`. It sorts by time and can be typed.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn new_run_id() -> Result<String, getrandom::Error> {
    run_id_at(now_micros())
}

fn run_id_at(micros: i64) -> Result<String, getrandom::Error> {
    let mut random = [0_u8; 6];
    getrandom::fill(&mut random)?;
    let time: String = format_micros(micros).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    let suffix = random.map(|byte| char::from(BASE32[usize::from(byte & 31)]));
    Ok(format!("r-{time}-{}", suffix.iter().collect::<String>()))
}

/// Whether this is a run id of the form made here.
#[must_use]
pub fn is_run_id(text: &str) -> bool {
    text.len() == 24
        && text.bytes().enumerate().all(|(index, byte)| match index {
            0 => byte == b'r',
            1 | 17 => byte == b'-',
            10 => byte == b'T',
            2..=16 => byte.is_ascii_digit(),
            _ => BASE32.contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time_and_have_their_form() {
        let early = run_id_at(1_780_315_200_000_000).unwrap();
        let late = run_id_at(1_780_315_201_000_000).unwrap();
        assert!(early.starts_with("r-20260601T120000-"), "{early}");
        assert!(early < late && is_run_id(&early) && is_run_id(&new_run_id().unwrap()));
        for text in [
            "",
            "r-20260601T120000-",
            "r-20260601T120000-ABCDEF",
            "r-20260601T120000-abcde1",
            "../../../../../../../../..",
        ] {
            assert!(!is_run_id(text), "{text}");
        }
    }

    #[test]
    fn the_proof_holds_what_the_start_said() {
        let start = FreshnessStart::now(Some("ab12")).unwrap();
        let proof = start.end(None, None, None);
        assert_eq!((proof.nonce.as_str(), proof.nonce_source), ("ab12", NonceSource::Caller));
        assert!(proof.wall_start <= proof.wall_end);
        assert_eq!(serde_json::to_value(NonceSource::Own).unwrap(), "self");
        let own = FreshnessStart::now(None).unwrap();
        assert!(own.nonce.len() == 64 && own.nonce_source == NonceSource::Own);
        assert_eq!(own.end(None, None, None).boot_id.map(|id| id.len()), Some(36));
    }
}
