//! Patches in git's own format: written from a change set, read back strictly, and applied in memory.

pub mod apply;
pub mod base85;
pub mod parse;
pub mod quote;
pub(crate) mod skim;
#[cfg(test)]
pub(crate) mod tests;
pub mod write;
