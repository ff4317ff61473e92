//! Walks through a message by its schema before it is decoded.
//!
//! The Avro library takes lengths in a message at their word, goes as deep as a message does, and takes some ends of the message for `null`.
//! So lengths, depth and the end are looked at here, which also knows where in the message and in the record something is wrong.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, NamesRef, UuidSchema};
use std::fmt::Write;

/// How deep values may be in each other: a stack of 2 MB is enough for several times as many.
pub(crate) const DEPTH_MAX: usize = 100;

/// How deep they may be if they are resolved against another schema: the library's time for that doubles with each union in another,
/// and a stack of 2 MB is enough for 50.
pub(crate) const DEPTH_RESOLVED_MAX: usize = 24;

/// So many items that take no bytes may be in a list.
const EMPTY_ITEMS_MAX: usize = 1 << 16;

/// A step into a value.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    names: &'a NamesRef<'a>,
    path: Vec<Step<'a>>,
    depth: usize,
    depth_max: usize,
}

/// Why the walk has ended.
type Scanned<T = ()> = Result<T, String>;

/// Says what is wrong with `message`, if anything is that the decoder must not see.
pub(crate) fn scan(
    message: &[u8],
    schema: &Schema,
    names: &NamesRef<'_>,
    depth_max: usize,
) -> Result<(), String> {
    let mut scan = Scan { bytes: message, at: 0, names, path: Vec::new(), depth: 0, depth_max };
    let scanned = scan.value(schema, None).and_then(|()| match message.len() - scan.at {
        0 => Ok(()),
        n_left => Err(format!("{n_left} bytes more than the schema has use for")),
    });
    scanned.map_err(|what| {
        let path = scan.path.iter().fold(String::new(), |mut path, step| {
            let dot = if path.is_empty() { "" } else { "." };
            match step {
                Step::Field(name) => write!(path, "{dot}{name}"),
                Step::Item(idx) => write!(path, "[{idx}]"),
            }
            .map_or(String::new(), |()| path)
        });
        let field = if path.is_empty() { String::new() } else { format!("field '{path}': ") };
        format!("{field}{what}, at byte {}", scan.at + 1)
    })
}

