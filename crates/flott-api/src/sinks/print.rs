//! A line per record on standard output.

use crate::UserResult;
use crate::sink::{Sink, SinkContext, SinkWriter};
use flott_env::Env;
use flott_types::{RecordBatch, Result};
use std::fmt::{self, Debug, Display, Write};
use std::sync::Arc;

type FormatRecord<T> = dyn Fn(&T, &mut String) -> fmt::Result + Send + Sync;

/// Prints a line per record, one write per batch. As in Flink, lines begin with `subtask> ` (counted from 1) when there
/// are several subtasks, with `prefix> ` if there is a prefix, and with `prefix:subtask> ` if both hold.
pub struct PrintSink<T> {
    format: Arc<FormatRecord<T>>,
    prefix: Option<String>,
}

impl<T> Clone for PrintSink<T> {
    fn clone(&self) -> Self {
        Self { format: Arc::clone(&self.format), prefix: self.prefix.clone() }
    }
}

impl<T> Debug for PrintSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintSink").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<T: 'static> PrintSink<T> {
    /// Prints records as `{}` does.
    pub fn new() -> Self
    where
        T: Display,
    {
        Self::with_format(|record, line| write!(line, "{record}"))
    }

    /// Prints records as `{:?}` does.
    pub fn debug() -> Self
    where
        T: Debug,
    {
        Self::with_format(|record, line| write!(line, "{record:?}"))
    }

    /// Prints what `format` appends for a record.
    pub fn with_format(format: impl Fn(&T, &mut String) -> fmt::Result + Send + Sync + 'static) -> Self {
        Self { format: Arc::new(format), prefix: None }
    }

    /// Marks the lines of this sink.
    #[must_use]
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: Some(prefix.into()), ..self }
    }
}

impl<T: Display + 'static> Default for PrintSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + 'static> Sink<T> for PrintSink<T> {
    type Writer = PrintWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<PrintWriter<T>> {
        let subtask = (ctx.parallelism > 1).then_some(ctx.subtask.0 + 1);
        let line_start = match (&self.prefix, subtask) {
            (Some(prefix), Some(subtask)) => format!("{prefix}:{subtask}> "),
            (Some(prefix), None) => format!("{prefix}> "),
            (None, Some(subtask)) => format!("{subtask}> "),
            (None, None) => String::new(),
        };
        Ok(PrintWriter { env: ctx.env, format: Arc::clone(&self.format), line_start, lines: String::new() })
    }
}

/// Prints the records of one subtask.
pub struct PrintWriter<T> {
    env: Env,
    format: Arc<FormatRecord<T>>,
    line_start: String,
    /// Empty between calls; kept for its memory.
    lines: String,
}

impl<T> Debug for PrintWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintWriter").field("line_start", &self.line_start).finish_non_exhaustive()
    }
}

/// A buffer that one large batch has blown up further is not kept.
const LINES_BYTES_KEPT: usize = 1 << 20;

impl<T: Send + 'static> SinkWriter<T> for PrintWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        for record in batch.records() {
            self.lines.push_str(&self.line_start);
            (self.format)(record, &mut self.lines)?;
            self.lines.push('\n');
        }
        let printed = self.env.print(self.lines.as_bytes());
        self.lines.clear();
        self.lines.shrink_to(LINES_BYTES_KEPT);
        Ok(printed?)
    }
}
