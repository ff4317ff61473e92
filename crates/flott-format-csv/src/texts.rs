//! What the CSV writer does not do: `None` as a text, and escape characters that stand for themselves.
//!
//! The writer has an empty field for `None`, and escapes quotes but not what it escapes them with; this serializer around its own does both
//! to the values first.

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// How texts are written.
#[derive(Clone, Copy)]
pub(crate) struct TextRules<'a> {
    pub(crate) null_literal: Option<&'a str>,
    /// Doubled, so that it stands for itself.
    pub(crate) escape: Option<char>,
}

/// A value with the rules for its texts.
pub(crate) struct WithRules<'a, T: ?Sized> {
    pub(crate) value: &'a T,
    pub(crate) rules: TextRules<'a>,
}

impl<T: Serialize + ?Sized> Serialize for WithRules<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Ruled { inner, rules: self.rules })
    }
}

/// A serializer, or what it makes for values with others in them.
struct Ruled<'a, I> {
    inner: I,
    rules: TextRules<'a>,
}

impl<'a, I> Ruled<'a, I> {
    fn wrap<'b, T: ?Sized>(&self, value: &'b T) -> WithRules<'b, T>
    where
        'a: 'b,
    {
        WithRules { value, rules: self.rules }
    }
}

macro_rules! pass_on {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

macro_rules! compound {
    ($($method:ident($($argument:ident: $type:ty),*) -> $compound:ident;)*) => {
        $(fn $method(self, $($argument: $type),*) -> Result<Self::$compound, S::Error> {
            Ok(Ruled { inner: self.inner.$method($($argument),*)?, rules: self.rules })
        })*
    };
}

impl<'a, S: Serializer> Serializer for Ruled<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Ruled<'a, S::SerializeSeq>;
    type SerializeTuple = Ruled<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Ruled<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Ruled<'a, S::SerializeTupleVariant>;
    type SerializeMap = Ruled<'a, S::SerializeMap>;
    type SerializeStruct = Ruled<'a, S::SerializeStruct>;
    type SerializeStructVariant = Ruled<'a, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_f32: f32,
        serialize_f64: f64, serialize_unit_struct: &'static str,
    }

    compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, idx: u32, variant: &'static str, len: usize) -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, idx: u32, variant: &'static str, len: usize) -> SerializeStructVariant;
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if Some(value) == self.rules.null_literal {
            return Err(S::Error::custom(format!("the text '{value}' would be read as null (null_literal)")));
        }
        match self.rules.escape {
            Some(escape) if value.contains(escape) => {
                self.inner.serialize_str(&value.replace(escape, &String::from_iter([escape, escape])))
            }
            _ => self.inner.serialize_str(value),
        }
    }

    fn serialize_char(self, value: char) -> Result<S::Ok, S::Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(value) {
            Ok(text) => self.serialize_str(text),
            Err(_) if self.rules.escape.is_some() => {
                Err(S::Error::custom("bytes that are no text cannot be written with an escape character"))
            }
            Err(_) => self.inner.serialize_bytes(value),
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        match self.rules.null_literal {
            Some(literal) => self.inner.serialize_str(literal),
            None => self.inner.serialize_none(),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        idx: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.wrap(value);
        self.inner.serialize_newtype_variant(name, idx, variant, &value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! elements {
    ($($access:ident::$method:ident;)*) => {
        $(impl<C: $access> $access for Ruled<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let value = self.wrap(value);
                self.inner.$method(&value)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! fields {
    ($($access:ident;)*) => {
        $(impl<C: $access> $access for Ruled<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                let value = self.wrap(value);
                self.inner.serialize_field(key, &value)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<C: SerializeMap> SerializeMap for Ruled<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.wrap(value);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