impl<'a> Scan<'a> {
    fn value(&mut self, schema: &'a Schema, namespace: Option<&str>) -> Scanned {
        self.depth += 1;
        if self.depth > self.depth_max {
            return Err(format!("more than {} values in each other", self.depth_max));
        }
        match schema {
            Schema::Null => {}
            Schema::Boolean => {
                let byte = self.skip(1)?;
                if !matches!(byte, [0 | 1]) {
                    self.at -= 1;
                    return Err("expected a boolean, 0 or 1".to_owned());
                }
            }
            Schema::Int | Schema::Date | Schema::TimeMillis => drop(self.integer()?),
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => drop(self.integer()?),
            Schema::Float => drop(self.skip(4)?),
            Schema::Double => drop(self.skip(8)?),
            Schema::String | Schema::Uuid(UuidSchema::String) => self.text()?,
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => drop(self.bytes()?),
            Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Fixed(fixed) | Schema::Duration(fixed) => {
                self.skip(fixed.size)?;
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => drop(self.bytes()?),
                InnerDecimalSchema::Fixed(fixed) => drop(self.skip(fixed.size)?),
            },
            Schema::Enum(symbols) => drop(self.index(symbols.symbols.len(), "symbols")?),
            Schema::Union(union) => {
                let variant = self.index(union.variants().len(), "variants")?;
                if let Some(schema) = union.variants().get(variant) {
                    self.value(schema, namespace)?;
                }
            }
            Schema::Array(array) => self.blocks(|scan| scan.value(&array.items, namespace))?,
            Schema::Map(map) => self.blocks(|scan| {
                scan.text()?;
                scan.value(&map.types, namespace)
            })?,
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                for field in &record.fields {
                    self.path.push(Step::Field(&field.name));
                    self.value(&field.schema, name.namespace())?;
                    self.path.pop();
                }
            }
            Schema::Ref { name } => self.named(name, namespace)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// What has a name is no deeper for it.
    fn named(&mut self, name: &Name, namespace: Option<&str>) -> Scanned {
        self.depth -= 1;
        let name = name.fully_qualified_name(namespace);
        let names = self.names;
        match names.get(name.as_ref()) {
            Some(schema) => self.value(schema, name.namespace())?,
            None => {
                return Err(format!("the schema uses '{}' and does not say what it is", name.fullname(None)));
            }
        }
        self.depth += 1;
        Ok(())
    }

    /// The items of a list or map, which stand in blocks.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Scanned) -> Scanned {
        let (mut idx, mut n_empty) = (0, 0);
        loop {
            let mut n_items = self.integer()?;
            if n_items == 0 {
                return Ok(());
            }
            let mut size = None;
            if n_items < 0 {
                // The size of the block stands behind, for who leaves it out.
                size = Some(self.integer()?);
                n_items = n_items.saturating_neg();
            }
            let block = self.at;
            // More than that, and a decoder that makes room for them does so for nothing.
            let n_left = self.bytes.len().saturating_sub(self.at).max(EMPTY_ITEMS_MAX);
            if usize::try_from(n_items).map_or(true, |n_items| n_items > n_left) {
                return Err(format!("a list of {n_items} items, which the message has no bytes for"));
            }
            for _ in 0..n_items {
                let start = self.at;
                self.path.push(Step::Item(idx));
                item(self)?;
                self.path.pop();
                idx += 1;
                n_empty += usize::from(self.at == start);
            }
            let found = (self.at - block) as i64;
            if let Some(size) = size.filter(|size| *size != found) {
                self.at = block;
                return Err(format!("items of {found} bytes, which are said to have {size}"));
            }
            if n_empty > EMPTY_ITEMS_MAX {
                return Err(format!("a list of more than {EMPTY_ITEMS_MAX} items without bytes"));
            }
        }
    }

    fn text(&mut self) -> Scanned {
        let text = self.bytes()?;
        std::str::from_utf8(text).map(drop).map_err(|error| {
            self.at = self.at - text.len() + error.valid_up_to();
            "not UTF-8".to_owned()
        })
    }

    fn bytes(&mut self) -> Scanned<&'a [u8]> {
        let start = self.at;
        let len = self.integer()?;
        let n_left = self.bytes.len().saturating_sub(self.at);
        match usize::try_from(len) {
            Ok(len) if len <= n_left => self.skip(len),
            Ok(_) | Err(_) => {
                self.at = start;
                Err(format!("a length of {len}, where {n_left} bytes are left"))
            }
        }
    }

    fn index(&mut self, n_values: usize, of_what: &str) -> Scanned<usize> {
        let start = self.at;
        let idx = self.integer()?;
        match usize::try_from(idx) {
            Ok(idx) if idx < n_values => Ok(idx),
            Ok(_) | Err(_) => {
                self.at = start;
                Err(format!("number {idx} of {n_values} {of_what}"))
            }
        }
    }

    fn integer(&mut self) -> Scanned<i64> {
        let (start, mut value) = (self.at, 0_u64);
        for shift in (0..64).step_by(7) {
            let &[byte] = self.skip(1)? else { break };
            if shift == 63 && byte & 0x7e != 0 {
                self.at = start;
                return Err("an integer of more than 64 bits".to_owned());
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        self.at = start;
        Err("an integer of more than 64 bits".to_owned())
    }

    fn skip(&mut self, n_bytes: usize) -> Scanned<&'a [u8]> {
        let end = self.at.checked_add(n_bytes);
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, skipped)) => {
                self.at = end;
                Ok(skipped)
            }
            None => Err("the message ends too early".to_owned()),
        }
    }
}
