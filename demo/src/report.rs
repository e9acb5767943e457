//! What the try-out tells: what there is now, what was proven, and what to try next.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ca_client::StoredIdentity;
use ca_server::config::Listeners;
use pki::ceremony::name_words;
use pki::certificate::Certificate;
use pki::name::{ClusterName, SpiffeId};
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::home::{Home, quoted};
use crate::proof::Proof;
use crate::root::{FOLDER, ROOT, TRANSCRIPT};
use crate::server::{CONFIG, LOG, Made};
use crate::workload::Workload;

/// Cargo's flag for the profile that this program was built with.
const PROFILE: &str = if cfg!(debug_assertions) {
    ""
} else {
    " --release"
};

/// A workload's identity, in short.
#[derive(Debug)]
pub(crate) struct Account {
    directory: String,
    cluster: ClusterName,
    id: SpiffeId,
    serial: Serial,
    issuer: String,
    until: Timestamp,
    is_new: bool,
}

impl Account {
    pub(crate) fn new(workload: &Workload, identity: &StoredIdentity, is_new: bool) -> Self {
        let leaf = identity.leaf();
        Self {
            directory: workload.directory(),
            cluster: workload.cluster.clone(),
            id: workload.spiffe_id.clone(),
            serial: leaf.serial(),
            issuer: name_words(leaf.issuer()),
            until: leaf.not_after(),
            is_new,
        }
    }
}

/// Everything there is to tell.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) home: &'a Home,
    pub(crate) root: &'a Certificate,
    pub(crate) root_is_new: bool,
    pub(crate) authorities: &'a [Made],
    pub(crate) workloads: &'a [Account],
    pub(crate) proof: &'a Proof,
    pub(crate) listeners: Listeners,
    pub(crate) took: Duration,
    pub(crate) goes_on: bool,
    /// Where cargo puts our programs, as a shell finds it from here.
    pub(crate) programs: PathBuf,
}

