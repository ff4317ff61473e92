//! One pass over a type: which variant and which fields it is given, and what is known of it afterwards.

use super::access::{Choice, Fields};
use super::error::TraceError;
use super::memory::{KnownVariant, Memory, Place};
use crate::TYPE_DEPTH_MAX;
use crate::schema::{Content, Field, Type, Variant};
use serde::de::Visitor;
use std::any::type_name;

/// Nodes that a pass may visit; a type with more has no schema.
const NODES_MAX: usize = 20_000;

/// A struct or enum that is being made.
#[derive(Debug)]
struct Frame {
    identity: String,
    /// The index of the name that was chosen, of an enum.
    choice: Option<usize>,
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Pass<'m> {
    pub(super) memory: &'m mut Memory,
    pub(super) place: Place,
    pub(super) notes: Notes,
    frames: Vec<Frame>,
    /// Inside of how many recursive occurrences: nothing is written down there, and the shortest value is made.
    closing: usize,
    depth: usize,
    n_nodes: usize,
}

/// What a pass leaves behind.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Whether nothing is left to explore.
    pub(super) is_complete: bool,
    /// The last leaf that was given a value.
    pub(super) leaf: Option<Place>,
    /// The type of the last struct that was begun or given a field.
    pub(super) identity: Option<String>,
    /// The last field name that was given.
    pub(super) key: Option<&'static str>,
    /// All that were given to the same struct, with what tells the fields apart.
    pub(super) keys_given: Vec<&'static str>,
    pub(super) discriminants: Vec<String>,
    /// The last struct that was given all its fields.
    pub(super) ended: Option<Place>,
}

impl Notes {
    /// Whether two names were seen to lead to the same field.
    pub(super) fn shares(&self, a: &str, b: &str) -> bool {
        let of = |name: &str| {
            let idx = self.keys_given.iter().position(|key| *key == name)?;
            self.discriminants.get(idx)
        };
        of(a).is_some() && of(a) == of(b)
    }
}

impl<'m> Pass<'m> {
    pub(super) fn new(memory: &'m mut Memory) -> Self {
        let notes = Notes { is_complete: true, ..Notes::default() };
        Self { memory, place: Place::new(), notes, frames: Vec::new(), closing: 0, depth: 0, n_nodes: 0 }
    }

