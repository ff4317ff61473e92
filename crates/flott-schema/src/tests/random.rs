//! Random values of random schemas: what postcard writes is read back by schema; and hostile bytes are never more than an error.

use crate::schema::{Content, Field, Type, Variant};
use crate::{Value, compatible, decode, decode_prefix};
use proptest::prelude::*;
use proptest::sample::select;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeTuple, Serializer};

fn leaf() -> impl Strategy<Value = Type> {
    select(vec![
        Type::Unit,
        Type::Bool,
        Type::I8,
        Type::I16,
        Type::I32,
        Type::I64,
        Type::I128,
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::U128,
        Type::F32,
        Type::F64,
        Type::Char,
        Type::String,
        Type::Bytes,
    ])
}

fn fields(ty: impl Strategy<Value = Type>) -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec(ty, 0..4).prop_map(|types| {
        let field = |(idx, ty)| Field { name: format!("f{idx}"), aliases: vec![], optional: false, ty };
        types.into_iter().enumerate().map(field).collect()
    })
}

fn content(ty: impl Strategy<Value = Type> + Clone) -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Unit),
        ty.clone().prop_map(Content::Newtype),
        prop::collection::vec(ty.clone(), 0..3).prop_map(Content::Tuple),
        fields(ty).prop_map(Content::Struct),
    ]
}

fn schema() -> impl Strategy<Value = Type> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let variants = prop::collection::vec(content(inner.clone()), 1..4).prop_map(|contents| {
            let variant = |(idx, content)| Variant { name: format!("V{idx}"), aliases: vec![], content };
            Type::Enum {
                name: "E".to_owned(),
                variants: contents.into_iter().enumerate().map(variant).collect(),
            }
        });
        prop_oneof![
            inner.clone().prop_map(|ty| Type::Option(Box::new(ty))),
            inner.clone().prop_map(|ty| Type::Sequence(Box::new(ty))),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| Type::Map(Box::new(key), Box::new(value))),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Type::Tuple),
            fields(inner.clone()).prop_map(|fields| Type::Struct { name: "S".to_owned(), fields }),
            variants,
            // A list of itself and nothing else.
            inner.prop_map(|ty| {
                let next = Type::Sequence(Box::new(Type::Enclosing(0)));
                let field =
                    |name: &str, ty| Field { name: name.to_owned(), aliases: vec![], optional: false, ty };
                Type::Struct { name: "R".to_owned(), fields: vec![field("it", ty), field("next", next)] }
            }),
        ]
    })
}

/// A value of a type; what encloses it is never entered again.
fn value(ty: &Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Unit | Type::Enclosing(_) => Just(Value::Unit).boxed(),
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::I8 => any::<i8>().prop_map(|it| Value::Signed(it.into())).boxed(),
        Type::I16 => any::<i16>().prop_map(|it| Value::Signed(it.into())).boxed(),
        Type::I32 => any::<i32>().prop_map(|it| Value::Signed(it.into())).boxed(),
        Type::I64 => any::<i64>().prop_map(|it| Value::Signed(it.into())).boxed(),
        Type::I128 => any::<i128>().prop_map(Value::Signed).boxed(),
        Type::U8 => any::<u8>().prop_map(|it| Value::Unsigned(it.into())).boxed(),
        Type::U16 => any::<u16>().prop_map(|it| Value::Unsigned(it.into())).boxed(),
        Type::U32 => any::<u32>().prop_map(|it| Value::Unsigned(it.into())).boxed(),
        Type::U64 => any::<u64>().prop_map(|it| Value::Unsigned(it.into())).boxed(),
        Type::U128 => any::<u128>().prop_map(Value::Unsigned).boxed(),
        Type::F32 => any::<f32>().prop_map(Value::F32).boxed(),
        Type::F64 => any::<f64>().prop_map(Value::F64).boxed(),
        Type::Char => any::<char>().prop_map(Value::Char).boxed(),
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        Type::Option(inner) => {
            prop::option::of(value(inner).prop_map(Box::new)).prop_map(Value::Option).boxed()
        }
        Type::Sequence(element) if **element == Type::Enclosing(0) => Just(Value::Sequence(vec![])).boxed(),
        Type::Sequence(element) => {
            prop::collection::vec(value(element), 0..4).prop_map(Value::Sequence).boxed()
        }
        Type::Map(key, of_key) => {
            prop::collection::vec((value(key), value(of_key)), 0..4).prop_map(Value::Map).boxed()
        }
        Type::Tuple(types) => all(types.iter()).prop_map(Value::Tuple).boxed(),
        Type::Struct { fields, .. } => structure(fields),
        Type::Enum { variants, .. } => select(variants.clone())
            .prop_flat_map(|variant| {
                let content = match &variant.content {
                    Content::Unit => Just(Value::Unit).boxed(),
                    Content::Newtype(ty) => value(ty),
                    Content::Tuple(types) => all(types.iter()).prop_map(Value::Tuple).boxed(),
                    Content::Struct(fields) => structure(fields),
                };
                content.prop_map(move |content| Value::Variant(variant.name.clone(), Box::new(content)))
            })
            .boxed(),
    }
}

fn all<'a>(types: impl Iterator<Item = &'a Type>) -> BoxedStrategy<Vec<Value>> {
    types.map(value).collect::<Vec<_>>().boxed()
}

fn structure(fields: &[Field]) -> BoxedStrategy<Value> {
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let values = all(fields.iter().map(|field| &field.ty));
    values.prop_map(move |values| Value::Struct(names.iter().cloned().zip(values).collect())).boxed()
}

