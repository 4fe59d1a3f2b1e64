//! Keys: Ed25519 (RFC 8032), private ones as PKCS#8 PEM, public ones as SubjectPublicKeyInfo PEM (RFC 8410).
//!
//! The bytes of a private key leave this module only as what is searched for in evidence, and to the file that
//! `keygen` makes.

use std::fmt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::asn1::ObjectIdentifier;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePublicKey, Document, EncodePrivateKey, EncodePublicKey, KeypairBytes, PrivateKeyInfoRef,
    SecretDocument, spki::SubjectPublicKeyInfoRef,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::file::{self, KeyFile};
use crate::event::hex;
use crate::evidence::secrets::Secret;

const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Other algorithms that people have keys of.
const OTHERS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.10045.2.1", "an elliptic curve of ECDSA"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.113", "Ed448"),
];

/// A key file that cannot be used: nothing has started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key file {} {what}; {mend}", path.display())]
pub struct KeyError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub mend: String,
}

impl KeyError {
    pub(super) fn new(path: &Path, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into(), mend: mend.into() }
    }
}

/// What is wrong with a key's text, and what to do.
type Wrong = (String, String);

fn wrong<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), mend.into()))
}

/// A public key and its id.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: String,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.id).finish()
    }
}

impl PublicKey {
    /// From a file with one PEM block `PUBLIC KEY`.
    ///
    /// # Errors
    /// What is wrong with the file or the key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = file::read_public(path)?;
        Self::from_pem(&text).map_err(|(what, mend)| KeyError::new(path, what, mend))
    }

    /// From its 32 bytes (RFC 8032); `None` where they are no key that a signature can be held against.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        Self::new(VerifyingKey::from_bytes(bytes).ok()?)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// SHA-256 over its SubjectPublicKeyInfo in DER, hex.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn new(key: VerifyingKey) -> Option<Self> {
        // With a key of small order one signature fits many messages.
        if key.is_weak() {
            return None;
        }
        let der = key.to_public_key_der().ok()?;
        Some(Self { key, id: hex::encode(&Sha256::digest(der.as_bytes())) })
    }

    /// As PEM.
    pub(super) fn to_pem(&self) -> Option<String> {
        self.key.to_public_key_pem(LineEnding::LF).ok()
    }

    /// True where this key made the signature over these bytes, by RFC 8032 and without any of its liberties.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    fn from_pem(text: &str) -> Result<Self, Wrong> {
        const MEND: &str = "give the public key as `proctor keygen` wrote it (KEY.pub), or as `openssl pkey -in KEY -pubout` does";
        let label = label(text, MEND)?;
        if label.ends_with("PRIVATE KEY") {
            return wrong(
                format!("holds a private key ({label})"),
                "whoever verifies needs the public one alone (KEY.pub): give that, and keep the private key to yourself",
            );
        }
        if label != "PUBLIC KEY" {
            return wrong(format!("is a PEM of the kind {label}"), MEND);
        }
        let document = match Document::from_pem(text) {
            Ok((_, document)) => document,
            Err(error) => return wrong(format!("is no sound PEM: {error}"), MEND),
        };
        let info = match SubjectPublicKeyInfoRef::try_from(document.as_bytes()) {
            Ok(info) => info,
            Err(error) => return wrong(format!("holds no sound public key: {error}"), MEND),
        };
        algorithm(info.algorithm.oid)?;
        VerifyingKey::from_public_key_der(document.as_bytes())
            .ok()
            .and_then(Self::new)
            .map_or_else(|| wrong("holds bytes that are no Ed25519 public key, or a weak one", MEND), Ok)
    }
}

/// A private key, read and checked.
pub struct Signer {
    key: SigningKey,
    public: PublicKey,
    file: KeyFile,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Signer {
    /// From a file with one PEM block `PRIVATE KEY` (PKCS#8) that nobody but its owner can read.
    ///
    /// # Errors
    /// What is wrong with the file or the key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let (text, file) = file::read_private(path)?;
        let key = private(&text).map_err(|(what, mend)| KeyError::new(path, what, mend))?;
        Self::new(key, file).ok_or_else(|| {
            KeyError::new(path, "holds a key that cannot sign", "make one with `proctor keygen`")
        })
    }

