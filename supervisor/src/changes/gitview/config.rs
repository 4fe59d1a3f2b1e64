//! The configuration of the private `.git`, generated: nothing of the repository's own is copied as it stands.

use bstr::{BString, ByteSlice};
use gix_filter::eol::{AutoCrlf, Mode};

use super::safe_url;
use crate::changes::repo::{Repo, RepoError};

/// Sections of one kind that are carried over.
const MAX_SECTIONS: usize = 10_000;

pub(super) fn generate(repo: &Repo) -> Result<Vec<u8>, RepoError> {
    let settings = repo.settings();
    let own = repo.config()?;
    let sha256 = repo.hash() == gix_hash::Kind::Sha256;
    let mut out = Vec::new();
    let mut line = |text: &str| {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    };
    line("[core]");
    line(if sha256 { "\trepositoryformatversion = 1" } else { "\trepositoryformatversion = 0" });
    line(&format!("\tfilemode = {}", settings.file_mode));
    line(&format!("\tsymlinks = {}", settings.symlinks));
    line("\tbare = false");
    line("\tlogallrefupdates = true");
    // Inode, device and change time are the overlay's own.
    line("\tcheckStat = minimal");
    line("\ttrustctime = false");
    match settings.autocrlf {
        AutoCrlf::Disabled => {}
        AutoCrlf::Enabled => line("\tautocrlf = true"),
        AutoCrlf::Input => line("\tautocrlf = input"),
    }
    match settings.eol {
        None => {}
        Some(Mode::Lf) => line("\teol = lf"),
        Some(Mode::CrLf) => line("\teol = crlf"),
    }
    if settings.sparse_checkout {
        line("\tsparseCheckout = true");
        if let Ok(cone) = own.raw_value_by("core", None, "sparseCheckoutCone")
            && cone.eq_ignore_ascii_case(b"true")
        {
            line("\tsparseCheckoutCone = true");
        }
    }
    if sha256 {
        line("[extensions]");
        line("\tobjectFormat = sha256");
    }
    // A submodule's own git directory is not in the view.
    line("[diff]");
    line("\tignoreSubmodules = all");
    line("[gc]");
    line("\tauto = 0");
    line("[user]");
    for (key, default) in [("name", "Proctor backend"), ("email", "backend@proctor.invalid")] {
        let value = own.raw_value_by("user", None, key).ok().filter(|v| usable(v));
        let value = value.unwrap_or_else(|| BString::from(default));
        pair(key, &value, &mut out);
    }
    sections(&own, "remote", &mut out, |section, out| {
        for url in section.values("url") {
            if let Some(url) = safe_url(&url).filter(|u| usable(u)) {
                pair("url", &url, out);
            }
        }
        for spec in section.values("fetch").iter().filter(|v| usable(v)) {
            pair("fetch", spec, out);
        }
    });
    sections(&own, "branch", &mut out, |section, out| {
        for key in ["remote", "merge"] {
            for value in section.values(key).iter().filter(|v| usable(v)) {
                // `branch.NAME.remote` may be a URL itself.
                let value = if key == "remote" { safe_url(value) } else { Some(value.to_vec()) };
                if let Some(value) = value {
                    pair(key, &value, out);
                }
            }
        }
    });
    Ok(out)
}

fn sections(
    own: &gix_config::File,
    kind: &str,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&gix_config::file::SectionRef<'_>, &mut Vec<u8>),
) {
    for section in own.sections_by_name(kind).into_iter().flatten().take(MAX_SECTIONS) {
        let header = section.header();
        let Some(name) = header.subsection_name().filter(|n| usable(n)) else {
            continue;
        };
        let Some(name) = (if kind == "remote" { safe_url(name) } else { Some(name.to_vec()) }) else {
            continue;
        };
        out.extend_from_slice(format!("[{kind} \"").as_bytes());
        escape(&name, out);
        out.extend_from_slice(b"\"]\n");
        write(&section, out);
    }
}

fn usable(value: &[u8]) -> bool {
    value.len() < 4096 && !value.iter().any(|b| b.is_ascii_control())
}

fn pair(key: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\t{key} = \"").as_bytes());
    escape(value, out);
    out.extend_from_slice(b"\"\n");
}

fn escape(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&value.replace(b"\\", b"\\\\").replace(b"\"", b"\\\""));
}
