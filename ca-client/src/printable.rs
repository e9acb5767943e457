//! Text of others, made safe for a terminal.

/// `text` with everything escaped that moves a cursor, turns the direction of writing or is not seen: what a server or a file
/// says cannot draw over what we say.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// The same for a text of several lines: line feeds and tabulators stay.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", printable_line(line)),
            None => printable_line(line),
        })
        .collect()
}

fn printable_line(line: &str) -> String {
    let cells: Vec<String> = line.split('\t').map(printable).collect();
    cells.join("\t")
}

/// JSON text whose strings hold nothing unsafe: the serializer escapes what JSON asks it to, which leaves DEL, the second
/// control block and the marks of direction.
#[must_use]
pub fn printable_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        // White space between the tokens is the serializer's own; within strings it has escaped it.
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Controls, marks of direction, line and paragraph separators, and what has no width.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_line_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("x\u{202e}y\u{200b}"), "x\\u{202e}y\\u{200b}");
        assert_eq!(printable("Zürich 東京"), "Zürich 東京");
        assert_eq!(printable_lines("a\tb\n\u{9b}c\n"), "a\tb\n\\u{9b}c\n");
    }

    #[test]
    fn json_says_the_same_as_before() {
        let value = serde_json::json!({ "a": "\u{1b}\u{7f}\u{202e}\u{e0041}b" });
        let text = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.is_ascii(), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, value);
    }
}
