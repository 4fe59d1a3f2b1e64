//! Proofs of level `landlock`, where there are no namespaces and nothing is mounted: what it promises, attack by attack,
//! and what it says that it cannot promise, each shown to be lost. Namespaces are taken away by `probe without`.

mod files;
mod lost;
mod metadata;
mod ordinary;
mod outside;
mod survivors;
