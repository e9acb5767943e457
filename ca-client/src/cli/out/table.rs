//! Tables: columns as wide as what is in them.

use ca_client::printable::printable;
use pki::time::Timestamp;
use serde_json::Value;

use super::when::annotated;

/// One column: its title, and where in an item of the API its cell is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    path: &'static str,
    is_time: bool,
}

impl Column {
    /// A text, a number, a list: whatever is at `path`, keys with a point between them.
    pub(crate) const fn of(title: &'static str, path: &'static str) -> Self {
        Self {
            title,
            path,
            is_time: false,
        }
    }

    /// A time, with how far off it is.
    pub(crate) const fn time(title: &'static str, path: &'static str) -> Self {
        Self {
            title,
            path,
            is_time: true,
        }
    }
}

/// A table that grows: its columns are as wide as the first rows need.
pub(crate) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    now: Timestamp,
}

impl Table {
    pub(crate) fn new(columns: &'static [Column], now: Timestamp) -> Self {
        Self {
            columns,
            widths: Vec::new(),
            now,
        }
    }

    /// The lines of these items, below the titles where they are the first.
    pub(crate) fn rows(&mut self, items: &[Value]) -> String {
        let cells: Vec<Vec<String>> = items.iter().map(|item| self.cells(item)).collect();
        let mut text = String::new();
        if self.widths.is_empty() {
            let wide = |i: usize| {
                let cells = cells.iter().filter_map(|row| row.get(i));
                cells.map(|cell| width(cell)).max().unwrap_or(0)
            };
            self.widths = (0..self.columns.len())
                .map(|i| wide(i).max(width(self.columns[i].title)))
                .collect();
            let titles: Vec<String> = self.columns.iter().map(|c| c.title.to_owned()).collect();
            self.line(&mut text, &titles);
        }
        for row in &cells {
            self.line(&mut text, row);
        }
        text
    }

    fn cells(&self, item: &Value) -> Vec<String> {
        let cell = |column: &Column| {
            let found = text(at(item, column.path));
            if column.is_time {
                annotated(&found, self.now)
            } else {
                found
            }
        };
        self.columns.iter().map(cell).collect()
    }

    fn line(&self, into: &mut String, cells: &[String]) {
        let mut line = String::new();
        for (cell, wide) in cells.iter().zip(&self.widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(wide.saturating_sub(width(cell)) + 2));
        }
        into.push_str(line.trim_end());
        into.push('\n');
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// What is at `path` in a document.
fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .try_fold(item, |value, key| value.get(key))
        .unwrap_or(&Value::Null)
}

/// A value in one line, safe for a terminal: nothing is `-`, a list its elements.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Number(number) => number.to_string(),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{}={}", printable(key), text(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: [Column; 3] = [
        Column::of("NAME", "name"),
        Column::of("NAMES", "a.names"),
        Column::time("UNTIL", "until"),
    ];

    #[test]
    fn columns_fit_their_content_and_titles_come_once() {
        let now: Timestamp = "2026-11-28T06:00:00Z".parse().unwrap();
        let mut table = Table::new(&COLUMNS, now);
        let text = table.rows(&[
            json!({ "name": "a\u{1b}[2J", "a": { "names": ["x", "y"] }, "until": "2026-11-28T09:00:00Z" }),
            json!({ "name": "東京", "a": { "names": [] }, "until": null }),
        ]);
        assert_eq!(
            text,
            "NAME        NAMES  UNTIL\n\
             a\\u{1b}[2J  x,y    2026-11-28T09:00:00Z (in 3h)\n\
             東京          -      -\n"
        );
        let more = table.rows(&[json!({ "name": "b" })]);
        assert_eq!(more, "b           -      -\n");
        let mut empty = Table::new(&COLUMNS, now);
        assert_eq!(empty.rows(&[]), "NAME  NAMES  UNTIL\n");
    }
}
