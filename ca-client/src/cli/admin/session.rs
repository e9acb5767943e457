//! One run of a command of administration: the client, the form of the output, and what most commands do with both.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context as _, Result};
use ca_client::api::{Answer, ApiClient, ApiError, Call};
use ca_client::contexts::{ContextName, Contexts};
use clap::Args;
use pki::time::Timestamp;
use serde_json::Value;

use super::connection::Connection;
use super::files::NewFile;
use crate::cli::exit::{Exit, Usage};
use crate::cli::out::{self, Column, Form, Progress, Table};

/// How much of a list is wanted.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Paging {
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// All there are, however many pages that is
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    fn limit(self) -> Option<usize> {
        (!self.all).then_some(self.limit)
    }
}

/// A client and how its answers are printed.
pub(crate) struct Session {
    pub(super) client: ApiClient,
    pub(super) output: Form,
    pub(super) now: Timestamp,
    /// The context that it was opened by, if it was by one.
    pub(super) context: Option<ContextName>,
}

impl Session {
    /// # Errors
    /// When it is not clear which CA is meant, or its roots do not read.
    pub(super) fn open(connection: &Connection, now: Timestamp) -> Result<Self> {
        // Without a home there are no contexts, and flags may say all.
        let contexts = match Contexts::default_path() {
            Ok(path) => Contexts::load(&path)?,
            Err(_) => Contexts::default(),
        };
        let target = connection.target(&contexts)?;
        let context = target.context.clone();
        Ok(Self {
            client: connection.client(target)?,
            output: connection.output,
            now,
            context,
        })
    }

    pub(super) async fn send(&self, call: &Call) -> Result<Answer> {
        Ok(self.client.send(call).await?)
    }

    /// Asks for a file and writes it to one that is not there yet, or to standard output: binary only where that is no terminal.
    pub(super) async fn fetch(
        &self,
        call: &Call,
        is_binary: bool,
        out_file: Option<&Path>,
    ) -> Result<Exit> {
        if is_binary && out_file.is_none() && std::io::stdout().is_terminal() {
            return Err(Usage("DER is not for a terminal: give --out".to_owned()).into());
        }
        let place = out_file
            .map(|path| NewFile::create(path, 0o644))
            .transpose()?;
        let answer = self.send(call).await?;
        match place {
            Some(place) => place.write(answer.body())?,
            None if is_binary => out::put(answer.body())?,
            None => {
                let text = String::from_utf8_lossy(answer.body());
                out::put(ca_client::printable::printable_lines(&text).as_bytes())?;
            }
        }
        Ok(Exit::Done)
    }

    /// Reads one document and its version.
    pub(super) async fn read(&self, segments: &[&str]) -> Result<(Value, String)> {
        let answer = self.send(&Call::get(segments)).await?;
        // A server without versions takes any.
        let etag = answer.etag().unwrap_or("*").to_owned();
        Ok((answer.json()?, etag))
    }

    /// The same where there may be none.
    pub(super) async fn read_if_there(&self, segments: &[&str]) -> Result<Option<(Value, String)>> {
        match self.read(segments).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.downcast_ref() {
                Some(ApiError::Problem(problem)) if problem.status == 404 => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Reads one document and prints it; `first` says which keys people see first.
    pub(super) async fn show(&self, segments: &[&str], first: &[&str]) -> Result<Exit> {
        let (value, _) = self.read(segments).await?;
        self.print(&value, first)?;
        Ok(Exit::Done)
    }

    /// Prints one document.
    pub(super) fn print(&self, value: &Value, first: &[&str]) -> Result<()> {
        match self.output {
            Form::Table => out::put(out::document(value, first, self.now).as_bytes()),
            form => out::json(value, form),
        }
    }

    /// Prints a list of the API, page by page.
    pub(super) async fn list(
        &self,
        call: Call,
        paging: Paging,
        columns: &'static [Column],
    ) -> Result<Exit> {
        let mut pages = self.client.pages(call, paging.limit());
        let mut list = List::new(self.output, columns, self.now);
        let mut progress = Progress::new("listed");
        while let Some(items) = pages.next().await? {
            list.items(&items)?;
            progress.add(items.len());
        }
        drop(progress);
        list.end()?;
        if pages.has_more() {
            out::note("there is more: --all, or a higher --limit");
        }
        Ok(Exit::Done)
    }

    /// A whole list, for what needs all of it.
    pub(super) async fn collect(&self, call: Call) -> Result<Vec<Value>> {
        let mut pages = self.client.pages(call, None);
        let mut all = Vec::new();
        while let Some(mut items) = pages.next().await? {
            all.append(&mut items);
        }
        Ok(all)
    }

    /// Does something and says that it is done, or that it waits for a second person.
    pub(super) async fn act(
        &self,
        call: Call,
        done: impl FnOnce(&Value) -> String,
    ) -> Result<Exit> {
        let answer = self.send(&call).await?;
        let value = answer.json()?;
        if answer.is_proposal() {
            return self.waits(&value);
        }
        match self.output {
            Form::Table => out::say(&done(&value))?,
            form => out::json(&value, form)?,
        }
        Ok(Exit::Done)
    }

    /// Says that what was asked waits for a second person.
    pub(super) fn waits(&self, proposal: &Value) -> Result<Exit> {
        super::proposal::print(self, proposal)?;
        let id = out::text(proposal.get("id").unwrap_or(&Value::Null));
        out::note(&format!(
            "nothing is changed yet: another person has to agree, with: ca proposal approve {id}"
        ));
        Ok(Exit::Waiting)
    }

    /// Removes what is at `segments`, in the version that is there now.
    pub(super) async fn remove(&self, segments: &[&str], done: &str) -> Result<Exit> {
        let (_, etag) = self.read(segments).await?;
        self.act(Call::delete(segments, &etag), |_| done.to_owned())
            .await
    }
}

/// A list that is printed as it comes.
pub(super) struct List {
    form: Form,
    table: Table,
    count: usize,
}

impl List {
    pub(super) fn new(form: Form, columns: &'static [Column], now: Timestamp) -> Self {
        Self {
            form,
            table: Table::new(columns, now),
            count: 0,
        }
    }

    pub(super) fn items(&mut self, items: &[Value]) -> Result<()> {
        if self.form == Form::Table {
            self.count += items.len();
            return out::put(self.table.rows(items).as_bytes());
        }
        let mut text = String::new();
        for item in items {
            if self.form == Form::Json {
                text.push_str(if self.count == 0 { "[\n" } else { ",\n" });
            }
            let line = serde_json::to_string(item).context("cannot write the answer")?;
            text.push_str(&ca_client::printable::printable_json(&line));
            if self.form == Form::Jsonl {
                text.push('\n');
            }
            self.count += 1;
        }
        out::put(text.as_bytes())
    }

    pub(super) fn end(self) -> Result<()> {
        match (self.form, self.count) {
            (Form::Json, 0) => out::say("[]"),
            (Form::Json, _) => out::say("\n]"),
            _ => Ok(()),
        }
    }
}
