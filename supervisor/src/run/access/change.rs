//! What would become of a change in the work tree, as far as its path decides that: the rules of `changes::classify`,
//! asked before there is a change.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Asker, Judgement, Reason, Verdict, said_by};
use crate::changes::classify::steers_tests;
use crate::changes::globs::GlobList;
use crate::changes::ignore::Ignores;
use crate::changes::repo::RepoError;
use crate::changes::tree::{self, TreeView};
use crate::profile::MutationMode;
use crate::run::sight::{Place, exists};

impl Asker<'_> {
    pub(super) fn change(&self, asked: &Path) -> Result<Option<Judgement>, String> {
        let root = self.plan.repo.root_path();
        let judgement = |relative: &Path, verdict, reasons| {
            let steers_tests = matches!(verdict, Verdict::Allowed | Verdict::NeedsApproval)
                && steers_tests(relative.as_os_str().as_bytes());
            let path = relative.to_string_lossy().into_owned();
            Ok(Some(Judgement { path, verdict, reasons, steers_tests }))
        };
        let reason = |rule, message: &str| vec![Reason { rule, message: message.into(), said_by: None }];
        let relative = match &self.found.place {
            Place::Tree { relative, .. } => relative.clone(),
            Place::Hidden { .. } | Place::Git => {
                self.found.path.strip_prefix(root).map_err(|e| e.to_string())?.to_owned()
            }
            _ => return Ok(None),
        };
        let said = said_by(self.plan, &["mutation"], "none");
        match &self.found.place {
            _ if self.plan.resolved.options.mutation == MutationMode::None => {
                let message = "--mutation none: nothing can be changed".to_owned();
                let reasons = vec![Reason { rule: "mutation", message, said_by: said }];
                judgement(&relative, Verdict::Impossible, reasons)
            }
            Place::Hidden { .. } => {
                judgement(&relative, Verdict::Impossible, reason("hidden", "masked: it cannot be changed"))
            }
            Place::Git => {
                let message = "the private .git is carried nowhere";
                judgement(&relative, Verdict::NotCarried, reason("dot_git", message))
            }
            _ => {
                let (verdict, reasons) = self.judge(&relative, asked).map_err(|e| e.to_string())?;
                judgement(&relative, verdict, reasons)
            }
        }
    }

    /// As `changes::classify` will, as far as the path alone decides.
    fn judge(&self, relative: &Path, asked: &Path) -> Result<(Verdict, Vec<Reason>), RepoError> {
        let plan = self.plan;
        let rules = &plan.rules;
        let path = relative.as_os_str().as_bytes();
        let view = TreeView::new(plan.repo.odb(), plan.repo.base_tree());
        let is_dir = relative == Path::new("")
            || exists(&self.found.path).is_some_and(|meta| meta.is_dir())
            || view.entry(path)?.is_some_and(|entry| entry.mode == tree::DIR);
        for above in relative.ancestors().filter(|above| *above != Path::new("")) {
            let entry = view.entry(above.as_os_str().as_bytes())?;
            if entry.is_some_and(|entry| entry.mode == tree::GITLINK) {
                let message = "a change to a submodule or inside it, which a patch cannot carry".to_owned();
                return Ok((Verdict::Disallowed, vec![Reason { rule: "gitlink", message, said_by: None }]));
            }
        }
        let tracked = view.entry(path)?.is_some();
        if !tracked && !path.is_empty() && Ignores::default().is_ignored(&view, path, is_dir)? {
            let message = "ignored by the base commit's ignore files: listed, and dropped".to_owned();
            return Ok((Verdict::Ignored, vec![Reason { rule: "ignored", message, said_by: None }]));
        }
        let glob_of = |rule: &str| -> Option<(&GlobList, &str)> {
            match rule {
                "protect" => Some((&rules.protect, "changes.protect")),
                "deny" => Some((&rules.deny, "changes.deny")),
                "ask" => Some((&rules.ask, "changes.ask")),
                "hidden" => Some((&rules.hide, "hide")),
                _ => None,
            }
        };
        let reason = |rule: &'static str, message: String, path: &[u8]| {
            let said_by =
                glob_of(rule).and_then(|(globs, key)| said_by(plan, &[key], globs.matching_dir(path)?));
            Reason { rule, message, said_by }
        };
        if is_dir {
            let mut reasons = Vec::new();
            for rule in ["hidden", "protect", "deny"] {
                if let Some(glob) = glob_of(rule).and_then(|(globs, _)| globs.matching_dir(path)) {
                    reasons.push(reason(rule, format!("{glob} holds for everything in it"), path));
                }
            }
            let verdict = if reasons.is_empty() { Verdict::ByFile } else { Verdict::Disallowed };
            return Ok((verdict, reasons));
        }
        let mut reasons: Vec<Reason> =
            rules.refusals(path).into_iter().map(|(rule, message)| reason(rule, message, path)).collect();
        let mut asks: Vec<Reason> = Vec::new();
        if let Some(glob) = rules.ask.matching(path) {
            asks.push(reason("ask", format!("--ask-change {glob}"), path));
        }
        // A path is protected, denied or asked about under each name that links give it.
        if let Ok(name) = asked.strip_prefix(plan.repo.root_path())
            && name != relative
        {
            let bytes = name.as_os_str().as_bytes();
            for (rule, globs) in rules.guarded() {
                if let Some(glob) = globs.matching(bytes) {
                    let message = format!("{glob}, under the name {}", name.display());
                    let list = if rule == "ask" { &mut asks } else { &mut reasons };
                    list.push(reason(rule, message, bytes));
                }
            }
        }
        Ok(match (reasons.is_empty(), asks.is_empty()) {
            (false, _) => (Verdict::Disallowed, reasons),
            (true, false) => (Verdict::NeedsApproval, asks),
            (true, true) => {
                let glob = rules.allow.matching(path).map(str::to_owned).unwrap_or_default();
                let said_by = said_by(plan, &["changes.allow"], &glob);
                let message = format!("--allow-change {glob}, and nothing forbids it");
                (Verdict::Allowed, vec![Reason { rule: "allow", message, said_by }])
            }
        })
    }
}
