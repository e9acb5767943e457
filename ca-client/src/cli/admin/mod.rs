//! Administration over the REST API: nouns, each with its verbs.

mod audit;
mod authority;
mod certificate;
mod cluster;
mod connection;
mod context;
mod crl;
mod definition;
mod diff;
mod enrolment;
mod files;
mod person;
mod policy;
mod profile;
mod proposal;
mod reason;
mod role;
mod root;
mod selection;
mod server;
mod session;
mod token_issuer;
mod trail;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::exit::Exit;
use super::out::Form;
use connection::Connection;
use session::Session;

/// What is done to a noun.
pub(crate) trait Verb: Subcommand {
    /// Does it, and says how it ended.
    async fn run(self, session: &Session) -> Result<Exit>;

    /// Does it where it takes no CA to do it.
    fn alone(&self, _output: Form) -> Option<Result<Exit>> {
        None
    }
}

/// A noun: its verb, and which CA is meant.
#[derive(Debug, Args)]
pub(crate) struct Noun<V: Subcommand> {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: V,
}

impl<V: Verb> Noun<V> {
    async fn run(self) -> Result<Exit> {
        if let Some(done) = self.verb.alone(self.connection.output) {
            return done;
        }
        let session = Session::open(&self.connection, super::now())?;
        self.verb.run(&session).await
    }
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Administration {
    /// Which CAs there are to administer, and as whom
    Context(context::Arguments),
    /// Print how the server and its store are
    #[command(after_help = "Example:\n  ca status")]
    Status(server::Status),
    /// Print who we are to the CA, and what we may do
    #[command(after_help = "Example:\n  ca whoami")]
    Whoami(server::Whoami),
    /// An administrator's own certificate
    Admin(person::Arguments),
    /// Clusters: what they are and allow
    Cluster(Noun<cluster::ClusterVerb>),
    /// What a cluster allows, and what it would allow
    Policy(Noun<policy::PolicyVerb>),
    /// Whose service-account tokens a cluster believes
    TokenIssuer(Noun<token_issuer::TokenIssuerVerb>),
    /// Shapes of certificates
    Profile(Noun<profile::ProfileVerb>),
    /// Authorities: request, import, publish, activate, revoke
    Authority(Noun<authority::AuthorityVerb>),
    /// Certificates on record: find, sign, revoke
    Certificate(Noun<certificate::CertificateVerb>),
    /// Enrolment tokens, for what has no identity yet
    Enrolment(Noun<enrolment::EnrolmentVerb>),
    /// Lists of what is revoked
    Crl(Noun<crl::CrlVerb>),
    /// Roots in the trust bundles
    Root(Noun<root::RootVerb>),
    /// The audit trail: read, export, verify
    Audit(Noun<audit::AuditVerb>),
    /// Who may do what
    Role(Noun<role::RoleVerb>),
    /// What waits for a second person
    Proposal(Noun<proposal::ProposalVerb>),
    /// The server's clock
    Clock(Noun<server::ClockVerb>),
}

impl Administration {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Context(arguments) => arguments.run(),
            Self::Status(arguments) => arguments.run().await,
            Self::Whoami(arguments) => arguments.run().await,
            Self::Admin(arguments) => arguments.run().await,
            Self::Cluster(noun) => noun.run().await,
            Self::Policy(noun) => noun.run().await,
            Self::TokenIssuer(noun) => noun.run().await,
            Self::Profile(noun) => noun.run().await,
            Self::Authority(noun) => noun.run().await,
            Self::Certificate(noun) => noun.run().await,
            Self::Enrolment(noun) => noun.run().await,
            Self::Crl(noun) => noun.run().await,
            Self::Root(noun) => noun.run().await,
            Self::Audit(noun) => noun.run().await,
            Self::Role(noun) => noun.run().await,
            Self::Proposal(noun) => noun.run().await,
            Self::Clock(noun) => noun.run().await,
        }
    }
}
