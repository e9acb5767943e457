//! `ca enroll`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use ca_client::{
    ClientError, CredentialSource, Enrolment, FileNames, IdentityDir, KeyKind, Order, Patience,
    Settings, SignedCertificate, serves_under_own_roots,
};
use clap::{ArgGroup, Args};
use pki::extension::SubjectNames;
use pki::name::{ClusterName, DnsName, ProfileName, SpiffeId};
use pki::time::Ttl;
use serde::Serialize;
use tonic::Code;

use super::{Output, Server, now, print};

pub(super) const EXAMPLES: &str = "\
Examples:
  A pod, with its projected service-account token:
    ca enroll --server https://ca.signet:8443 --roots roots.pem --dir /run/identity \\
      --token-file /var/run/secrets/tokens/signet --cluster Kubernetes
  A machine, with an enrolment token from standard input:
    ca enroll --server https://ca.example:8443 --roots roots.pem --dir /var/lib/identity \\
      --enrolment-token-file - --spiffe-id spiffe://example.org/edge/gateway-7 < token
  A gateway's host names:
    ca enroll ... --profile server --dns api.example.org --dns www.example.org --ttl 30d

An enrolment token is good for one key. The key is in the directory before it is sent, so that a lost answer costs
nothing: the same command, run again within ten minutes, gets the certificate.";

/// Arguments of `ca enroll`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("proof").required(true).args(["token_file", "enrolment_token_file"]))]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Directory of the identity: tls.key, tls.crt and ca.crt; made if it is not there
    #[arg(long, env = "SIGNET_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// File with a Kubernetes service-account token for the CA's audience; - is standard input
    #[arg(
        long,
        env = "SIGNET_TOKEN_FILE",
        value_name = "FILE",
        requires = "cluster"
    )]
    token_file: Option<PathBuf>,
    /// Id of the cluster whose API server made that token
    #[arg(long, env = "SIGNET_CLUSTER", value_name = "ID")]
    cluster: Option<ClusterName>,
    /// File with an enrolment token; - is standard input
    #[arg(long, value_name = "FILE")]
    enrolment_token_file: Option<PathBuf>,
    /// The SPIFFE id to ask for; without it and --dns, whatever the CA says that we are
    #[arg(long, value_name = "URI")]
    spiffe_id: Option<SpiffeId>,
    /// A host name to ask for; may be given several times
    #[arg(long, value_name = "NAME")]
    dns: Vec<DnsName>,
    /// The profile [default: workload]
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,
    /// The lifetime, like 30m or 24h [default: the profile's]
    #[arg(long, value_name = "TTL")]
    ttl: Option<Ttl>,
    /// How long to ask again when an answer is lost or the server is busy
    #[arg(long, default_value = "30s", value_name = "TIME")]
    timeout: Ttl,
    /// The kind of key: p256 or p384
    #[arg(long, default_value = "p256", value_name = "KIND")]
    key: KeyKind,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments {
        server,
        dir,
        output,
        ..
    } = &arguments;
    let endpoint = server.endpoint()?;
    let source = source(&arguments)?;
    let credentials = source.read().map_err(ClientError::from)?;
    let names = SubjectNames {
        spiffe: arguments.spiffe_id.clone(),
        dns: arguments.dns.clone(),
        ip: Vec::new(),
    };
    let order = Order {
        profile: arguments.profile.clone(),
        ttl: arguments.ttl,
        key: arguments.key,
    };
    let directory = IdentityDir::new(dir, FileNames::default());
    let patience = Patience {
        bound: Duration::from_secs(arguments.timeout.seconds().unsigned_abs()),
        ..Patience::default()
    };
    let enrolment = Enrolment {
        endpoint: &endpoint,
        credentials: &credentials,
        names: &names,
        order: &order,
        directory: &directory,
    };
    let answered = match enrolment.ask_patiently(&patience, &now).await {
        Ok(answered) => answered,
        Err(error) => return Err(with_hint(error, &directory)),
    };

    let mut settings = Settings {
        server: server.server.to_string(),
        server_name: server.server_name.as_ref().map(ToString::to_string),
        follow_bundle: serves_under_own_roots(endpoint.roots(), answered.signed().bundle().roots()),
        roots: std::path::absolute(&server.roots)?,
        profile: order.profile.clone(),
        ttl: order.ttl,
        key: order.key,
        token_file: None,
        cluster: None,
        enrolment_token_file: None,
    };
    settings.remember(&source);
    // Before the identity: whoever is killed between the two runs the same command again, and an identity always knows how
    // it is renewed.
    settings.save(dir)?;
    let signed = answered
        .write(&directory, now())
        .map_err(ClientError::from)?;
    Issued::new(&signed, &directory).print(*output)
}

/// Scripts run the same command again, long after it has worked.
fn with_hint(error: ClientError, directory: &IdentityDir) -> anyhow::Error {
    let refused = matches!(
        &error,
        ClientError::Refused {
            code: Code::Unauthenticated,
            ..
        }
    );
    if let Ok(there) = directory.load()
        && refused
        && there.leaf().is_valid_at(now())
    {
        tracing::info!(
            not_after = %there.leaf().not_after(),
            "the directory holds a certificate already; `ca renew` needs no token"
        );
    }
    error.into()
}

fn source(arguments: &Arguments) -> Result<CredentialSource> {
    match (
        &arguments.token_file,
        &arguments.cluster,
        &arguments.enrolment_token_file,
    ) {
        (Some(path), Some(cluster), _) => Ok(CredentialSource::TokenFile {
            path: path.clone(),
            cluster: cluster.clone(),
        }),
        (_, _, Some(path)) => Ok(CredentialSource::EnrolmentTokenFile(path.clone())),
        _ => anyhow::bail!("give --token-file with --cluster, or --enrolment-token-file"),
    }
}

/// What `ca enroll` and `ca renew` say when it worked.
#[derive(Debug, Serialize)]
pub(super) struct Issued {
    serial: String,
    not_before: String,
    not_after: String,
    names: Vec<String>,
    trust_domain: String,
    bundle_sequence: u64,
    directory: PathBuf,
}

impl Issued {
    pub(super) fn new(signed: &SignedCertificate, directory: &IdentityDir) -> Self {
        let leaf = signed.leaf();
        Self {
            serial: leaf.serial().to_string(),
            not_before: leaf.not_before().to_string(),
            not_after: leaf.not_after().to_string(),
            names: leaf.alt_names().iter().map(ToString::to_string).collect(),
            trust_domain: signed.bundle().trust_domain().to_string(),
            bundle_sequence: signed.bundle().sequence(),
            directory: directory.path().to_owned(),
        }
    }

    pub(super) fn print(&self, output: Output) -> Result<()> {
        print(output, self, || {
            format!(
                "certificate {} for {}\nvalid until {}\nin {}",
                self.serial,
                self.names.join(", "),
                self.not_after,
                self.directory.display()
            )
        })
    }
}
