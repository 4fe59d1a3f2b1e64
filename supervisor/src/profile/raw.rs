//! What a profile or the operator's configuration may contain, key by key, exactly as serde reads it.
//!
//! Unknown keys are errors everywhere. Values keep their place in the file (`Spanned`), so that a check made
//! later still names line and column. Nothing here is checked beyond its TOML type: that is `resolve`'s work.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

/// A string with its place in the file.
pub type Text = Spanned<String>;
/// A list of strings; `None` is "not said", which differs from an empty list.
pub type Texts = Option<Vec<Text>>;

/// One profile or configuration file, or the command line in the same shape.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawProfile {
    /// For people.
    pub description: Option<Text>,
    /// Configuration only: the profile used where the command line names none.
    pub profile: Option<Text>,
    /// Configuration only: gated engines that may run.
    pub enable_engines: Texts,
    /// Engine name.
    pub engine: Option<Text>,
    /// Mutation mode.
    pub mutation: Option<Text>,
    /// Globs of paths that no sandbox shows.
    pub hide: Texts,
    /// Built-in hide globs that do not apply.
    pub lift_hide: Texts,
    /// Globs for changes.
    pub changes: RawChanges,
    /// The test command and its sandbox.
    pub test: RawTest,
    /// The review command and its sandbox.
    pub review: RawReview,
    /// Times.
    pub timeouts: RawTimeouts,
    /// Limits.
    pub limits: RawLimits,
    /// The backend's sandbox.
    pub sandbox: RawSandbox,
    /// Requests for approval.
    pub approvals: RawApprovals,
    /// A private key's file: the evidence is signed.
    pub sign: Option<Text>,
}

/// `[changes]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawChanges {
    /// Allowed.
    pub allow: Texts,
    /// Denied.
    pub deny: Texts,
    /// Needing an approval.
    pub ask: Texts,
    /// Protected, beyond the built-in list.
    pub protect: Texts,
    /// Entries of the built-in list that do not apply.
    pub lift_protect: Texts,
}

/// `[test]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawTest {
    /// Run by `sh -c`.
    pub command: Option<Text>,
    /// True: nothing is tested, on purpose.
    pub off: Option<Spanned<bool>>,
    /// Network.
    pub net: Option<Text>,
    /// Variables.
    pub env: RawEnv,
    /// Names of variables taken from outside.
    pub pass_env: Texts,
    /// Read-only mounts.
    pub ro: Texts,
    /// Mounts written through.
    pub rw: Texts,
    /// Mounts written privately.
    pub overlay: Texts,
}

/// `[review]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawReview {
    /// Run by `sh -c`.
    pub command: Option<Text>,
    /// What accepts: `digest` or `exit`.
    pub by: Option<Text>,
    /// Network.
    pub net: Option<Text>,
    /// Variables.
    pub env: RawEnv,
    /// Names of variables taken from outside.
    pub pass_env: Texts,
    /// Read-only mounts.
    pub ro: Texts,
    /// Mounts written through.
    pub rw: Texts,
    /// Mounts written privately.
    pub overlay: Texts,
}

/// `[timeouts]`, each a duration such as `90s` or `1h 30m`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawTimeouts {
    /// Backend, whole.
    pub wall: Option<Text>,
    /// Backend, silent.
    pub idle: Option<Text>,
    /// SIGTERM to SIGKILL.
    pub grace: Option<Text>,
    /// Test command.
    pub test: Option<Text>,
    /// Reviewer.
    pub review: Option<Text>,
    /// One approval.
    pub approval: Option<Text>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawLimits {
    /// Size.
    pub memory: Option<Spanned<Scalar>>,
    /// Count.
    pub pids: Option<Spanned<Scalar>>,
    /// Number of CPUs, fractions allowed.
    pub cpus: Option<Spanned<Scalar>>,
    /// Size.
    pub disk: Option<Spanned<Scalar>>,
    /// Size.
    pub max_log: Option<Spanned<Scalar>>,
    /// Count.
    pub max_files: Option<Spanned<Scalar>>,
    /// Size.
    pub max_patch: Option<Spanned<Scalar>>,
}

/// `[sandbox]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawSandbox {
    /// Names of views.
    pub views: Texts,
    /// Network.
    pub net: Option<Text>,
    /// Read-only mounts.
    pub ro: Texts,
    /// Mounts written through.
    pub rw: Texts,
    /// Mounts written privately.
    pub overlay: Texts,
    /// Variables.
    pub env: RawEnv,
    /// Names of variables taken from outside.
    pub pass_env: Texts,
    /// Lowest accepted level.
    pub min_level: Option<Text>,
    /// Where layers lie.
    pub layer: Option<Text>,
}

/// `[approvals]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawApprovals {
    /// `ask` or `deny`.
    pub mode: Option<Text>,
    /// An answer log.
    pub file: Option<Text>,
}

/// Variables by name; the place is the value's.
pub type RawEnv = BTreeMap<String, Text>;

/// A number or a string that holds one, kept as text: `4096`, `1.5`, `"8G"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar(v.to_string()))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Scalar, E> {
                Ok(Scalar(v.to_string()))
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Scalar, E> {
                Ok(Scalar(v.to_string()))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Scalar, E> {
                Ok(Scalar(v.to_owned()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A value that no file said: the command line's, with an empty place.
pub fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