impl Report<'_> {
    /// Prints it.
    ///
    /// # Errors
    /// When standard output takes nothing, unless its reader has seen enough.
    pub(crate) fn print(&self) -> Result<()> {
        let mut text = String::new();
        self.account(&mut text)?;
        self.try_next(&mut text)?;
        self.end(&mut text)?;
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.context("the account was not printed"),
        }
    }

    fn account(&self, out: &mut String) -> Result<()> {
        let shown = |name: &str| self.home.shown(name);
        let beginning = match self.root_is_new {
            true => "Signet try-out, new in",
            false => "Signet try-out, continuing in",
        };
        writeln!(out, "{beginning} {}", self.home.given().display())?;
        writeln!(
            out,
            "  For trying out only: the passphrases of all keys lie beside them."
        )?;

        writeln!(out, "\nOffline root, {}", did(self.root_is_new))?;
        writeln!(out, "  {}", name_words(self.root.subject()))?;
        writeln!(out, "  serial {}", self.root.serial())?;
        writeln!(out, "  until  {}", self.root.not_after())?;
        writeln!(out, "  in     {}", shown(FOLDER))?;

        for (row, is_new) in self.authorities {
            writeln!(out, "\nCluster {}, {}", row.cluster, did(*is_new))?;
            let own = row.chain.first().map(|der| Certificate::parse(der));
            let own = own.with_context(|| format!("{} has no certificate", row.id))??;
            writeln!(
                out,
                "  authority {}, {}: {}",
                row.id,
                row.state,
                name_words(own.subject())
            )?;
            writeln!(out, "  issuer {}", name_words(own.issuer()))?;
            writeln!(out, "  serial {}", own.serial())?;
            writeln!(out, "  until  {}", own.not_after())?;
        }

        let Listeners {
            issue,
            admin,
            public,
            ops,
            ..
        } = self.listeners;
        writeln!(out, "\nServer, SQLite, log in {}", shown(LOG))?;
        writeln!(out, "  issue  {issue} (gRPC, TLS)   admin {admin} (TLS)")?;
        writeln!(out, "  public {public} (HTTP)       ops   {ops} (HTTP)")?;

        for workload in self.workloads {
            let how = match workload.is_new {
                true => "enrolled now",
                false => "enrolled before",
            };
            writeln!(out, "\nWorkload {}, {how}", workload.id)?;
            writeln!(out, "  cluster {}", workload.cluster)?;
            writeln!(out, "  issuer  {}", workload.issuer)?;
            writeln!(out, "  serial  {}", workload.serial)?;
            writeln!(out, "  until   {}", workload.until)?;
            writeln!(out, "  in      {}", shown(&workload.directory))?;
        }

        let Proof {
            tls,
            server,
            client,
            question,
            answer,
            refusal,
        } = self.proof;
        writeln!(out, "\nProof, mTLS on loopback ({tls})")?;
        writeln!(out, "  {client} said {question:?}")?;
        writeln!(out, "  {server} said {answer:?}")?;
        writeln!(
            out,
            "  each verified the other's chain up to the root, and its SPIFFE id"
        )?;
        writeln!(
            out,
            "  a stranger with a self-signed {client} was refused: {refusal}"
        )?;
        writeln!(out, "\nDone in {:.1} s.", self.took.as_secs_f64())?;
        Ok(())
    }

    /// Commands, each on lines of its own that begin with two spaces, and nothing else there.
    fn try_next(&self, out: &mut String) -> Result<()> {
        let shown = |name: &str| self.home.shown(name);
        let [web, sensor] = self.workloads else {
            return Ok(());
        };
        let (web, sensor) = (&web.directory, &sensor.directory);
        let config = shown(CONFIG);
        let (ca, ca_server) = (self.program("ca"), self.program("ca-server"));
        let ca_root = self.program("ca-root");
        let with_ca = Self::build(&["ca-client"]);
        let with_ca_server = Self::build(&["ca-server"]);
        let with_ca_root = Self::build(&["ca-root"]);
        let with_both = Self::build(&["ca-server", "ca-client"]);
        let certificate = shown(&format!("{web}/tls.crt"));
        let mut command = |title: &str, command: String| writeln!(out, "\n# {title}\n  {command}");
        command(
            "Try next, from this directory. The sensor's chain, in words:",
            format!(
                "{with_ca} && {ca} inspect {}",
                shown(&format!("{sensor}/tls.crt"))
            ),
        )?;
        command(
            "The web service's chain, in OpenSSL's eyes:",
            format!(
                "openssl verify -x509_strict -CAfile {} -untrusted {certificate} {certificate}",
                shown(ROOT)
            ),
        )?;
        command(
            "Every certificate that was issued, on record (this ca-server is one without Postgres and TokenReview, like the one in here):",
            format!("{with_ca_server} && {ca_server} --config {config} records list"),
        )?;
        command(
            "What the offline root did, checked again without its key:",
            format!(
                "{with_ca_root} && {ca_root} verify {}",
                shown(&format!("{FOLDER}/{TRANSCRIPT}"))
            ),
        )?;
        let serving = match self.goes_on {
            true => "While this serves, from another terminal. ".to_owned(),
            false => format!(
                "While it serves (cargo run{PROFILE} -p demo -- --dir {}). ",
                shown("")
            ),
        };
        command(
            &format!("{serving}The roots that everyone in the trust domain believes in:"),
            format!(
                "curl -s http://{}/bundles/demo.signet.pem",
                self.listeners.public
            ),
        )?;
        command(
            "Revoke the web service's certificate, and see it on the list a second later:",
            format!(
                "{with_both} && {ca_server} --config {config} revoke --spiffe-id {} --reason superseded --yes\n  \
                 sleep 1; curl -s http://{}/crls/central-1.crl | {ca} inspect -",
                self.workloads[0].id, self.listeners.public
            ),
        )?;
        command(
            "What the server counts:",
            format!(
                "curl -s http://{}/metrics | grep ^signet_",
                self.listeners.ops
            ),
        )?;
        command(
            "Renew the sensor's certificate, with itself as the proof:",
            format!("{with_ca} && {ca} renew --dir {}", shown(sensor)),
        )?;
        command(
            "Enrol another one at the edge; its token goes through the pipe and is good once:",
            format!(
                "{with_both} && {ca_server} --config {config} enrolment create edge --spiffe-id 'spiffe://demo.signet/edge/*' | \\\n  \
                 {ca} enroll --server https://localhost:{} --roots {} --dir {} --enrolment-token-file - --spiffe-id spiffe://demo.signet/edge/pump",
                self.listeners.issue.port(),
                shown(ROOT),
                shown("workloads/pump-edge")
            ),
        )?;
        Ok(())
    }

    /// How a shell builds other programs of ours. They are built together with this one and with as few features: alone,
    /// they would compile half of the dependencies again, because they need fewer or more of their features.
    fn build(packages: &[&str]) -> String {
        let packages: String = packages.iter().map(|p| format!(" -p {p}")).collect();
        format!("cargo build -q{PROFILE} --no-default-features -p demo{packages}")
    }

    /// A program of ours, as a shell finds it.
    fn program(&self, name: &str) -> String {
        quoted(&self.programs.join(name).display().to_string())
    }

    fn end(&self, out: &mut String) -> Result<()> {
        match self.goes_on {
            true => writeln!(
                out,
                "\nServing until Ctrl-C. Run it again to continue, with --clean to start over."
            )?,
            false => writeln!(
                out,
                "\nThe server is stopped. Run it again to continue, with --clean to start over."
            )?,
        }
        Ok(())
    }
}

fn did(is_new: bool) -> &'static str {
    if is_new { "made now" } else { "made before" }
}
