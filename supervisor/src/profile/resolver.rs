//! Asking the layers: whose value of a key holds, where it stands, and a record of who said it.

use toml::Spanned;

use super::error::{Bad, Place, ProfileError};
use super::layers::{Layer, LayerKind};
use super::raw::{RawProfile, Scalar};
use super::resolve::Context;
use super::{Limit, Origin};

/// The layers, and the record of who said what.
pub(super) struct Resolver<'a> {
    pub(super) layers: &'a [Layer],
    pub(super) cx: &'a Context<'a>,
    pub(super) origins: Vec<Origin>,
}

impl<'a> Resolver<'a> {
    /// The highest layer's value of a key, with its layer.
    pub(super) fn highest<T>(
        &self,
        get: impl Fn(&'a RawProfile) -> Option<&'a Spanned<T>>,
    ) -> Option<(&'a Layer, &'a Spanned<T>)> {
        self.layers.iter().rev().find_map(|layer| get(&layer.raw).map(|value| (layer, value)))
    }

    /// The highest layer's value, parsed and recorded.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        get: impl Fn(&'a RawProfile) -> Option<&'a Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Result<Option<(T, Place)>, ProfileError> {
        let Some((layer, value)) = self.highest(get) else {
            return Ok(None);
        };
        let place = layer.place(key, value);
        let parsed = parse(value.get_ref()).map_err(|bad| bad.at(place.clone()))?;
        self.note(key, value.get_ref(), &layer.label);
        Ok(Some((parsed, place)))
    }

    /// As [`Resolver::optional`], for keys that the built-in defaults always say.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        get: impl Fn(&'a RawProfile) -> Option<&'a Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Result<(T, Place), ProfileError> {
        self.optional(key, get, parse)?.ok_or_else(|| no_default(key))
    }

    /// A limit: its value, and whether the operator set it.
    pub(super) fn limit<T>(
        &mut self,
        key: &str,
        get: impl Fn(&'a RawProfile) -> Option<&'a Spanned<Scalar>>,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Result<Option<Limit<T>>, ProfileError> {
        let Some((layer, value)) = self.highest(get) else {
            return Ok(None);
        };
        let parsed = parse(&value.get_ref().0).map_err(|bad| bad.at(layer.place(key, value)))?;
        self.note(key, &value.get_ref().0, &layer.label);
        Ok(Some(Limit { value: parsed, explicit: layer.kind != LayerKind::Default }))
    }

    /// Values of a list, of all layers that say it (`adds`) or of the highest alone; equal ones once.
    pub(super) fn list(
        &mut self,
        key: &str,
        adds: bool,
        get: impl Fn(&'a RawProfile) -> &'a Option<Vec<Spanned<String>>>,
        check: impl Fn(&str) -> Result<(), Bad>,
    ) -> Result<Vec<String>, ProfileError> {
        let mut out: Vec<String> = Vec::new();
        let from =
            if adds { 0 } else { self.layers.iter().rposition(|l| get(&l.raw).is_some()).unwrap_or(0) };
        for layer in &self.layers[from..] {
            for value in get(&layer.raw).iter().flatten() {
                let text = value.get_ref();
                check(text).map_err(|bad| bad.at(layer.place(key, value)))?;
                if !out.contains(text) {
                    out.push(text.clone());
                    self.note(key, text, &layer.label);
                }
            }
        }
        Ok(out)
    }

    /// Records who said a value.
    pub(super) fn note(&mut self, key: &str, value: &str, layer: &str) {
        self.origins.push(Origin { key: key.to_owned(), value: value.to_owned(), layer: layer.to_owned() });
    }

    pub(super) fn globs(
        &mut self,
        key: &str,
        adds: bool,
        get: impl Fn(&'a RawProfile) -> &'a Option<Vec<Spanned<String>>>,
    ) -> Result<Vec<String>, ProfileError> {
        let check = self.cx.check_glob;
        self.list(key, adds, get, |text| {
            check(text).map_err(|why| {
                Bad::new(format!("`{}` is not a usable glob: {why}", text.escape_debug()))
                    .remedy("write it as in .gitignore, relative to the work tree: `src/**`, `*.lock`")
            })
        })
    }
}

pub(super) fn no_default(key: &str) -> ProfileError {
    Bad::new(format!("`{key}` has no value, not even a built-in one"))
        .remedy("this is a defect in Proctor; give the value in a profile to go on")
        .at(Place::CommandLine)
}
