//! Reads a TOML table key by key and remembers every fault, so that `config check` can list them all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pki::time::Ttl;
use toml::{Table, Value};

use super::keys::CREDENTIALS_DIRECTORY;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Fault {
    path: String,
    message: String,
}

impl Fault {
    pub(crate) fn new(path: &str, message: String) -> Self {
        Self {
            path: path.to_owned(),
            message,
        }
    }

    /// The key's path, `section.key`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

const PREFIX: &str = "SIGNET__";

/// Every variable that begins with `SIGNET__`, and where systemd put credentials.
pub(crate) fn environment() -> BTreeMap<String, String> {
    // Others' variables may be anything; one of ours that is no UTF-8 is a fault of its value, wherever it is read.
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            (name.starts_with(PREFIX) || name == CREDENTIALS_DIRECTORY)
                .then(|| (name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// What is wrong with the text, and where. The line itself may hold a password and is not repeated.
pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> Fault {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Fault::new(
        &format!("line {line}, column {column}"),
        error.message().to_owned(),
    )
}

/// Puts `SIGNET__SECTION__KEY` over `section.key`, and `SIGNET__SECTION__TABLE__KEY` over `section.table.key`.
pub(crate) fn merge_environment(
    table: &mut Table,
    environment: &BTreeMap<String, String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, value) in environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
    {
        let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
        let Some((sections, key)) = key.rsplit_once("__") else {
            faults.push(Fault::new(name, "expected SIGNET__SECTION__KEY".to_owned()));
            continue;
        };
        let section = sections
            .split("__")
            .try_fold(&mut *table, |table, section| {
                let section = table
                    .entry(section)
                    .or_insert_with(|| Value::Table(Table::new()));
                section.as_table_mut()
            });
        match section {
            Some(section) => {
                section.insert(key.to_owned(), Value::String(value.clone()));
            }
            None => faults.push(Fault::new(name, "its section is not a table".to_owned())),
        }
    }
    faults
}

/// A table under reading. What [`Section::finish`] still finds in it is unknown, and a fault.
pub(crate) struct Section<'a> {
    table: Table,
    path: String,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(table: Table, faults: &'a mut Vec<Fault>) -> Self {
        Self {
            table,
            path: String::new(),
            faults,
        }
    }

    pub(crate) fn section(&mut self, name: &str) -> Section<'_> {
        let path = self.path_of(name);
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.fault(name, "expected a table".to_owned());
                Table::new()
            }
        };
        Section {
            table,
            path,
            faults: self.faults,
        }
    }

    /// Reads each table of a list, `[[name]]`.
    pub(crate) fn each(&mut self, name: &str, mut read: impl FnMut(&mut Section<'_>)) {
        let tables = match self.table.remove(name) {
            None => return,
            Some(Value::Array(tables)) => tables,
            Some(_) => return self.fault(name, "expected a list of tables".to_owned()),
        };
        for (index, table) in tables.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(name));
            let Value::Table(table) = table else {
                self.faults
                    .push(Fault::new(&path, "expected a table".to_owned()));
                continue;
            };
            let mut section = Section {
                table,
                path,
                faults: self.faults,
            };
            read(&mut section);
            section.finish();
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(crate) fn fault(&mut self, key: &str, message: String) {
        let path = self.path_of(key);
        self.faults.push(Fault::new(&path, message));
    }

    /// A string, or what prints as one: environment overrides are always strings, so numbers may be too.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(value) => Some(value.to_string()),
            _ => {
                self.fault(key, "expected a string".to_owned());
                None
            }
        }
    }

    pub(crate) fn optional<T: FromStr<Err: std::fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, error.to_string());
                None
            }
        }
    }

    pub(crate) fn required<T: FromStr<Err: std::fmt::Display>>(&mut self, key: &str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.fault(key, "is missing".to_owned());
            return None;
        }
        self.optional(key)
    }

    /// Whether it is set; no if nothing is said.
    pub(crate) fn flag(&mut self, key: &str) -> bool {
        self.optional(key).unwrap_or(false)
    }

    pub(crate) fn duration(&mut self, key: &str, default: Duration, most: Duration) -> Duration {
        let ttl = self.optional::<Ttl>(key);
        let given = ttl.and_then(|ttl| u64::try_from(ttl.seconds()).ok());
        let duration = given.map_or(default, Duration::from_secs);
        if duration > most {
            let most = most.as_secs();
            self.fault(
                key,
                format!("at most {most}s, {}s is longer", duration.as_secs()),
            );
        }
        duration
    }

    /// A file's path. A number is none, though it would do for a name.
    pub(crate) fn path(&mut self, key: &str) -> Option<PathBuf> {
        match self.table.remove(key)? {
            Value::String(text) if !text.is_empty() => Some(text.into()),
            _ => {
                self.fault(key, "expected the path of a file".to_owned());
                None
            }
        }
    }

    pub(crate) fn ttl(&mut self, key: &str, default: Ttl, least: Ttl, most: Ttl) -> Ttl {
        match self.optional::<Ttl>(key) {
            None => default,
            Some(ttl) if (least..=most).contains(&ttl) => ttl,
            Some(ttl) => {
                self.fault(key, format!("{ttl} is outside {least} to {most}"));
                default
            }
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(crate) fn number<N>(&mut self, key: &str, default: N, least: N, most: N) -> N
    where
        N: FromStr<Err: std::fmt::Display> + PartialOrd + Copy + std::fmt::Display,
    {
        match self.optional::<N>(key) {
            None => default,
            Some(number) if (least..=most).contains(&number) => number,
            Some(number) => {
                self.fault(key, format!("{number} is outside {least} to {most}"));
                default
            }
        }
    }

    pub(crate) fn address(&mut self, key: &str, default: &str) -> SocketAddr {
        let fallback = SocketAddr::from(([127, 0, 0, 1], 0));
        match self.text(key).unwrap_or_else(|| default.to_owned()).parse() {
            Ok(address) => address,
            Err(_) => {
                self.fault(
                    key,
                    "expected an address and a port, like 0.0.0.0:8443".to_owned(),
                );
                fallback
            }
        }
    }

    /// A list of strings; from the environment, separated by commas.
    pub(crate) fn list(&mut self, key: &str) -> Vec<String> {
        match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::String(text)) => text.split(',').map(|s| s.trim().to_owned()).collect(),
            Some(Value::Array(values)) => {
                let texts: Option<Vec<String>> = values
                    .into_iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect();
                texts.unwrap_or_else(|| {
                    self.fault(key, "expected a list of strings".to_owned());
                    Vec::new()
                })
            }
            Some(_) => {
                self.fault(key, "expected a list of strings".to_owned());
                Vec::new()
            }
        }
    }

    pub(crate) fn finish(self) {
        for key in self.table.keys() {
            let path = self.path_of(key);
            self.faults
                .push(Fault::new(&path, "is not a known key".to_owned()));
        }
    }
}
