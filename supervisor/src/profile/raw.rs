//! What a profile or the operator's configuration may contain, key by key, exactly as serde reads it.
//!
//! Unknown keys are errors everywhere. Values keep their place in the file (`Spanned`), so that a check made
//! later still names line and column. Nothing here is checked beyond its TOML type: that is `resolve`'s work.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

use crate::schema::kinds;

/// A string with its place in the file.
pub type Text = Spanned<String>;
/// A list of strings; `None` is "not said", which differs from an empty list.
pub type Texts = Option<Vec<Text>>;

/// One profile or configuration file, or the command line in the same shape.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawProfile {
    /// For people.
    #[schemars(with = "Option<String>")]
    pub description: Option<Text>,
    /// Configuration only: the profile used where the command line names none.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Text>,
    /// Configuration only: gated engines that may run.
    #[schemars(with = "Option<Vec<kinds::EngineName>>")]
    pub enable_engines: Texts,
    /// Engine name.
    #[schemars(with = "Option<kinds::EngineName>")]
    pub engine: Option<Text>,
    /// Mutation mode.
    #[schemars(with = "Option<kinds::ProfileMutation>")]
    pub mutation: Option<Text>,
    /// Globs of paths that no sandbox shows.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub hide: Texts,
    /// Built-in hide globs that do not apply.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
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
    /// Further renderings of the report.
    pub report: RawReport,
    /// A private key's file: the evidence is signed.
    #[schemars(with = "Option<String>")]
    pub sign: Option<Text>,
}

/// `[changes]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawChanges {
    /// Allowed.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub allow: Texts,
    /// Denied.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub deny: Texts,
    /// Needing an approval.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub ask: Texts,
    /// Protected, beyond the built-in list.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub protect: Texts,
    /// Entries of the built-in list that do not apply.
    #[schemars(with = "Option<Vec<kinds::GlobText>>")]
    pub lift_protect: Texts,
}

/// `[test]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawTest {
    /// Run by `sh -c`.
    #[schemars(with = "Option<String>")]
    pub command: Option<Text>,
    /// True: nothing is tested, on purpose.
    #[schemars(with = "Option<bool>")]
    pub off: Option<Spanned<bool>>,
    /// Network.
    #[schemars(with = "Option<kinds::ProfileNetwork>")]
    pub net: Option<Text>,
    /// Variables.
    #[schemars(with = "kinds::MapOf<kinds::VariableName, String>")]
    pub env: RawEnv,
    /// Names of variables taken from outside.
    #[schemars(with = "Option<Vec<kinds::VariableName>>")]
    pub pass_env: Texts,
    /// Read-only mounts.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub ro: Texts,
    /// Mounts written through.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub rw: Texts,
    /// Mounts written privately.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub overlay: Texts,
}

/// `[review]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawReview {
    /// Run by `sh -c`.
    #[schemars(with = "Option<String>")]
    pub command: Option<Text>,
    /// What accepts: `digest` or `exit`.
    #[schemars(with = "Option<kinds::ReviewBy>")]
    pub by: Option<Text>,
    /// Network.
    #[schemars(with = "Option<kinds::ProfileNetwork>")]
    pub net: Option<Text>,
    /// Variables.
    #[schemars(with = "kinds::MapOf<kinds::VariableName, String>")]
    pub env: RawEnv,
    /// Names of variables taken from outside.
    #[schemars(with = "Option<Vec<kinds::VariableName>>")]
    pub pass_env: Texts,
    /// Read-only mounts.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub ro: Texts,
    /// Mounts written through.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub rw: Texts,
    /// Mounts written privately.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub overlay: Texts,
}

/// `[timeouts]`, each a duration such as `90s` or `1h 30m`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawTimeouts {
    /// Backend, whole.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub wall: Option<Text>,
    /// Backend, silent.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub idle: Option<Text>,
    /// SIGTERM to SIGKILL.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub grace: Option<Text>,
    /// Test command.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub test: Option<Text>,
    /// Reviewer.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub review: Option<Text>,
    /// One approval.
    #[schemars(with = "Option<kinds::DurationText>")]
    pub approval: Option<Text>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawLimits {
    /// Size.
    #[schemars(with = "Option<kinds::SizeText>")]
    pub memory: Option<Spanned<Scalar>>,
    /// Count.
    #[schemars(with = "Option<kinds::CountText>")]
    pub pids: Option<Spanned<Scalar>>,
    /// Number of CPUs, fractions allowed.
    #[schemars(with = "Option<kinds::CpusText>")]
    pub cpus: Option<Spanned<Scalar>>,
    /// Size.
    #[schemars(with = "Option<kinds::SizeText>")]
    pub disk: Option<Spanned<Scalar>>,
    /// Size.
    #[schemars(with = "Option<kinds::SizeText>")]
    pub max_log: Option<Spanned<Scalar>>,
    /// Count.
    #[schemars(with = "Option<kinds::CountText>")]
    pub max_files: Option<Spanned<Scalar>>,
    /// Size.
    #[schemars(with = "Option<kinds::SizeText>")]
    pub max_patch: Option<Spanned<Scalar>>,
}

/// `[sandbox]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawSandbox {
    /// Names of views.
    #[schemars(with = "Option<Vec<kinds::Name>>")]
    pub views: Texts,
    /// Network.
    #[schemars(with = "Option<kinds::ProfileNetwork>")]
    pub net: Option<Text>,
    /// Read-only mounts.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub ro: Texts,
    /// Mounts written through.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub rw: Texts,
    /// Mounts written privately.
    #[schemars(with = "Option<Vec<kinds::PathTemplate>>")]
    pub overlay: Texts,
    /// Variables.
    #[schemars(with = "kinds::MapOf<kinds::VariableName, String>")]
    pub env: RawEnv,
    /// Names of variables taken from outside.
    #[schemars(with = "Option<Vec<kinds::VariableName>>")]
    pub pass_env: Texts,
    /// Lowest accepted level.
    #[schemars(with = "Option<kinds::SandboxLevel>")]
    pub min_level: Option<Text>,
    /// Where layers lie.
    #[schemars(with = "Option<kinds::LayerName>")]
    pub layer: Option<Text>,
}

/// `[approvals]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawApprovals {
    /// `ask` or `deny`.
    #[schemars(with = "Option<kinds::ApprovalMode>")]
    pub mode: Option<Text>,
    /// An answer log.
    #[schemars(with = "Option<kinds::PathTemplate>")]
    pub file: Option<Text>,
}

/// `[report]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct RawReport {
    /// True: `report.html` is written.
    #[schemars(with = "Option<bool>")]
    pub html: Option<Spanned<bool>>,
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
