//! `report.intoto.jsonl`: whether it is there where it must be, and what it shows. What is right in it is asked of
//! `sign`.

use std::collections::BTreeMap;

use super::super::STATEMENT;
use super::super::open::Directory;
use super::super::sign::{self, MAX_STATEMENT, Shown};
use super::{ProblemKind, Problems, VerifyOptions, VerifyResult, whole};
use crate::report::Report;

/// `sound` says of each artifact whether its digest holds.
pub(super) fn check(
    (dir, there): (&Directory, bool),
    (report, sha256): (&Report, &str),
    sound: &BTreeMap<String, bool>,
    options: VerifyOptions<'_>,
    result: &mut VerifyResult,
    problems: &mut Problems,
) {
    let mut add = |message: &str| problems.add(ProblemKind::Signature, STATEMENT, message);
    let announced = report.artifact_paths.contains_key(STATEMENT);
    if !there {
        result.authenticity = "unsigned".to_owned();
        if announced {
            add("is missing, and the report says that the run was signed: it was taken away");
        } else if !options.keys.is_empty() {
            add("is missing: a key was given, and the evidence is not signed");
        } else if options.require_signature {
            add("is missing: a signature is required, and the evidence is not signed");
        }
        return;
    }
    result.authenticity = "not shown: report.intoto.jsonl does not hold".to_owned();
    let shown = match whole(dir, STATEMENT, MAX_STATEMENT as u64) {
        Ok(lines) => sign::check(&lines, report, sha256, options.keys),
        Err(why) => Shown::Wrong(vec![why]),
    };
    let mut wrong = Vec::new();
    if !announced {
        wrong.push("is here, and the report says nothing of it: it was not made with this report".to_owned());
    }
    // What was signed is what the manifest says.
    let changed = report.digest_manifest.iter().filter(|one| sound.get(&one.name) != Some(&true));
    wrong.extend(changed.map(|one| format!("does not cover {} as it is here", one.name)));
    let key_id = match shown {
        Shown::Wrong(more) => {
            wrong.extend(more);
            None
        }
        Shown::Unchecked { key_id } => Some((key_id, false)),
        Shown::SignedBy { key_id } => Some((key_id, true)),
    };
    let holds = wrong.is_empty();
    if let (Some((_, false)), true) = (&key_id, options.require_signature) {
        wrong.push("cannot be checked: a signature is required, and no key was given (--key FILE)".into());
    }
    for one in &wrong {
        add(one);
    }
    match key_id {
        Some((key_id, checked)) if holds => {
            result.authenticity = if checked {
                format!("signed by {key_id}")
            } else {
                format!(
                    "not checked: {STATEMENT} names key {key_id}, and anybody could write that; give its public key with --key FILE"
                )
            };
        }
        _ => {}
    }
}
