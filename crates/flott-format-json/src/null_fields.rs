//! Leaves fields that are `null` out of a JSON text.
//!
//! On the text rather than on the value: a value of serde_json would lose the order of the fields, and a serializer around the serializer
//! would have to ask each field twice.

const NULL: &[u8] = b"null";

/// Appends `json`, as serde_json writes it without white space, to `out`, without the fields that are `null`.
pub(crate) fn remove_null_fields(json: &[u8], out: &mut Vec<u8>) {
    // Where the string that was copied last begins: before a colon it is the key.
    let mut key_start = out.len();
    let mut rest = json;
    while let Some((&byte, behind)) = rest.split_first() {
        match byte {
            b'"' => {
                key_start = out.len();
                let (string, behind) = rest.split_at(string_len(rest));
                out.extend_from_slice(string);
                rest = behind;
            }
            // Outside of strings a colon only stands behind a key.
            b':' if behind.starts_with(NULL) => {
                out.truncate(key_start);
                rest = behind.get(NULL.len()..).unwrap_or_default();
                // Of the commas on both sides one may stay, and none at the edge of the object.
                if out.ends_with(b"{") {
                    rest = rest.strip_prefix(b",").unwrap_or(rest);
                } else if out.ends_with(b",") {
                    out.pop();
                }
            }
            _ => {
                out.push(byte);
                rest = behind;
            }
        }
    }
}

/// The length of the string at the start of `json`, with both quotes.
fn string_len(json: &[u8]) -> usize {
    let mut len = 1;
    while let Some(at) = json.get(len..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if json.get(len + at) == Some(&b'"') {
            return len + at + 1;
        }
        // What a backslash is followed by is no end, and there is more of the string behind it.
        len = (len + at + 2).min(json.len());
    }
    json.len()
}
