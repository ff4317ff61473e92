//! What visitors take elements, fields, entries and variants from.

use super::deserializer::Probe;
use super::error::TraceError;
use super::memory::Place;
use super::probe::Pass;
use crate::schema::{Content, Type};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::mem::discriminant;

/// Tells values of a type apart that the tracer knows nothing about: variants of the enums that serde makes for names.
fn apart<T>(value: &T) -> String {
    format!("{:?}", discriminant(value))
}

fn name_deserializer(name: &'static str) -> StrDeserializer<'static, TraceError> {
    name.into_deserializer()
}

/// Elements of a sequence or tuple.
#[derive(Debug)]
pub(super) struct Elements<'p, 'm> {
    pass: &'p mut Pass<'m>,
    len: usize,
    next: usize,
    pub(super) types: Vec<Type>,
}

impl<'p, 'm> Elements<'p, 'm> {
    pub(super) fn new(pass: &'p mut Pass<'m>, len: usize) -> Self {
        Self { pass, len, next: 0, types: Vec::new() }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, TraceError> {
        if self.next == self.len {
            return Ok(None);
        }
        let mut ty = None;
        let value = self.pass.down(self.next, |pass| seed.deserialize(Probe::new(pass, &mut ty)))?;
        self.types.extend(ty);
        self.next += 1;
        Ok(Some(value))
    }
}

/// A map with one entry, or none when closing.
#[derive(Debug)]
pub(super) struct OneEntry<'p, 'm> {
    pass: &'p mut Pass<'m>,
    is_given: bool,
    pub(super) key: Option<Type>,
    pub(super) value: Option<Type>,
}

impl<'p, 'm> OneEntry<'p, 'm> {
    pub(super) fn new(pass: &'p mut Pass<'m>) -> Self {
        let is_given = pass.is_closing();
        Self { pass, is_given, key: None, value: None }
    }
}

impl<'de> MapAccess<'de> for OneEntry<'_, '_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        if std::mem::replace(&mut self.is_given, true) {
            return Ok(None);
        }
        let Self { pass, key, .. } = self;
        pass.down(0, |pass| seed.deserialize(Probe::new(pass, key))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        let Self { pass, value, .. } = self;
        pass.down(1, |pass| seed.deserialize(Probe::new(pass, value)))
    }
}

/// The fields of a struct, perhaps without one.
#[derive(Debug)]
pub(super) struct Fields<'p, 'm> {
    pass: &'p mut Pass<'m>,
    identity: String,
    place: Place,
    names: &'p [&'static str],
    omitted: Option<usize>,
    next: usize,
    discriminants: Vec<String>,
    keys: Vec<&'static str>,
    pub(super) types: Vec<Option<Type>>,
}

impl<'p, 'm> Fields<'p, 'm> {
    pub(super) fn new(
        pass: &'p mut Pass<'m>,
        identity: &str,
        names: &'p [&'static str],
        omitted: Option<usize>,
    ) -> Self {
        let place = pass.place.clone();
        let types = vec![None; names.len()];
        let (discriminants, keys) = (Vec::new(), Vec::new());
        Self {
            pass,
            identity: identity.to_owned(),
            place,
            names,
            omitted,
            next: 0,
            discriminants,
            keys,
            types,
        }
    }

    fn value<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        let idx = self.next;
        self.next += 1;
        let mut ty = None;
        let value = self.pass.down(idx, |pass| seed.deserialize(Probe::new(pass, &mut ty)))?;
        if let Some(place) = self.types.get_mut(idx) {
            *place = ty;
        }
        Ok(value)
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        if self.omitted == Some(self.next) {
            self.next += 1;
        }
        let Some(name) = self.names.get(self.next).copied() else {
            self.pass.notes.ended = Some(self.place.clone());
            return Ok(None);
        };
        let field = seed.deserialize(name_deserializer(name))?;
        self.keys.push(name);
        self.discriminants.push(apart(&field));
        let notes = &mut self.pass.notes;
        notes.identity = Some(self.identity.clone());
        notes.key = Some(name);
        notes.keys_given.clone_from(&self.keys);
        notes.discriminants.clone_from(&self.discriminants);
        Ok(Some(field))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        self.value(seed)
    }
}

impl<'de> SeqAccess<'de> for Fields<'_, '_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, TraceError> {
        if self.next == self.names.len() { Ok(None) } else { self.value(seed).map(Some) }
    }
}

/// One name of an enum.
#[derive(Debug)]
pub(super) struct Choice<'p, 'm> {
    pass: &'p mut Pass<'m>,
    identity: String,
    idx: usize,
    name: &'static str,
    discriminant: String,
    /// What the name led to: which variant, and what it holds.
    pub(super) found: Option<(String, Content)>,
}

impl<'p, 'm> Choice<'p, 'm> {
    pub(super) fn new(pass: &'p mut Pass<'m>, identity: &str, idx: usize, name: &'static str) -> Self {
        let identity = format!("{identity}::{name}");
        Self { pass, identity, idx, name, discriminant: String::new(), found: None }
    }

    fn found(&mut self, content: Content) {
        self.found = Some((std::mem::take(&mut self.discriminant), content));
    }
}

impl<'de, 'c, 'p, 'm> EnumAccess<'de> for &'c mut Choice<'p, 'm> {
    type Error = TraceError;
    type Variant = &'c mut Choice<'p, 'm>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), TraceError> {
        let variant = seed.deserialize(name_deserializer(self.name))?;
        self.discriminant = apart(&variant);
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Choice<'_, '_> {
    type Error = TraceError;

    fn unit_variant(self) -> Result<(), TraceError> {
        self.found(Content::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, TraceError> {
        let mut ty = None;
        let value = self.pass.down(self.idx, |pass| seed.deserialize(Probe::new(pass, &mut ty)))?;
        if let Some(ty) = ty {
            self.found(Content::Newtype(ty));
        }
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        let (value, types) = self.pass.down(self.idx, |pass| {
            let mut elements = Elements::new(pass, len);
            let value = visitor.visit_seq(&mut elements)?;
            Ok((value, elements.types))
        })?;
        self.found(Content::Tuple(types));
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let Choice { pass, identity, idx, .. } = &mut *self;
        let (value, fields) = pass.down(*idx, |pass| pass.named_fields(identity, fields, visitor))?;
        self.found(Content::Struct(fields.unwrap_or_default()));
        Ok(value)
    }
}
