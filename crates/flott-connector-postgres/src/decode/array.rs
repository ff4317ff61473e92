//! The text form of arrays.

use super::DecodeError;

/// The elements of an array; of one with more dimensions, arrays.
pub(crate) fn elements(text: &str) -> Result<Vec<Option<String>>, DecodeError> {
    let wrong = || DecodeError(format!("'{}' is no array", text.chars().take(100).collect::<String>()));
    // Bounds that do not begin at 1 stand before: `[0:1]={1,2}`.
    let body = text.strip_prefix('[').and_then(|rest| Some(rest.split_once("]=")?.1)).unwrap_or(text);
    let body = body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let (mut elements, mut element, mut state) = (Vec::new(), Element::default(), State::default());
    for character in body.chars() {
        match (state.is_quoted, state.is_escaped, character) {
            (_, true, _) => {
                element.text.push(character);
                state.is_escaped = false;
            }
            (_, false, '\\') => {
                state.is_escaped = true;
                state.keep(&mut element, character);
            }
            (quoted, false, '"') => {
                state.is_quoted = !quoted;
                element.was_quoted = true;
                state.keep(&mut element, character);
            }
            (false, false, '{') => {
                state.depth += 1;
                element.text.push(character);
            }
            (false, false, '}') => {
                state.depth = state.depth.checked_sub(1).ok_or_else(wrong)?;
                element.text.push(character);
            }
            (false, false, ',') if state.depth == 0 => elements.push(std::mem::take(&mut element).finish()),
            _ => element.text.push(character),
        }
    }
    if state.is_quoted || state.is_escaped || state.depth > 0 {
        return Err(wrong());
    }
    if !body.is_empty() {
        elements.push(element.finish());
    }
    Ok(elements)
}

#[derive(Default)]
struct State {
    is_quoted: bool,
    is_escaped: bool,
    depth: usize,
}

impl State {
    /// An inner array is read later, with its quotes.
    fn keep(&self, element: &mut Element, character: char) {
        if self.depth > 0 {
            element.text.push(character);
        }
    }
}

#[derive(Default)]
struct Element {
    text: String,
    was_quoted: bool,
}

impl Element {
    fn finish(self) -> Option<String> {
        (self.was_quoted || !self.text.eq_ignore_ascii_case("NULL")).then_some(self.text)
    }
}

/// The text form of an array of texts.
pub(crate) fn array_text<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", texts.map(quoted).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::{array_text, elements};

    #[test]
    fn arrays_are_read_as_they_are_written() {
        let texts = ["", "a", "NULL", "b\"c\\,{}", "é"];
        let read = elements(&array_text(texts.into_iter())).unwrap();
        assert_eq!(read, texts.map(|text| Some(text.to_owned())));
        assert_eq!(elements("{}").unwrap(), []);
        let one = |text: &str| vec![Some(text.to_owned())];
        assert_eq!(elements("[0:0]={x}").unwrap(), one("x"));
        assert_eq!(elements(r#"{{"a,}",b}}"#).unwrap(), one(r#"{"a,}",b}"#));
        for wrong in ["", "{", "1", "{\"}", "{a}}", "{\\}"] {
            elements(wrong).expect_err(wrong);
        }
    }
}
