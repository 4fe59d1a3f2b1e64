//! The texts of a record: each checks itself when it is read, so that a record that was read holds no other.
//! Records are shown to people who decide by them: nothing in one may steer a terminal or hide.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::event::{hex, parse_micros};
use crate::evidence::is_run_id;
use crate::report::escape::is_deceptive;
use crate::schema::kinds;

macro_rules! texts {
    ($($(#[$doc:meta])+ $name:ident, $kind:ty, $check:path, $what:literal;)+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                if $check(&text) {
                    return Ok(Self(text));
                }
                let shown: String = text.chars().take(40).collect();
                Err(format!("{shown:?} is no {}", $what))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = String;

            fn try_from(text: &str) -> Result<Self, String> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                <$kind>::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$kind>::json_schema(generator)
            }
        }
    )+};
}

texts! {
    /// One line for people.
    Text, kinds::RecordText, is_line, "line of 1 to 500 characters that can all be seen";
    /// Lines for people, or a command.
    Prose, kinds::RecordProse, is_prose, "text of 1 to 4000 characters that can all be seen";
    /// SHA-256.
    Digest, kinds::Sha256, hex::is_sha256, "SHA-256 in lower-case hex";
    /// A commit.
    Commit, kinds::ObjectId, is_commit, "commit in lower-case hex of 40 or 64 digits";
    /// A tag.
    Tag, kinds::TagName, is_tag, "tag's name as git takes it, of up to 200 characters";
    /// A time.
    Moment, kinds::Timestamp, is_moment, "time of the form 2026-06-01T12:00:00.000000Z";
    /// A run.
    RunName, kinds::RunId, is_run_id, "run id";
    /// A nonce.
    Nonce, kinds::Nonce, is_nonce, "nonce of 8 to 64 bytes in lower-case hex";
    /// An engine.
    EngineId, kinds::Name, is_engine, "engine's name";
    /// Where a source is had from.
    SourceUrl, kinds::SourceUrl, is_source_url, "https, ssh, git or file URL without user info";
}

fn is_line(text: &str) -> bool {
    (1..=500).contains(&text.chars().count()) && !text.chars().any(is_deceptive) && text.trim() == text
}

fn is_prose(text: &str) -> bool {
    (1..=4000).contains(&text.chars().count())
        && !text.chars().any(|c| is_deceptive(c) && c != '\n')
        && text.trim() == text
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && hex::is_hex(text)
}

/// As git-check-ref-format(1) has it, and plain.
fn is_tag(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b'+');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    text.len() <= 200
        && text.bytes().all(plain)
        && text.split('/').all(part)
        && !text.contains("..")
        && !text.starts_with('-')
        && !text.ends_with('.')
}

fn is_moment(text: &str) -> bool {
    parse_micros(text).is_some()
}

fn is_nonce(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.len().is_multiple_of(2) && hex::is_hex(text)
}

fn is_engine(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// A record is shown around: credentials have no place in it.
fn is_source_url(text: &str) -> bool {
    let plain = |b: u8| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = !authority.is_empty() || (scheme == "file" && rest.starts_with('/'));
    text.len() <= 500
        && ["https", "ssh", "git", "file"].contains(&scheme)
        && host
        && !authority.contains('@')
        && text.bytes().all(plain)
}
