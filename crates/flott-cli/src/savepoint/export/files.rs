//! Where rows go: a file that appears whole under its name or not at all, or standard output.

use super::rows::{Layout, Row};
use anyhow::{Context, Result, anyhow};
use flott::env::{Env, FileWrite};
use flott_schema::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::savepoint) enum Format {
    /// One JSON object a line.
    #[value(alias = "json")]
    Jsonl,
    /// Lines of values with a heading; what is no number, text or truth value is JSON text, and what is missing is empty.
    Csv,
    /// A Parquet file.
    Parquet,
}

/// A file under way.
pub(super) struct Output {
    target: Option<PathBuf>,
    sink: Box<dyn FileWrite>,
    encoder: Encoder,
}

enum Encoder {
    Jsonl,
    Csv,
    #[cfg(feature = "parquet")]
    Parquet {
        layout: Layout,
        encoder: Box<dyn flott::format::RecordEncoder<Row>>,
    },
}

/// Standard output, seen as a file.
struct Stdout(Env);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.print(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FileWrite for Stdout {
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn temporary(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

impl Output {
    /// Begins `target`, or standard output if that is `-`. An existing file is not replaced.
    pub(super) fn create(env: &Env, target: &Path, format: Format, layout: &Layout) -> Result<Self> {
        let encoder = encoder(format, layout)?;
        if target == Path::new("-") {
            let mut output = Self { target: None, sink: Box::new(Stdout(env.clone())), encoder };
            output.begin(layout)?;
            return Ok(output);
        }
        if env.fs().metadata(target).is_ok() {
            return Err(anyhow!(
                "'{}' exists: choose another file with --output, or remove it",
                target.display()
            ));
        }
        let sink = env.fs().create(&temporary(target));
        let sink = sink.with_context(|| format!("cannot write '{}'", target.display()))?;
        let mut output = Self { target: Some(target.to_owned()), sink, encoder };
        output.begin(layout)?;
        Ok(output)
    }

    /// Writes what comes before the first row.
    fn begin(&mut self, layout: &Layout) -> Result<()> {
        if matches!(self.encoder, Encoder::Csv) {
            let names = layout.columns.iter().map(|(name, _)| (*name).to_owned());
            let heading = csv_line(std::iter::once(layout.place.to_owned()).chain(names))?;
            self.sink.write_all(&heading).context("cannot write the rows")?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, row: Row) -> Result<()> {
        let mut bytes = Vec::new();
        match &mut self.encoder {
            Encoder::Jsonl => {
                serde_json::to_writer(&mut bytes, &row).context("a row cannot be written as JSON")?;
                bytes.push(b'\n');
            }
            Encoder::Csv => {
                let cells = row.0.iter().map(|(_, value)| cell(value)).collect::<Result<Vec<_>>>()?;
                bytes = csv_line(cells.into_iter())?;
            }
            #[cfg(feature = "parquet")]
            Encoder::Parquet { layout, encoder } => {
                let row = super::columns::fitted(layout, row)?;
                encoder
                    .encode(&row, &mut bytes)
                    .map_err(|error| anyhow!("a row does not fit its columns: {error}"))?;
            }
        }
        self.sink.write_all(&bytes).context("cannot write the rows")
    }

    /// Ends the file, durably, and gives it its name.
    pub(super) fn finish(self, env: &Env) -> Result<()> {
        let Self { target, mut sink, encoder } = self;
        match encoder {
            Encoder::Jsonl | Encoder::Csv => {}
            #[cfg(feature = "parquet")]
            Encoder::Parquet { mut encoder, .. } => {
                let mut bytes = Vec::new();
                encoder
                    .finish(&mut bytes)
                    .map_err(|error| anyhow!("cannot end the Parquet file: {error}"))?;
                sink.write_all(&bytes).context("cannot write the rows")?;
            }
        }
        sink.sync().context("cannot write the rows")?;
        drop(sink);
        let Some(target) = target else { return Ok(()) };
        let renamed = env.fs().rename(&temporary(&target), &target);
        renamed.with_context(|| format!("cannot write '{}'", target.display()))
    }

    /// Removes what was written of a file that cannot be ended.
    pub(super) fn abandon(self, env: &Env) {
        if let Some(target) = &self.target {
            // The error that led here is worth more than one about the rest.
            env.fs().remove(&temporary(target)).ok();
        }
    }
}

fn csv_line(cells: impl Iterator<Item = String>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).context("a row cannot be written as CSV")?;
    writer.into_inner().map_err(|error| anyhow!("a row cannot be written as CSV: {error}"))
}

/// A value as a cell.
fn cell(value: &Value) -> Result<String> {
    Ok(match value {
        Value::Unit | Value::Option(None) => String::new(),
        Value::Option(Some(value)) => cell(value)?,
        Value::String(text) => text.clone(),
        Value::Char(letter) => letter.to_string(),
        // Not all are numbers in JSON.
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        value => serde_json::to_string(value).context("a value cannot be written as JSON")?,
    })
}

#[cfg(feature = "parquet")]
fn encoder(format: Format, layout: &Layout) -> Result<Encoder> {
    use flott::format::EncodeFormat;
    use flott_format_parquet::ParquetFormat;
    match format {
        Format::Jsonl => Ok(Encoder::Jsonl),
        Format::Csv => Ok(Encoder::Csv),
        Format::Parquet => {
            let format = ParquetFormat::new().schema(super::columns::schema_of(layout));
            let encoder = format.start_file().context("its rows have no Parquet columns")?;
            Ok(Encoder::Parquet { layout: layout.clone(), encoder })
        }
    }
}

#[cfg(not(feature = "parquet"))]
fn encoder(format: Format, _: &Layout) -> Result<Encoder> {
    match format {
        Format::Jsonl => Ok(Encoder::Jsonl),
        Format::Csv => Ok(Encoder::Csv),
        Format::Parquet => {
            Err(anyhow!("this `flott` was built without its feature `parquet`; --format jsonl works"))
        }
    }
}

/// Parquet's encoder wants rows that could be read, too. These are only written.
#[cfg(feature = "parquet")]
impl<'de> serde::Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("rows of an export are only written"))
    }
}
