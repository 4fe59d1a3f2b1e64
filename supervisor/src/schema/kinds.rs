//! The kinds of text and number that fields of records have, as schemas: what serde reads as any string and the program
//! writes in one form only. Used by `#[schemars(with = "...")]`; nothing here holds a value.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:tt;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                schema.insert("description".to_owned(), Value::from(concat!($($doc),+).trim()));
                schema
            }
        }
    )+};
}

/// Within brackets of a pattern: what [`crate::report::escape::is_deceptive`] names, but for the line feed, and what is
/// given besides. The characters themselves, because no escape of those beyond U+FFFF is known to every reader of patterns.
macro_rules! unseen {
    ($also:literal) => {
        concat!(
            $also,
            "\\u0000-\\u0009\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f",
            "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb",
            "\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}"
        )
    };
}

kinds! {
    /// A run's id.
    RunId = { "type": "string", "pattern": "^r-[0-9]{8}T[0-9]{6}-[a-z2-7]{6}$" };
    /// RFC 3339, UTC, microseconds.
    Timestamp = {
        "type": "string", "format": "date-time",
        "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}Z$",
    };
    /// SHA-256, lower-case hex.
    Sha256 = { "type": "string", "pattern": "^[0-9a-f]{64}$" };
    /// SHA-256, lower-case hex; empty where there is nothing that it could be of.
    Sha256OrNone = { "type": "string", "pattern": "^([0-9a-f]{64})?$" };
    /// A git object's id, lower-case hex.
    ObjectId = { "type": "string", "pattern": "^([0-9a-f]{40}|[0-9a-f]{64})$" };
    /// A nonce: whole bytes, lower-case hex.
    Nonce = { "type": "string", "pattern": "^([0-9a-f]{2}){8,64}$" };
    /// Exact bytes of what is no UTF-8, base64 (RFC 4648, with padding).
    Base64 = {
        "type": "string", "contentEncoding": "base64", "minLength": 4,
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    };
    /// Git's file mode, octal.
    FileMode = { "type": "string", "pattern": "^[0-7]{6}$" };
    /// A universally unique id (RFC 9562), as the kernel writes it.
    Uuid = {
        "type": "string", "format": "uuid",
        "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    };
    /// A plain file name within the evidence directory.
    ArtifactName = { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$" };
    /// One line for people, without what cannot be seen; no space before or after it.
    RecordText = {
        "type": "string", "minLength": 1, "maxLength": 500,
        "pattern": concat!("^[^\\s", unseen!(""), "]([^", unseen!("\n"), "]*[^\\s", unseen!(""), "])?$"),
    };
    /// Lines for people, or a command, without what cannot be seen; no space before or after it.
    RecordProse = {
        "type": "string", "minLength": 1, "maxLength": 4000,
        "pattern": concat!("^[^\\s", unseen!(""), "]([^", unseen!(""), "]*[^\\s", unseen!(""), "])?$"),
    };
    /// A tag's name, as git takes it.
    TagName = { "type": "string", "maxLength": 200, "pattern": "^[A-Za-z0-9_+][A-Za-z0-9._+/-]*$" };
    /// Where a source is had from; without user info.
    SourceUrl = { "type": "string", "format": "uri", "maxLength": 500, "pattern": "^(https|ssh|git)://[^/?#@]+([/?#]|$)|^file:///" };
    /// A version of Proctor (semver.org).
    Version = { "type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$" };
    /// A signal's number.
    Signal = { "type": "integer", "minimum": 1, "maximum": 64 };
    /// What a process exits with.
    ProcessExit = { "type": "integer", "minimum": 0, "maximum": 255 };
    /// What `proctor run` exits with (docs/contracts.md).
    ExitCode = { "type": "integer", "enum": [0, 1, 2, 3, 4, 5, 130, 143] };
    /// A name of an engine, profile or view.
    Name = { "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" };
    /// A word of the program's own.
    Word = { "type": "string", "pattern": "^[a-z][a-z0-9_]*$" };
    /// One of the sandboxes of a run.
    SandboxRole = { "type": "string", "enum": ["backend", "test", "review"] };
    /// A phase of a run, as timeouts and limits name it.
    PhaseName = { "type": "string", "enum": ["backend", "changes", "test", "review", "approval"] };
    /// A level of the sandbox.
    SandboxLevel = { "type": "string", "enum": ["full", "landlock"] };
    /// A sandbox's network.
    NetworkName = { "type": "string", "enum": ["none", "proxy", "host"] };
    /// How much is known of one kind of thing.
    CompletenessName = { "type": "string", "enum": ["complete", "advisory", "absent"] };
    /// What is watched in a sandbox.
    ObservedKind = {
        "type": "string", "enum": ["programs", "exit_codes", "denials", "connections", "denied_paths"],
    };
    /// What was refused to a program.
    DeniedKind = {
        "type": "string", "enum": ["syscall", "connect", "path", "port", "signal", "trace", "socket", "other"],
    };
    /// What became of a request for approval.
    ApprovalOutcomeName = { "type": "string", "enum": ["granted", "denied", "expired", "unsettled"] };
    /// Who asks for approval.
    Asker = { "type": "string", "enum": ["backend", "supervisor"] };
    /// By whose word requests to a provider are known.
    Witness = { "type": "string", "enum": ["observed", "claimed", "none"] };
    /// What a limit is counted in.
    LimitUnit = {
        "type": "string", "enum": ["bytes", "ms", "tasks", "files", "cpus", "inodes", "descriptors"],
    };
    /// A limit's value.
    LimitValue = { "type": "number", "minimum": 0 };
    /// How the supervisor's run of a command ended.
    CheckStatus = { "type": "string", "enum": ["completed", "failed"] };
    /// A time that ran out: as a whole, or without a byte of output.
    TimeoutKind = { "type": "string", "enum": ["wall", "idle"] };
    /// A duration, such as `90s` or `1h 30m`.
    DurationText = { "type": "string", "pattern": "[0-9]" };
    /// Bytes: a whole number, or text of one with K, M, G, T or KiB, MiB, GiB, TiB (powers of 1024).
    SizeText = {
        "type": ["integer", "string"], "minimum": 1,
        "pattern": "^\\s*[0-9]+\\s*([kKmMgGtT]([iI][bB])?|[bB])?\\s*$",
    };
    /// A whole number from 1 up, or text of one.
    CountText = { "type": ["integer", "string"], "minimum": 1, "pattern": "^\\s*[0-9]+\\s*$" };
    /// A number of CPUs, fractions allowed, or `all`.
    CpusText = { "type": ["number", "string"], "exclusiveMinimum": 0, "pattern": "^\\s*(all|[0-9.]+)\\s*$" };
    /// A glob, as git writes them.
    GlobText = { "type": "string", "minLength": 1 };
    /// A path; placeholders such as `{home}` are replaced.
    PathTemplate = { "type": "string", "minLength": 1 };
    /// A name of an environment variable.
    VariableName = { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" };
    /// What may become of a backend's changes, as a profile can ask for it.
    ProfileMutation = { "type": "string", "enum": ["none", "discard", "patch"] };
    /// A network, as a profile can ask for it.
    ProfileNetwork = { "type": "string", "enum": ["none", "host"] };
    /// What accepts: the patch's digest said on descriptor 3, or exit code 0 alone.
    ReviewBy = { "type": "string", "enum": ["digest", "exit"] };
    /// Where what is written privately is kept during a run.
    LayerName = { "type": "string", "enum": ["auto", "memory", "disk"] };
    /// Who answers requests for approval.
    ApprovalMode = { "type": "string", "enum": ["ask", "deny"] };
    /// How a path of a view or an engine is mounted.
    MountModeName = { "type": "string", "enum": ["ro", "rw", "overlay", "private"] };
}

/// What holds a limit, where something does.
#[derive(Debug)]
pub enum LimitMechanism {}

impl JsonSchema for LimitMechanism {
    fn schema_name() -> Cow<'static, str> {
        "LimitMechanism".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut names: Vec<&str> = crate::run::limit_mechanisms().to_vec();
        names.extend(["supervisor", "none", "cgroup_v1 cpu", "cgroup_v2 cpu"]);
        names.sort_unstable();
        names.dedup();
        json_schema!({
            "type": "string",
            "description": "What holds a limit (docs/contracts.md).",
            "enum": names,
        })
    }
}

/// The name of an engine of the registry.
#[derive(Debug)]
pub enum EngineName {}

impl JsonSchema for EngineName {
    fn schema_name() -> Cow<'static, str> {
        "EngineName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = crate::profile::engine::EMBEDDED.iter().map(|(name, _)| *name).collect();
        json_schema!({ "type": "string", "description": "An engine of the registry.", "enum": names })
    }
}

/// The name of an event type.
#[derive(Debug)]
pub enum EventTypeName {}

impl JsonSchema for EventTypeName {
    fn schema_name() -> Cow<'static, str> {
        "EventTypeName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = crate::event::EventType::ALL.iter().map(|one| one.as_str()).collect();
        json_schema!({ "type": "string", "description": "A type of event (docs/contracts.md).", "enum": names })
    }
}

/// A map whose names are of one kind: an object with `propertyNames`.
#[derive(Debug)]
pub struct MapOf<K, V>(PhantomData<(K, V)>);

impl<K: JsonSchema, V: JsonSchema> JsonSchema for MapOf<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}To{}", K::schema_name(), V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (names, values) = (generator.subschema_for::<K>(), generator.subschema_for::<V>());
        json_schema!({ "type": "object", "propertyNames": names, "additionalProperties": values })
    }
}
