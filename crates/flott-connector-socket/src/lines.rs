//! Cuts a stream of bytes into lines, however they arrive.

/// A line of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    /// Longer than the limit; the beginning of it.
    TooLong(Vec<u8>),
}

/// Of a line that is too long, what is kept.
const HEAD_BYTES: usize = 4096;

/// Bytes that arrived and are not taken yet: at most about one line of the largest size and what came with its end.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    line_bytes_max: usize,
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No line end in `start..searched`.
    searched: usize,
    /// The beginning of the line whose rest is being thrown away.
    long_head: Option<Vec<u8>>,
}

impl LineBuffer {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, bytes: Vec::new(), start: 0, searched: 0, long_head: None }
    }

    /// Appends what arrived.
    pub(crate) fn push(&mut self, arrived: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(arrived);
    }

    /// The next line that has arrived completely.
    pub(crate) fn next_line(&mut self) -> Option<Line<'_>> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.bytes.len();
            self.drop_long();
            return None;
        };
        let (start, end) = (self.start, self.searched + at);
        (self.start, self.searched) = (end + 1, end + 1);
        Some(self.line(start, end))
    }

    /// What stands after the last line end, if anything; the stream has ended.
    pub(crate) fn take_rest(&mut self) -> Option<Line<'_>> {
        let (start, end) = (self.start, self.bytes.len());
        if start == end && self.long_head.is_none() {
            return None;
        }
        (self.start, self.searched) = (end, end);
        Some(self.line(start, end))
    }

    /// The line that ends at `end`.
    fn line(&mut self, start: usize, end: usize) -> Line<'_> {
        if let Some(head) = self.long_head.take() {
            return Line::TooLong(head);
        }
        let line = self.bytes.get(start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= self.line_bytes_max {
            Line::Whole(line)
        } else {
            Line::TooLong(line.get(..HEAD_BYTES).unwrap_or(line).to_vec())
        }
    }

    /// Forgets all but the beginning of a line that is already too long.
    fn drop_long(&mut self) {
        let begun = self.bytes.len() - self.start;
        if self.long_head.is_none() && begun > self.line_bytes_max.saturating_add(1) {
            let head = self.bytes.get(self.start..).unwrap_or_default();
            self.long_head = Some(head.get(..HEAD_BYTES).unwrap_or(head).to_vec());
        }
        if self.long_head.is_some() {
            self.bytes = Vec::new();
            (self.start, self.searched) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, LineBuffer};

    fn lines(chunks: &[&[u8]], line_bytes_max: usize) -> Vec<String> {
        let mut buffer = LineBuffer::new(line_bytes_max);
        let text = |line: Line<'_>| match line {
            Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
            Line::TooLong(head) => format!("{}…", String::from_utf8_lossy(&head)),
        };
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.push(chunk);
            while let Some(line) = buffer.next_line() {
                lines.push(text(line));
            }
        }
        lines.extend(buffer.take_rest().map(text));
        assert_eq!(buffer.take_rest(), None);
        lines
    }

    #[test]
    fn lines_do_not_depend_on_how_their_bytes_arrive() {
        let text = "a\r\n\n1234\n12345\n123456\nb\r\r\n12345678901234567890\nlast".as_bytes();
        let expected = ["a", "", "1234", "1234…", "1234…", "b\r", "1234…", "last"];
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let lines: Vec<String> = lines(&chunks, 4);
            // Of a long line, the more is shown the more of it arrived at once.
            let shown = |line: &String| match line.strip_suffix('…') {
                Some(head) => format!("{}…", &head[..4]),
                None => line.clone(),
            };
            assert_eq!(lines.iter().map(shown).collect::<Vec<_>>(), expected, "{size} bytes at a time");
        }
        assert_eq!(lines(&[b"12345678"], 4), ["12345678…"], "the stream ends in a long line");
        assert_eq!(lines(&[b"a\n", b"\n"], 4), ["a", ""]);
        assert_eq!(lines(&[], 4), [] as [&str; 0]);
    }

    #[test]
    fn a_long_line_is_not_held() {
        let mut buffer = LineBuffer::new(1000);
        for _ in 0..10_000 {
            buffer.push(&[b'x'; 1000]);
            assert_eq!(buffer.next_line(), None);
            assert!(buffer.bytes.capacity() <= 4000, "{} bytes are held", buffer.bytes.capacity());
        }
        buffer.push(b"\nshort\n");
        assert!(matches!(buffer.next_line(), Some(Line::TooLong(_))));
        assert_eq!(buffer.next_line(), Some(Line::Whole(b"short")));
    }
}
