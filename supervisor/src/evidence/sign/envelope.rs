//! DSSE v1.0: the bytes that are signed, and the JSON envelope around them.
//!
//! Written in one form, and read in that form alone: the protocol lets an envelope take several, and of evidence that
//! can be changed without being noticed less is better.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::key::Signer;
use crate::event::hex;

/// What the payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The pre-authentication encoding: what is signed of a payload and its type.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: String,
    sig: String,
}

/// A payload signed, as one line without its line feed.
pub(super) fn sign(payload: &[u8], signer: &Signer) -> serde_json::Result<Vec<u8>> {
    let signature = signer.sign(&pae(PAYLOAD_TYPE, payload));
    let signed = Signed { keyid: signer.public().id().to_owned(), sig: STANDARD.encode(signature) };
    let envelope = Envelope {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![signed],
    };
    serde_json::to_vec(&envelope)
}

/// What an envelope holds. Nothing is verified yet.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) payload: Vec<u8>,
    /// Which key it says that it was signed with.
    pub(super) key_id: String,
    pub(super) signature: [u8; 64],
}

/// Reads one line.
pub(super) fn open(line: &[u8]) -> Result<Opened, String> {
    let envelope: Envelope =
        serde_json::from_slice(line).map_err(|error| format!("is no DSSE envelope: {error}"))?;
    // Two readers must not see two envelopes.
    if serde_json::to_vec(&envelope).ok().as_deref() != Some(line) {
        return Err("is not in the form in which Proctor writes it".to_owned());
    }
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(format!("has the payload type {:?}, not {PAYLOAD_TYPE:?}", envelope.payload_type));
    }
    let [signed] = &envelope.signatures[..] else {
        return Err(format!("has {} signatures, not one", envelope.signatures.len()));
    };
    if !hex::is_sha256(&signed.keyid) {
        return Err(format!("names the key {:?}, which is no key id", signed.keyid));
    }
    let decode = |what: &str, text: &str| {
        STANDARD.decode(text).map_err(|error| format!("its {what} is no canonical base64: {error}"))
    };
    let signature = decode("signature", &signed.sig)?;
    let signature = signature.try_into().map_err(|bytes: Vec<u8>| {
        format!("its signature has {} bytes, not the 64 of Ed25519", bytes.len())
    })?;
    Ok(Opened { payload: decode("payload", &envelope.payload)?, key_id: signed.keyid.clone(), signature })
}
