//! Which CA is meant, and who asks: flags, over the context, over nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ca_client::api::{ApiClient, ApiIdentity};
use ca_client::contexts::{Context, ContextName, Contexts};
use ca_client::{Endpoint, ServerAddress, ServerName};
use clap::Args;
use pki::time::Ttl;

use crate::cli::exit::Usage;
use crate::cli::out::Form;

/// Where the CA is and who we are. What is given goes before what the context says.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// The context: which CA, and as whom [default: the one in use]
    #[arg(
        long,
        global = true,
        env = "SIGNET_CONTEXT",
        value_name = "NAME",
        help_heading = "Connection"
    )]
    context: Option<String>,
    /// The CA's `admin` listener, https://host:port
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Connection",
        hide_short_help = true
    )]
    url: Option<ServerAddress>,
    /// PEM file of the roots that vouch for it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection",
        hide_short_help = true
    )]
    root: Option<PathBuf>,
    /// The name in its certificate, where it is not the host of --url
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Connection",
        hide_short_help = true
    )]
    server_name: Option<ServerName>,
    /// PEM file of our certificate, leaf first
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection",
        hide_short_help = true
    )]
    cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection",
        hide_short_help = true
    )]
    key: Option<PathBuf>,
    /// File with an OpenID Connect token, in place of a certificate; - is standard input
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Connection",
        hide_short_help = true
    )]
    token_file: Option<PathBuf>,
    /// How long one call may take, its repeats included
    #[arg(
        long,
        global = true,
        default_value = "1m",
        value_name = "TIME",
        help_heading = "Connection",
        hide_short_help = true
    )]
    timeout: Ttl,
    /// How the answer is printed
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub(super) output: Form,
}

/// Whom to ask, and as whom.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: ServerAddress,
    pub(super) root: PathBuf,
    pub(super) server_name: Option<ServerName>,
    pub(super) identity: ApiIdentity,
    /// Where it came from a context.
    pub(super) context: Option<ContextName>,
}

impl Connection {
    /// The target, given the contexts that there are.
    pub(super) fn target(&self, contexts: &Contexts) -> Result<Target> {
        // An empty variable is one that is not set.
        let named = self.context.as_deref().filter(|name| !name.is_empty());
        let named = named.map(str::parse::<ContextName>).transpose();
        let named = named.map_err(|error| Usage(error.to_string()))?;
        // Flags that say all need no context, and are not kept from working by one that is gone.
        let says_all = named.is_none() && self.url.is_some() && self.root.is_some();
        let name = named.or(contexts.current.clone());
        let base: Option<&Context> = match &name {
            Some(name) if !says_all => Some(
                contexts
                    .get(name)
                    .map_err(|error| Usage(error.to_string()))?,
            ),
            _ => None,
        };
        let which = || {
            Usage("which CA? Give --url and --root, with --cert and --key or --token-file; or make a context: ca context add".to_owned())
        };
        let address = match (&self.url, base) {
            (Some(url), _) => url.clone(),
            (None, Some(base)) => base.url.parse().with_context(|| of(name.as_ref()))?,
            (None, None) => return Err(which().into()),
        };
        let root = self.root.clone().or(base.map(|base| base.root.clone()));
        // A name remembered for one server is not another one's.
        let remembered = base.filter(|_| self.url.is_none());
        let remembered = remembered.and_then(|base| base.server_name.as_deref());
        let remembered = remembered
            .map(|name| name.parse::<ServerName>())
            .transpose();
        let server_name = match &self.server_name {
            Some(name) => Some(name.clone()),
            None => remembered.with_context(|| of(name.as_ref()))?,
        };
        Ok(Target {
            address,
            root: root.ok_or_else(which)?,
            server_name,
            identity: self.identity(base)?,
            context: base.and(name),
        })
    }

