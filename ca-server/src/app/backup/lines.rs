//! What is inside of a backup: lines of JSON, so that whoever opens one with `age` can read it with any tool.
//!
//! The first says what it is; then each table's name and columns, before a line for each of its rows, bytes in base64; the
//! last has the summary, by which a reader sees that nothing is missing.

use std::io::{self, BufRead, Write};

use base64ct::{Base64, Encoding};
use pki::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::summary::{Counter, Summary};
use crate::store::transfer::{Dumped, Kind, Loaded, Origin, Table, Value};

/// Grows when an older program could not read what a newer one writes.
const VERSION: u32 = 1;
const FORMAT: &str = "signet-backup";

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    format: String,
    version: u32,
    /// The release that made it.
    pub program: String,
    /// The engine that it was made from; it restores into any.
    pub engine: String,
    /// The migrations that its schema had.
    pub schema: Vec<i64>,
    /// When it was begun, in seconds since 1970.
    taken_at: i64,
}

impl About {
    /// When it was begun: everything that was acknowledged before is in it.
    #[must_use]
    pub fn taken_at(&self) -> Timestamp {
        Timestamp::from_unix(self.taken_at)
    }
}

#[derive(Serialize, Deserialize)]
struct TableLine {
    table: String,
    columns: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    end: Summary,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Writes a backup.
pub(super) struct LineWriter<W> {
    out: W,
    taken_at: Timestamp,
    counter: Counter,
    line: Vec<u8>,
}

impl<W: Write> LineWriter<W> {
    pub(super) fn new(out: W, taken_at: Timestamp) -> Self {
        let (counter, line) = (Counter::default(), Vec::new());
        Self {
            out,
            taken_at,
            counter,
            line,
        }
    }

