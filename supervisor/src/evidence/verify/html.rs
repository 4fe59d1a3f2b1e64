//! Whether `report.html` is what this evidence renders to: made once more from the report, the events, the patch and
//! the logs, all by the descriptor of the directory that was opened, and compared byte for byte.

use std::io::BufRead;

use super::super::open::Directory;
use super::parts::same;
use crate::report::{Report, html};

/// Compares the page with what it should be. What the page is made from is read again here, within the page's own
/// limits; whether it is what the manifest says is asked where each artifact is read itself.
pub(super) fn page(input: &mut impl BufRead, report: &Report, dir: &Directory) -> Result<(), String> {
    same(input, &html::render(report, dir), "this evidence")
}
