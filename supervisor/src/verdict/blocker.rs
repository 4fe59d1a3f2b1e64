//! The closed list of reasons why a run is not a pass, each with what to do about it.
//!
//! A blocker's message and remedy are Proctor's own words; what a backend controls (paths, hosts, reasons) stands
//! in `detail`, or quoted in the message, and is escaped by whoever shows it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! blocker_codes {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)+) => {
        /// Why a run is not a pass (docs/contracts.md). The order is the one in which blockers are listed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum BlockerCode { $($(#[$doc])+ #[serde(rename = $name)] $variant,)+ }

        impl BlockerCode {
            /// Every code.
            pub const ALL: [Self; blocker_codes!(@count $($variant)+)] = [$(Self::$variant),+];

            /// The name in reports and events.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
    (@count $($variant:ident)+) => { [$(blocker_codes!(@one $variant)),+].len() };
    (@one $variant:ident) => { () };
}

blocker_codes! {
    /// The engine is gated and nobody enabled it.
    EngineNotEnabled = "engine_not_enabled";
    /// The decision does not cover this run.
    NotEligible = "not_eligible";
    /// The engine's source is not admitted.
    SourceNotAdmitted = "source_not_admitted";
    /// The sandbox cannot be had at the level asked for.
    SandboxUnavailable = "sandbox_unavailable";
    /// The work tree was not clean at the start.
    DirtyStartingTree = "dirty_starting_tree";
    /// No test command, and nobody said that there is none.
    TestCommandMissing = "test_command_missing";
    /// A signal ended the run.
    Interrupted = "interrupted";
    /// A time ran out.
    Timeout = "timeout";
    /// A resource limit was hit.
    ResourceLimit = "resource_limit";
    /// Logs, events, patch or files are more than allowed.
    OutputLimit = "output_limit";
    /// The provider could not be used.
    ProviderUnavailable = "provider_unavailable";
    /// The backend failed.
    BackendFailed = "backend_failed";
    /// What the engine claims and what was observed disagree.
    Contradiction = "contradiction";
    /// The engine's source changed during the run.
    SourceChanged = "source_changed";
    /// A change that is not allowed.
    DisallowedFile = "disallowed_file";
    /// Nothing changed where a change is the purpose.
    NoDiff = "no_diff";
    /// The tests did not pass.
    TestsFailed = "tests_failed";
    /// The reviewer did not accept.
    ReviewerRejected = "reviewer_rejected";
    /// An approval was denied or not given in time.
    ApprovalDenied = "approval_denied";
    /// Evidence of a needed step is missing.
    EventMissing = "event_missing";
    /// The real tree is not as it was.
    DirtyEndingTree = "dirty_ending_tree";
    /// A secret stands in an artifact.
    SecretInEvidence = "secret_in_evidence";
    /// An artifact could not be written.
    ArtifactWriteFailed = "artifact_write_failed";
    /// The evidence does not verify.
    EvidenceInvalid = "evidence_invalid";
}

impl BlockerCode {
    /// The code with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for BlockerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One reason why a run is not a pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blocker {
    /// Which.
    pub code: BlockerCode,
    /// What was wrong, in one sentence.
    pub message: String,
    /// The particulars, for machines.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub detail: Value,
    /// What to do about it.
    pub remedy: String,
}

impl Blocker {
    /// A blocker with the usual remedy of its code.
    #[must_use]
    pub fn new(code: BlockerCode, message: impl Into<String>, detail: Value) -> Self {
        Self { code, message: message.into(), detail, remedy: remedy(code).to_owned() }
    }

    /// The same with a remedy that knows more than the usual one.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// What to do about a blocker of this code where nothing more particular is known.
#[must_use]
pub const fn remedy(code: BlockerCode) -> &'static str {
    use BlockerCode as B;
    match code {
        B::EngineNotEnabled => {
            "Enable the engine for this run with --enable-engine NAME, or in the operator's config.toml."
        }
        B::NotEligible => "Run with an engine, stage, tree and mutation mode that a decision covers.",
        B::SourceNotAdmitted => "Use an engine whose source is admitted.",
        B::SandboxUnavailable => {
            "Run `proctor doctor`: it says what this host lacks and how to mend it. In containers without user namespaces --min-level landlock accepts the lower level."
        }
        B::DirtyStartingTree => {
            "Commit, stash or remove the listed paths (or ignore them in the base commit's .gitignore), then run again."
        }
        B::TestCommandMissing => {
            "Give the test command with --test CMD, or say --no-test if nothing is to be tested."
        }
        B::Interrupted => "The backend is dead and nothing was applied: run again.",
        B::Timeout => {
            "Look at the logs for where it hung; give it longer with the option named in the message."
        }
        B::ResourceLimit => {
            "Raise the limit named in the message (--memory, --pids-limit, --cpus, --disk) if the work really needs it."
        }
        B::OutputLimit => {
            "Raise the limit named in the message (--max-log, --max-files, --max-patch) if that much is really wanted."
        }
        B::ProviderUnavailable => {
            "Check the provider's address, key and quota outside the sandbox; with --net none no provider but one inside the sandbox can be reached."
        }
        B::BackendFailed => {
            "Read backend.stderr.log and backend.stdout.log (`proctor logs EVIDENCE`) for the backend's own error."
        }
        B::Contradiction => {
            "Trust what was observed, not what the engine says; compare the events named in the detail with the raw log."
        }
        B::SourceChanged => {
            "Find out who changed the engine's files during the run, and admit the new source if it is wanted."
        }
        B::DisallowedFile => {
            "Have the backend leave those paths alone, or allow them (--allow-change GLOB; a profile can lift a protected path)."
        }
        B::NoDiff => {
            "The patch is empty: check the task and the log; if no change is wanted run with --mutation discard or none."
        }
        B::TestsFailed => {
            "Read test.log (`proctor logs EVIDENCE test`); mend the change or the test command."
        }
        B::ReviewerRejected => {
            "Read the reviewer's output; to accept it must exit 0 and write the line `accept $PROCTOR_PATCH_SHA256` on descriptor 3 (or use --review-by exit)."
        }
        B::ApprovalDenied => {
            "Approve the request in time (--approvals ask or FILE, --approval-timeout), or narrow --ask-change."
        }
        B::EventMissing => {
            "The engine or the run ended without evidence of a needed step: check the log, and that engine and version fit the profile."
        }
        B::DirtyEndingTree => {
            "Somebody changed the real tree, its index or refs during the run: look at the listed paths, then run again on a quiet tree."
        }
        B::SecretInEvidence => {
            "Do not upload or share this evidence; rotate the secret, and find out in the named artifact why the backend printed it."
        }
        B::ArtifactWriteFailed => {
            "Free space on, or repair, the file system of the evidence directory (or choose another with --evidence DIR), then run again."
        }
        B::EvidenceInvalid => {
            "Do not rely on this evidence: run again, and find out who changed the files named."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_snake_case_unique_and_what_serde_writes() {
        assert_eq!(BlockerCode::ALL.len(), 24);
        for code in BlockerCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
            assert_eq!(BlockerCode::from_name(code.as_str()), Some(code));
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }

    #[test]
    fn every_remedy_is_a_sentence() {
        for code in BlockerCode::ALL {
            let remedy = remedy(code);
            assert!(remedy.len() > 20 && remedy.ends_with('.') | remedy.ends_with(')'), "{code}: {remedy}");
        }
    }

    #[test]
    fn an_unknown_code_is_no_blocker() {
        assert!(serde_json::from_str::<BlockerCode>("\"all_good\"").is_err());
    }
}