    pub(super) fn take(&mut self, item: &Dumped<'_>) -> io::Result<()> {
        self.line.clear();
        match item {
            Dumped::Origin(Origin { engine, migrations }) => {
                let about = About {
                    format: FORMAT.to_owned(),
                    version: VERSION,
                    program: env!("CARGO_PKG_VERSION").to_owned(),
                    engine: engine.clone(),
                    schema: migrations.clone(),
                    taken_at: self.taken_at.unix(),
                };
                serde_json::to_writer(&mut self.line, &about)?;
            }
            Dumped::Table(table) => {
                self.counter.table(table);
                let columns = table.columns.iter();
                let line = TableLine {
                    table: table.name.clone(),
                    columns: columns
                        .map(|(name, kind)| (name.clone(), kind.as_str().to_owned()))
                        .collect(),
                };
                serde_json::to_writer(&mut self.line, &line)?;
            }
            Dumped::Row(row) => {
                self.counter.row(row);
                encode(row, &mut self.line)?;
            }
        }
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    pub(super) fn finish(mut self) -> io::Result<(W, Summary)> {
        let end = EndLine {
            end: self.counter.finish(),
        };
        serde_json::to_writer(&mut self.out, &end)?;
        self.out.write_all(b"\n")?;
        Ok((self.out, end.end))
    }
}

fn encode(row: &[Value], line: &mut Vec<u8>) -> io::Result<()> {
    line.push(b'[');
    for (i, value) in row.iter().enumerate() {
        if i > 0 {
            line.push(b',');
        }
        match value {
            Value::Null => line.extend_from_slice(b"null"),
            Value::Integer(number) => write!(line, "{number}")?,
            Value::Text(text) => serde_json::to_writer(&mut *line, text)?,
            Value::Blob(bytes) => {
                line.push(b'"');
                line.extend_from_slice(Base64::encode_string(bytes).as_bytes());
                line.push(b'"');
            }
        }
    }
    line.push(b']');
    Ok(())
}

/// Reads a backup.
pub(super) struct LineReader<R> {
    input: R,
    about: About,
    counter: Counter,
    line: Vec<u8>,
    summary: Option<Summary>,
}

impl<R: BufRead> LineReader<R> {
    /// Reads the first line.
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line)?;
        let about: About = serde_json::from_slice(&line)
            .map_err(|_| invalid("it is not a backup of ca-server"))?;
        if about.format != FORMAT || about.version != VERSION {
            let text = "it is a backup of another form: read it with the release that made it";
            return Err(invalid(format!("{text} ({})", about.program)));
        }
        let counter = Counter::default();
        Ok(Self {
            input,
            about,
            counter,
            line,
            summary: None,
        })
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// The summary, once everything was read.
    pub(super) fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// The next table or row; `None` when that was everything, and nothing is missing.
    pub(super) fn next(&mut self) -> io::Result<Option<Loaded>> {
        if self.summary.is_some() {
            return Ok(None);
        }
        self.line.clear();
        self.input.read_until(b'\n', &mut self.line)?;
        if self.line.first() == Some(&b'[') {
            let table = self
                .counter
                .current()
                .ok_or_else(|| invalid("a row before any table"))?;
            let row = decode(table, &self.line)?;
            self.counter.row(&row);
            return Ok(Some(Loaded::Row(row)));
        }
        if let Ok(line) = serde_json::from_slice::<TableLine>(&self.line) {
            let table = read_table(line)?;
            self.counter.table(&table);
            return Ok(Some(Loaded::Table(table)));
        }
        let end = serde_json::from_slice::<EndLine>(&self.line);
        let told = end
            .map_err(|_| {
                invalid("a line is neither a table nor a row, or the last one is missing")
            })?
            .end;
        let found = self.counter.finish();
        if told != found {
            return Err(invalid("its last line does not tell what it has"));
        }
        let mut rest = [0];
        if self.input.read(&mut rest)? > 0 {
            return Err(invalid("there is more after its last line"));
        }
        self.summary = Some(found);
        Ok(None)
    }
}

fn read_table(line: TableLine) -> io::Result<Table> {
    let kind = |(name, kind): (String, String)| {
        let kind = Kind::parse(&kind).ok_or_else(|| invalid("a column of another kind"))?;
        Ok((name, kind))
    };
    let columns = line
        .columns
        .into_iter()
        .map(kind)
        .collect::<io::Result<_>>()?;
    Ok(Table {
        name: line.table,
        columns,
    })
}

fn decode(table: &Table, line: &[u8]) -> io::Result<Vec<Value>> {
    use serde_json::Value as Json;
    let wrong = || {
        invalid(format!(
            "a row of {} is not what its columns say",
            table.name
        ))
    };
    let values: Vec<Json> = serde_json::from_slice(line).map_err(|_| wrong())?;
    if values.len() != table.columns.len() {
        return Err(wrong());
    }
    let read = |(value, (_, kind)): (Json, &(String, Kind))| {
        Ok(match (value, kind) {
            (Json::Null, _) => Value::Null,
            (Json::Number(number), Kind::Integer) => {
                Value::Integer(number.as_i64().ok_or_else(wrong)?)
            }
            (Json::String(text), Kind::Text) => Value::Text(text),
            (Json::String(text), Kind::Blob) => {
                Value::Blob(Base64::decode_vec(&text).map_err(|_| wrong())?)
            }
            _ => return Err(wrong()),
        })
    };
    values.into_iter().zip(&table.columns).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> String {
        let mut writer = LineWriter::new(Vec::new(), Timestamp::from_unix(1_795_575_180));
        let origin = Origin {
            engine: "sqlite".to_owned(),
            migrations: vec![1, 2],
        };
        writer.take(&Dumped::Origin(&origin)).unwrap();
        let columns = [
            ("authority", Kind::Text),
            ("next_index", Kind::Integer),
            ("x", Kind::Blob),
        ];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec();
        let table = Table {
            name: "issuance_log".to_owned(),
            columns,
        };
        writer.take(&Dumped::Table(&table)).unwrap();
        for (name, size, bytes) in [("a-1", -3, vec![]), ("ä\n\"\\", i64::MAX, vec![0, 255, 10])] {
            let row = [
                Value::Text(name.to_owned()),
                Value::Integer(size),
                Value::Blob(bytes),
            ];
            writer.take(&Dumped::Row(&row)).unwrap();
        }
        writer
            .take(&Dumped::Row(&[Value::Null, Value::Null, Value::Null]))
            .unwrap();
        let (out, summary) = writer.finish().unwrap();
        assert_eq!(summary.rows("issuance_log"), 3);
        assert_eq!(summary.authorities["a-1"].log_size, -3);
        String::from_utf8(out).unwrap()
    }

    fn read(text: &str) -> io::Result<Vec<Loaded>> {
        let mut reader = LineReader::new(text.as_bytes())?;
        let mut items = Vec::new();
        while let Some(item) = reader.next()? {
            items.push(item);
        }
        assert!(reader.summary().is_some());
        Ok(items)
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let items = read(&written()).unwrap();
        assert_eq!(items.len(), 4);
        let Loaded::Row(row) = &items[2] else {
            panic!("{items:?}")
        };
        let expected = [
            Value::Text("ä\n\"\\".to_owned()),
            Value::Integer(i64::MAX),
            Value::Blob(vec![0, 255, 10]),
        ];
        assert_eq!(row, &expected);
    }

    #[test]
    fn what_is_missing_added_or_of_another_kind_is_noticed() {
        let text = written();
        let lines: Vec<&str> = text.lines().collect();
        for left_out in 0..lines.len() {
            let rest: Vec<_> = (0..lines.len())
                .filter(|i| *i != left_out)
                .map(|i| lines[i])
                .collect();
            assert!(
                read(&(rest.join("\n") + "\n")).is_err(),
                "without line {left_out}"
            );
            assert!(
                read(&format!("{text}{}\n", lines[left_out])).is_err(),
                "{left_out} again"
            );
        }
        for (from, to) in [
            ("-3,", "\"-3\","),
            ("-3,", "1.5,"),
            (",\"\"]", "]"),
            (",\"\"]", ",\"*\"]"),
            ("\"blob\"", "\"real\""),
            ("\"version\":1", "\"version\":2"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert!(changed != text && read(&changed).is_err(), "{to}");
        }
    }
}
