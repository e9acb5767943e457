//! What is wrong with a plan: everything at once, each with its place; and the reader that finds it.

use std::fmt;

use toml::{Table, Value};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a key of the plan, as `intermediate[1].life`, or a file.
    pub at: String,
    /// What is wrong and what was expected.
    pub what: String,
}

/// Everything that is wrong, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.0
    }

    pub(super) fn one(at: impl Into<String>, what: impl fmt::Display) -> Self {
        let mut faults = Self::default();
        faults.push(at, what);
        faults
    }

    pub(super) fn push(&mut self, at: impl Into<String>, what: impl fmt::Display) {
        self.0.push(Fault {
            at: at.into(),
            what: what.to_string(),
        });
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// `value`, when it is there and nothing is wrong.
    pub(super) fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Faults {
    /// One a line: `place: what`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Fault { at, what }) in self.0.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}{at}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A table of the plan that is being read: what is taken out is known, what is left at the end is a fault.
pub(super) struct Section {
    path: String,
    table: Table,
}

impl Section {
    pub(super) fn root(table: Table) -> Self {
        Self {
            path: String::new(),
            table,
        }
    }

    /// The place of `key` in the plan.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// A text (or a date, as text) that `parse` takes; `None` when absent or wrong.
    pub(super) fn optional<T, E: std::error::Error>(
        &mut self,
        faults: &mut Faults,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = match self.table.remove(key)? {
            Value::String(text) => text,
            Value::Datetime(time) => time.to_string(),
            other => {
                let found = other.type_str();
                faults.push(
                    self.at(key),
                    format_args!("expected a text, found a {found}"),
                );
                return None;
            }
        };
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                faults.push(self.at(key), chain(&error));
                None
            }
        }
    }

    /// As [`Section::optional`]; its absence is a fault.
    pub(super) fn required<T, E: std::error::Error>(
        &mut self,
        faults: &mut Faults,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            faults.push(self.at(key), "is missing");
        }
        self.optional(faults, key, parse)
    }

    /// Any value.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    /// A table that must be there.
    pub(super) fn section(&mut self, faults: &mut Faults, key: &str) -> Option<Self> {
        let path = self.at(key);
        match self.table.remove(key) {
            Some(Value::Table(table)) => Some(Self { path, table }),
            Some(_) => {
                faults.push(path, "expected a table");
                None
            }
            None => {
                faults.push(path, "is missing");
                None
            }
        }
    }

    /// A table that may be left out.
    pub(super) fn optional_section(&mut self, faults: &mut Faults, key: &str) -> Option<Self> {
        self.table
            .contains_key(key)
            .then(|| self.section(faults, key))
            .flatten()
    }

    /// The tables of an array; none when it is absent.
    pub(super) fn sections(&mut self, faults: &mut Faults, key: &str) -> Vec<Self> {
        let path = self.at(key);
        let Some(value) = self.table.remove(key) else {
            return Vec::new();
        };
        let Value::Array(values) = value else {
            faults.push(path.clone(), format_args!("expected tables, as [[{path}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, value) in values.into_iter().enumerate() {
            let path = format!("{path}[{i}]");
            match value {
                Value::Table(table) => sections.push(Self { path, table }),
                _ => faults.push(path, "expected a table"),
            }
        }
        sections
    }

    /// Refuses what nobody took.
    pub(super) fn end(self, faults: &mut Faults) {
        for key in self.table.keys() {
            faults.push(self.at(key), "is not known in this ceremony");
        }
    }
}