/// Serializes a value as the Rust type of its schema would be.
struct Typed<'a>(&'a Type, &'a Value);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ty, value) = self;
        match (ty, value) {
            (_, Value::Unit) => serializer.serialize_unit(),
            (_, Value::Bool(it)) => serializer.serialize_bool(*it),
            (Type::I8, Value::Signed(it)) => serializer.serialize_i8(*it as i8),
            (Type::I16, Value::Signed(it)) => serializer.serialize_i16(*it as i16),
            (Type::I32, Value::Signed(it)) => serializer.serialize_i32(*it as i32),
            (Type::I64, Value::Signed(it)) => serializer.serialize_i64(*it as i64),
            (_, Value::Signed(it)) => serializer.serialize_i128(*it),
            (Type::U8, Value::Unsigned(it)) => serializer.serialize_u8(*it as u8),
            (Type::U16, Value::Unsigned(it)) => serializer.serialize_u16(*it as u16),
            (Type::U32, Value::Unsigned(it)) => serializer.serialize_u32(*it as u32),
            (Type::U64, Value::Unsigned(it)) => serializer.serialize_u64(*it as u64),
            (_, Value::Unsigned(it)) => serializer.serialize_u128(*it),
            (_, Value::F32(it)) => serializer.serialize_f32(*it),
            (_, Value::F64(it)) => serializer.serialize_f64(*it),
            (_, Value::Char(it)) => serializer.serialize_char(*it),
            (_, Value::String(it)) => serializer.serialize_str(it),
            (_, Value::Bytes(it)) => serializer.serialize_bytes(it),
            (_, Value::Option(None)) => serializer.serialize_none(),
            (Type::Option(ty), Value::Option(Some(it))) => serializer.serialize_some(&Typed(ty, it)),
            (Type::Sequence(ty), Value::Sequence(elements)) => {
                let mut seq = serializer.serialize_seq(Some(elements.len()))?;
                elements.iter().try_for_each(|it| seq.serialize_element(&Typed(ty, it)))?;
                seq.end()
            }
            (Type::Map(key, of_key), Value::Map(entries)) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries
                    .iter()
                    .try_for_each(|(k, v)| map.serialize_entry(&Typed(key, k), &Typed(of_key, v)))?;
                map.end()
            }
            (Type::Tuple(types), Value::Tuple(values)) => row(serializer, types.iter().zip(values)),
            (Type::Struct { fields, .. }, Value::Struct(values)) => row(
                serializer,
                fields.iter().map(|field| &field.ty).zip(values.iter().map(|(_, value)| value)),
            ),
            (Type::Enum { variants, .. }, Value::Variant(name, content)) => {
                let idx = variants.iter().position(|variant| variant.name == *name).expect("a variant");
                let inner = match &variants[idx].content {
                    Content::Unit => return serializer.serialize_unit_variant("E", idx as u32, "V"),
                    Content::Newtype(ty) => ty.clone(),
                    Content::Tuple(types) => Type::Tuple(types.clone()),
                    Content::Struct(fields) => Type::Struct { name: String::new(), fields: fields.clone() },
                };
                serializer.serialize_newtype_variant("E", idx as u32, "V", &Typed(&inner, content))
            }
            (ty, value) => panic!("{value:?} is no {ty}"),
        }
    }
}

fn row<'a, S: Serializer>(
    serializer: S,
    values: impl ExactSizeIterator<Item = (&'a Type, &'a Value)>,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(values.len())?;
    for (ty, value) in values {
        tuple.serialize_element(&Typed(ty, value))?;
    }
    tuple.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_postcard_writes_of_a_schema_is_read_back(
        (ty, value) in schema().prop_flat_map(|ty| value(&ty).prop_map(move |value| (ty.clone(), value)))
    ) {
        let mut bytes = postcard::to_allocvec(&Typed(&ty, &value)).expect("encoded");
        prop_assert_eq!(format!("{:?}", decode(&ty, &bytes)), format!("{:?}", Ok::<_, crate::DecodeError>(&value)));
        bytes.extend([1, 2, 3]);
        prop_assert_eq!(decode_prefix(&ty, &bytes).expect("decoded").1, [1, 2, 3]);
        // Cut anywhere, it is an error or a shorter value, never a panic.
        for len in 0..bytes.len() {
            drop(decode_prefix(&ty, &bytes[..len]));
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_value(ty in schema(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(decode(&ty, &bytes));
    }

    #[test]
    fn a_schema_is_compatible_with_itself_and_is_read_back_from_its_record(ty in schema()) {
        prop_assert!(compatible(&ty, &ty).expect("the same").is_unchanged());
        let record = crate::StateSchemas { key_groups: (0, 8), entries: [("state".to_owned(), ty)].into() };
        prop_assert_eq!(crate::StateSchemas::decode(&record.encode().expect("encoded")), Ok(Some(record)));
    }
}

#[test]
fn a_schema_that_refers_nowhere_or_never_ends_is_refused() {
    for ty in [
        Type::Enclosing(0),
        Type::Struct {
            name: "S".to_owned(),
            fields: vec![Field {
                name: "f".to_owned(),
                aliases: vec![],
                optional: false,
                ty: Type::Enclosing(0),
            }],
        },
        Type::Struct {
            name: "S".to_owned(),
            fields: vec![Field {
                name: "f".to_owned(),
                aliases: vec![],
                optional: false,
                ty: Type::Enclosing(1),
            }],
        },
        Type::Sequence(Box::new(Type::Unit)),
    ] {
        let hostile = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        decode_prefix(&ty, &hostile).expect_err("refused");
    }
}