    fn new(key: SigningKey, file: KeyFile) -> Option<Self> {
        let public = PublicKey::new(key.verifying_key())?;
        Some(Self { key, public, file })
    }

    /// From a seed, for tests with known answers.
    #[cfg(test)]
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(SigningKey::from_bytes(&seed), KeyFile::default()).unwrap()
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Where the file that was read is, without links.
    #[must_use]
    pub fn real_path(&self) -> &Path {
        &self.file.real
    }

    /// Device and inode of that file.
    #[must_use]
    pub fn dev_ino(&self) -> (u64, u64) {
        self.file.dev_ino
    }

    /// The key as it would stand in evidence: its bytes, and what of its PEM depends on them alone.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        use base64::Engine as _;
        let seed = Zeroizing::new(self.key.to_bytes());
        // In PKCS#8 the seed stands at byte 16 of a first line of 48 bytes; what stands before is in every key.
        let mut line = Zeroizing::new([0; 48]);
        line[16..].copy_from_slice(&*seed);
        let text = base64::engine::general_purpose::STANDARD.encode(*line);
        let name = "the signing key";
        vec![
            Secret { name: name.into(), value: seed.to_vec() },
            Secret { name: name.into(), value: text.as_bytes()[22..].to_vec() },
        ]
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// A new key.
pub(super) fn generate() -> Result<SigningKey, getrandom::Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// A private key's PEM, and its public half. Without the public half inside (PKCS#8 v1): OpenSSL before 3.2 reads no
/// other.
pub(super) fn to_pem(key: &SigningKey) -> Option<(Zeroizing<String>, PublicKey)> {
    let bytes = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    Some((bytes.to_pkcs8_pem(LineEnding::LF).ok()?, PublicKey::new(key.verifying_key())?))
}

fn private(text: &str) -> Result<SigningKey, Wrong> {
    const MEND: &str = "make one with `proctor keygen KEY`, or with `openssl genpkey -algorithm ed25519`";
    match label(text, MEND)? {
        "PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => {
            return wrong(
                "holds an encrypted key, and nobody types a passphrase in an unattended run",
                "decrypt it into a file of mode 0600 (`umask 077; openssl pkey -in KEY -out NEW`), or make one with `proctor keygen`",
            );
        }
        "PUBLIC KEY" => {
            return wrong("holds a public key, and what signs is the private one", MEND);
        }
        "OPENSSH PRIVATE KEY" => {
            return wrong("holds a key in OpenSSH's own format, which is not PKCS#8", MEND);
        }
        other => return wrong(format!("is a PEM of the kind {other}, not PKCS#8 (PRIVATE KEY)"), MEND),
    }
    let document = match SecretDocument::from_pem(text) {
        Ok((_, document)) => document,
        Err(error) => return wrong(format!("is no sound PEM: {error}"), MEND),
    };
    let info = match PrivateKeyInfoRef::try_from(document.as_bytes()) {
        Ok(info) => info,
        // The reader's error says where, and quotes nothing.
        Err(error) => return wrong(format!("holds no sound private key: {error}"), MEND),
    };
    algorithm(info.algorithm.oid)?;
    SigningKey::try_from(info)
        .map_or_else(|_| wrong("holds no sound Ed25519 key (or a public half that is not its own)", MEND), Ok)
}

/// The kind of the one PEM block that a text holds.
fn label<'a>(text: &'a str, mend: &str) -> Result<&'a str, Wrong> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks =
        text.lines().filter_map(|line| line.strip_prefix(BEGIN)?.trim_end().strip_suffix("-----"));
    match (blocks.next(), blocks.next()) {
        (None, _) => wrong("is no PEM file: no line begins with -----BEGIN", mend),
        (Some(_), Some(_)) => {
            wrong("holds more than one PEM block, and which one is meant is not known", mend)
        }
        (Some(label), None) => Ok(label),
    }
}

fn algorithm(oid: ObjectIdentifier) -> Result<(), Wrong> {
    if oid == ED25519 {
        return Ok(());
    }
    let text = oid.to_string();
    let name = OTHERS.iter().find(|(known, _)| *known == text).map_or("another algorithm", |(_, name)| name);
    wrong(
        format!(
            "holds a key of {name} (object identifier {text}), and evidence is signed with Ed25519 alone"
        ),
        "make a key with `proctor keygen KEY`",
    )
}