    fn identity(&self, base: Option<&Context>) -> Result<ApiIdentity, Usage> {
        let wrong = |text: &str| Err(Usage(text.to_owned()));
        if self.token_file.is_some() && (self.cert.is_some() || self.key.is_some()) {
            return wrong("either --token-file, or --cert and --key: not both");
        }
        if let Some(path) = &self.token_file {
            return Ok(ApiIdentity::TokenFile(path.clone()));
        }
        let chain = self
            .cert
            .clone()
            .or(base.and_then(|base| base.cert.clone()));
        let key = self.key.clone().or(base.and_then(|base| base.key.clone()));
        match (chain, key) {
            (Some(chain), Some(key)) => Ok(ApiIdentity::Certificate { chain, key }),
            (Some(_), None) => wrong("--cert needs its --key"),
            (None, Some(_)) => wrong("--key needs its --cert"),
            (None, None) => Ok(match base.and_then(|base| base.token_file.clone()) {
                Some(path) => ApiIdentity::TokenFile(path),
                None => ApiIdentity::Anonymous,
            }),
        }
    }

    /// A client of it; nothing is sent yet.
    pub(super) fn client(&self, target: Target) -> Result<ApiClient> {
        let Target {
            address,
            root,
            server_name,
            identity,
            ..
        } = target;
        let endpoint = Endpoint::with_roots_of(address, &root, server_name)?;
        let seconds = self.timeout.seconds().unsigned_abs();
        Ok(ApiClient::new(
            endpoint,
            identity,
            Duration::from_secs(seconds),
        ))
    }
}

fn of(name: Option<&ContextName>) -> String {
    name.map_or_else(String::new, |name| format!("context {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connection: Connection,
    }

    fn contexts() -> Contexts {
        toml::from_str(
            "current = 'a'\n\
             [context.a]\nurl = 'https://a:1'\nroot = '/a.pem'\nserver_name = 'x'\ncert = '/a.crt'\nkey = '/a.key'\n\
             [context.b]\nurl = 'https://b:1'\nroot = '/b.pem'\ntoken_file = '/b.token'\n",
        )
        .unwrap()
    }

    fn target(words: &[&str], contexts: &Contexts) -> Result<Target> {
        let words = ["ca"].iter().chain(words);
        Line::try_parse_from(words)?.connection.target(contexts)
    }

    #[test]
    fn flags_go_before_the_context_and_the_named_one_before_the_one_in_use() {
        let contexts = contexts();
        let found = target(&[], &contexts).unwrap();
        assert_eq!(found.address.to_string(), "https://a:1");
        assert_eq!(found.server_name.unwrap().to_string(), "x");
        assert!(matches!(found.identity, ApiIdentity::Certificate { .. }));

        let found = target(&["--context", ""], &contexts).unwrap();
        assert_eq!(found.address.to_string(), "https://a:1");
        let found = target(&["--context", "b"], &contexts).unwrap();
        assert_eq!(found.address.to_string(), "https://b:1");
        assert_eq!(found.identity, ApiIdentity::TokenFile("/b.token".into()));

        let found = target(&["--url", "https://c", "--token-file", "t"], &contexts).unwrap();
        assert_eq!(found.address.to_string(), "https://c");
        assert_eq!(found.root, PathBuf::from("/a.pem"));
        assert!(found.server_name.is_none());
        assert_eq!(found.identity, ApiIdentity::TokenFile("t".into()));

        let all = ["--url", "https://c", "--root", "r"];
        let found = target(&all, &contexts).unwrap();
        assert_eq!(found.identity, ApiIdentity::Anonymous);
    }

    #[test]
    fn what_does_not_say_enough_or_too_much_is_wrong_usage() {
        let none = Contexts::default();
        for (words, contexts, said) in [
            (&[][..], &none, "which CA?"),
            (&["--url", "https://a"], &none, "which CA?"),
            (&["--context", "c"], &contexts(), "there are a, b"),
            (
                &["--context", "a/b"],
                &contexts(),
                "is not a context's name",
            ),
            (
                &["--token-file", "t", "--cert", "c", "--key", "k"],
                &contexts(),
                "not both",
            ),
            (
                &["--url", "https://a", "--root", "r", "--cert", "c"],
                &none,
                "--key",
            ),
        ] {
            let error = target(words, contexts).unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
