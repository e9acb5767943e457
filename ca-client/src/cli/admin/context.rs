//! `ca context`: which CAs there are to administer, and as whom.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ca_client::contexts::{Context, ContextName, Contexts};
use ca_client::{Endpoint, ServerAddress, ServerName};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Usage};
use crate::cli::out::{self, Column, Form, Table};

const COLUMNS: &[Column] = &[
    Column::of("IN USE", "current"),
    Column::of("NAME", "name"),
    Column::of("URL", "url"),
    Column::of("AS", "as"),
];

/// Arguments of `ca context`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How the answer is printed
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    output: Form,
    #[command(subcommand)]
    verb: ContextVerb,
}

#[derive(Debug, Subcommand)]
enum ContextVerb {
    /// Remember a CA; the first one is in use at once
    #[command(after_help = "\
Examples:
  ca context add prod --url https://ca.example:8444 --root root.pem --cert ada.pem --key ada.key
  ca context add lab --url https://ca.lab:8444 --root lab-root.pem --token-file /run/user/1000/lab.token

The file is $XDG_CONFIG_HOME/signet/contexts.toml (else ~/.config), mode 0600; keys and tokens stay where they are.")]
    Add(Box<Add>),
    /// Use a CA from now on
    #[command(after_help = "Example:\n  ca context use prod")]
    Use {
        /// Its name
        name: ContextName,
    },
    /// List the CAs
    #[command(after_help = "Example:\n  ca context list")]
    List,
    /// Print one
    #[command(after_help = "Example:\n  ca context show prod")]
    Show {
        /// Its name [default: the one in use]
        name: Option<ContextName>,
    },
    /// Forget a CA; keys, certificates and tokens stay where they are
    #[command(after_help = "Example:\n  ca context remove lab")]
    Remove {
        /// Its name
        name: ContextName,
    },
}

/// Arguments of `ca context add`.
#[derive(Debug, Args)]
struct Add {
    /// What it is called here
    name: ContextName,
    /// Its `admin` listener, https://host:port
    #[arg(long, value_name = "URL")]
    url: ServerAddress,
    /// PEM file of the roots that vouch for it
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The name in its certificate, where it is not the host of --url
    #[arg(long, value_name = "NAME")]
    server_name: Option<ServerName>,
    /// PEM file of our certificate, leaf first
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        conflicts_with = "token_file"
    )]
    cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// File with an OpenID Connect token, in place of a certificate
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Use it from now on
    #[arg(long = "use")]
    use_it: bool,
    /// Put it in the place of one of the same name
    #[arg(long)]
    replace: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit> {
        let path = Contexts::default_path()?;
        let mut contexts = Contexts::load(&path)?;
        match self.verb {
            ContextVerb::Add(add) => {
                let said = add.run(&mut contexts)?;
                contexts.save(&path)?;
                self.output.done(&said)?;
            }
            ContextVerb::Use { name } => {
                contexts.get(&name)?;
                contexts.current = Some(name.clone());
                contexts.save(&path)?;
                self.output.done(&format!("{name} is in use"))?;
            }
            ContextVerb::List => list(&contexts, self.output)?,
            ContextVerb::Show { name } => {
                let name = name.or(contexts.current.clone());
                let name = name
                    .ok_or_else(|| Usage("no context is in use: ca context use NAME".to_owned()))?;
                let value = shown(&contexts, &name, contexts.get(&name)?);
                match self.output {
                    Form::Table => {
                        let first = ["name", "current", "url", "root"];
                        out::put(out::document(&value, &first, crate::cli::now()).as_bytes())?;
                    }
                    form => out::json(&value, form)?,
                }
            }
            ContextVerb::Remove { name } => {
                contexts.get(&name)?;
                contexts.all.remove(&name);
                contexts.current = contexts.current.filter(|current| *current != name);
                contexts.save(&path)?;
                self.output.done(&format!("{name} is forgotten"))?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Form {
    /// That something was done here, where there is no document of the API.
    fn done(self, said: &str) -> Result<()> {
        match self {
            Self::Table => out::say(said),
            form => out::json(&json!({ "done": said }), form),
        }
    }
}

impl Add {
    fn run(self, contexts: &mut Contexts) -> Result<String> {
        let name = self.name;
        if contexts.all.contains_key(&name) && !self.replace {
            return Err(Usage(format!(
                "there is a context {name} already: give another name, or --replace"
            ))
            .into());
        }
        // What cannot work is told here, and not at the first use.
        Endpoint::with_roots_of(self.url.clone(), &self.root, self.server_name.clone())?;
        let here = |path: PathBuf| absolute(&path);
        let there = |path: PathBuf| match absolute(&path) {
            Ok(path) if path.is_file() => Ok(path),
            Ok(path) => Err(anyhow::anyhow!(
                "{} is not there, or is no file",
                path.display()
            )),
            Err(error) => Err(error),
        };
        let context = Context {
            url: self.url.to_string(),
            root: here(self.root)?,
            server_name: self.server_name.map(|name| name.to_string()),
            cert: self.cert.map(there).transpose()?,
            key: self.key.map(there).transpose()?,
            // A token may come and go.
            token_file: self.token_file.map(here).transpose()?,
        };
        contexts.all.insert(name.clone(), context);
        if self.use_it || contexts.current.is_none() {
            contexts.current = Some(name.clone());
            return Ok(format!("{name} is remembered, and in use"));
        }
        Ok(format!(
            "{name} is remembered; to use it: ca context use {name}"
        ))
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

fn list(contexts: &Contexts, form: Form) -> Result<()> {
    let all: Vec<Value> = contexts
        .all
        .iter()
        .map(|(name, context)| shown(contexts, name, context))
        .collect();
    match form {
        Form::Table => out::put(Table::new(COLUMNS, crate::cli::now()).rows(&all).as_bytes()),
        Form::Json => out::json(&Value::Array(all), form),
        Form::Jsonl => all.iter().try_for_each(|value| out::json(value, form)),
    }
}

fn shown(contexts: &Contexts, name: &ContextName, context: &Context) -> Value {
    let who = match (&context.cert, &context.token_file) {
        (Some(cert), _) => json!(cert),
        (None, Some(token)) => json!(token),
        (None, None) => Value::Null,
    };
    json!({
        "name": name,
        "current": contexts.current.as_ref() == Some(name),
        "url": context.url,
        "root": context.root,
        "server_name": context.server_name,
        "cert": context.cert,
        "key": context.key,
        "token_file": context.token_file,
        "as": who,
    })
}
