//! Patches in git's own format: written from a change set, read back strictly, and applied in memory.

pub mod base85;
pub mod quote;
pub mod write;