    pub(super) fn finish(self) -> Notes {
        self.notes
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// How many frames back the struct or enum is being made.
    fn recursion(&self, identity: &str) -> Option<usize> {
        self.frames.iter().rev().position(|frame| frame.identity == identity)
    }

    /// Does `make` one node down.
    pub(super) fn down<T>(
        &mut self,
        child: usize,
        make: impl FnOnce(&mut Self) -> Result<T, TraceError>,
    ) -> Result<T, TraceError> {
        self.n_nodes += 1;
        if self.depth >= TYPE_DEPTH_MAX || self.n_nodes > NODES_MAX {
            return Err(TraceError::Unsupported("it is nested too deeply, or too large".to_owned()));
        }
        self.place.push(child);
        self.depth += 1;
        let made = make(self);
        self.depth -= 1;
        if made.is_ok() {
            // After an error the place is not used any more.
            self.place.pop();
        }
        made
    }

    pub(super) fn candidate(&mut self) -> usize {
        self.notes.leaf = Some(self.place.clone());
        self.memory.candidates.get(&self.place).copied().unwrap_or(0)
    }

    /// The names of fields, without aliases.
    fn field_names(&self, identity: &str, names: &'static [&'static str]) -> Vec<&'static str> {
        let is_alias = |name: &&'static str| self.memory.aliases.contains_key(&(identity.to_owned(), *name));
        names.iter().copied().filter(|name| !is_alias(name)).collect()
    }

    /// Makes a value of named fields, and says what they are; not when closing.
    pub(super) fn named_fields<'de, V: Visitor<'de>>(
        &mut self,
        identity: &str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<(V::Value, Option<Vec<Field>>), TraceError> {
        self.notes.identity = Some(identity.to_owned());
        let names = self.field_names(identity, names);
        let place = self.place.clone();
        let step = self.memory.steps.get(&place).copied().unwrap_or(0);
        let is_in_order = self.memory.in_order.contains(identity);
        let omitted =
            step.checked_sub(1).filter(|idx| *idx < names.len() && !self.is_closing() && !is_in_order);
        let others_complete = std::mem::replace(&mut self.notes.is_complete, true);
        let mut fields = Fields::new(self, identity, &names, omitted);
        let made = if is_in_order { visitor.visit_seq(&mut fields) } else { visitor.visit_map(&mut fields) };
        let types = fields.types;
        let value = made?;
        if self.is_closing() {
            self.notes.is_complete = others_complete;
            return Ok((value, None));
        }
        let last = if is_in_order { 0 } else { names.len() };
        let next = match omitted {
            None if step == 0 => {
                self.memory.fields.insert(place.clone(), types);
                usize::from(self.notes.is_complete)
            }
            None => step,
            Some(idx) => {
                self.memory.optional.insert((place.clone(), idx));
                step + 1
            }
        };
        self.memory.steps.insert(place.clone(), next);
        let is_complete = self.notes.is_complete && next > last;
        self.notes.is_complete = others_complete && is_complete;
        Ok((value, Some(self.known_fields(identity, &place, &names))))
    }

    fn known_fields(&self, identity: &str, place: &Place, names: &[&'static str]) -> Vec<Field> {
        let types = self.memory.fields.get(place).map(Vec::as_slice).unwrap_or_default();
        let aliases = |name: &str| {
            let all = self.memory.aliases.iter().filter(|((of, _), field)| of == identity && **field == name);
            all.map(|((_, alias), _)| (*alias).to_owned()).collect()
        };
        let known = names.iter().zip(types).enumerate();
        known
            .filter_map(|(idx, (name, ty))| {
                Some(Field {
                    name: (*name).to_owned(),
                    aliases: aliases(name),
                    optional: self.memory.optional.contains(&(place.clone(), idx)),
                    ty: ty.clone()?,
                })
            })
            .collect()
    }

    pub(super) fn structure<'de, V: Visitor<'de>>(
        &mut self,
        name: &str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<(V::Value, Type), TraceError> {
        let identity = type_name::<V::Value>().to_owned();
        let recursion = self.recursion(&identity);
        self.closing += usize::from(recursion.is_some());
        self.frames.push(Frame { identity: identity.clone(), choice: None });
        let (value, fields) = self.named_fields(&identity, names, visitor)?;
        self.frames.pop();
        self.closing -= usize::from(recursion.is_some());
        let ty = match (recursion, fields) {
            (Some(level), _) => Type::Enclosing(level as u32),
            (None, fields) => Type::Struct { name: name.to_owned(), fields: fields.unwrap_or_default() },
        };
        Ok((value, ty))
    }

    /// The name that an enum is given in this pass.
    fn choose(&self, identity: &str, n_names: usize) -> Option<usize> {
        let step = self.memory.steps.get(&self.place).copied().unwrap_or(0);
        if self.closing == 0 {
            return Some(if step < n_names { step } else { 0 });
        }
        // One that leads back here would never end.
        let is_taken = |idx: &usize| {
            self.frames.iter().any(|frame| frame.identity == identity && frame.choice == Some(*idx))
        };
        (0..n_names).find(|idx| !is_taken(idx))
    }

    pub(super) fn alternatives<'de, V: Visitor<'de>>(
        &mut self,
        name: &str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<(V::Value, Type), TraceError> {
        let identity = type_name::<V::Value>().to_owned();
        let recursion = self.recursion(&identity);
        self.closing += usize::from(recursion.is_some());
        let chosen = self.choose(&identity, names.len());
        let chosen = chosen.and_then(|idx| Some((idx, *names.get(idx)?)));
        let Some((idx, chosen)) = chosen else {
            return Err(TraceError::Unsupported("a value of it would never end".to_owned()));
        };
        self.frames.push(Frame { identity: identity.clone(), choice: Some(idx) });
        let others_complete = std::mem::replace(&mut self.notes.is_complete, true);
        let place = self.place.clone();
        let mut choice = Choice::new(self, &identity, idx, chosen);
        let value = visitor.visit_enum(&mut choice)?;
        let found = choice.found;
        self.frames.pop();
        self.closing -= usize::from(recursion.is_some());
        if self.is_closing() || recursion.is_some() {
            self.notes.is_complete = others_complete;
            return Ok((value, Type::Enclosing(recursion.unwrap_or(0) as u32)));
        }
        let step = self.memory.steps.get(&place).copied().unwrap_or(0);
        if let Some((discriminant, content)) = found
            && step < names.len()
        {
            self.remember(&place, chosen, discriminant, content);
        }
        let next = if self.notes.is_complete { step.max((step + 1).min(names.len())) } else { step };
        self.memory.steps.insert(place.clone(), next);
        self.notes.is_complete = others_complete && self.notes.is_complete && next >= names.len();
        Ok((value, Type::Enum { name: name.to_owned(), variants: self.known_variants(&place) }))
    }

    fn remember(&mut self, place: &Place, name: &'static str, discriminant: String, content: Content) {
        let known = self.memory.variants.entry(place.clone()).or_default();
        match known.iter_mut().find(|known| known.discriminant == discriminant) {
            Some(variant) => {
                if !variant.names.contains(&name) {
                    variant.names.push(name);
                }
                variant.content = content;
            }
            None => known.push(KnownVariant { names: vec![name], discriminant, content }),
        }
    }

    fn known_variants(&self, place: &Place) -> Vec<Variant> {
        let known = self.memory.variants.get(place).map(Vec::as_slice).unwrap_or_default();
        let variant = |known: &KnownVariant| {
            let mut names = known.names.iter().map(|name| (*name).to_owned());
            Some(Variant { name: names.next()?, aliases: names.collect(), content: known.content.clone() })
        };
        known.iter().filter_map(variant).collect()
    }
}
