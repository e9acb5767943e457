//! The two workloads: each gets its identity for an enrolment token, as a machine without one would.

use anyhow::{Context as _, Result};
use ca_client::{
    Credentials, Endpoint, FileNames, IdentityDir, Order, Settings, StoredIdentity,
    serves_under_own_roots,
};
use ca_server::app::{Actor, Context};
use ca_server::embedded;
use pki::certificate::Certificate;
use pki::extension::SubjectNames;
use pki::name::{ClusterName, ProfileName, SpiffeId, SpiffePattern};
use pki::time::{Timestamp, Ttl};

use crate::home::Home;
use crate::root::{OfflineRoot, ROOT};
use crate::server::{ACTOR, CLUSTERS, Server};

/// An identity that ends sooner is not reused.
const LEAST_LIFE: Ttl = Ttl::minutes(10);
/// How long a token waits for its use, which is a moment.
const TOKEN_LIFE: Ttl = Ttl::minutes(5);

/// A workload of the try-out.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Its directory's name.
    pub(crate) name: &'static str,
    /// Where it runs.
    pub(crate) cluster: ClusterName,
    /// Who it is.
    pub(crate) spiffe_id: SpiffeId,
}

impl Workload {
    /// The web service in the centre and the sensor at the edge.
    pub(crate) fn both() -> Result<[Self; 2]> {
        let [central, edge] = CLUSTERS;
        Ok([
            Self {
                name: "web-central",
                cluster: ClusterName::parse(central)?,
                spiffe_id: SpiffeId::parse("spiffe://demo.signet/central/web")?,
            },
            Self {
                name: "sensor-edge",
                cluster: ClusterName::parse(edge)?,
                spiffe_id: SpiffeId::parse("spiffe://demo.signet/edge/sensor")?,
            },
        ])
    }

    /// Its directory below the try-out's.
    pub(crate) fn directory(&self) -> String {
        format!("workloads/{}", self.name)
    }

    /// Gives its identity, enrolling it where it has none that is good; tells whether it did.
    pub(crate) async fn ensure(
        &self,
        home: &Home,
        server: &Server,
        context: &Context,
        root: &OfflineRoot,
        now: Timestamp,
    ) -> Result<(StoredIdentity, bool)> {
        let path = home.path(&self.directory());
        let directory = IdentityDir::new(&path, FileNames::default());
        if let Ok(found) = directory.load()
            && self.is_good(&found, root, now)
        {
            return Ok((found, false));
        }
        self.enroll(home, server, context, &directory, now)
            .await
            .with_context(|| format!("{} was not enrolled", self.spiffe_id))?;
        Ok((directory.load()?, true))
    }

    fn is_good(&self, found: &StoredIdentity, root: &OfflineRoot, now: Timestamp) -> bool {
        let roots = Certificate::parse_pem(found.bundle_pem.as_bytes()).unwrap_or_default();
        let leaf = found.leaf();
        leaf.spiffe_id().is_ok_and(|id| id == self.spiffe_id)
            && leaf.is_valid_at(now)
            && leaf.is_valid_at(now.plus(LEAST_LIFE))
            && roots.contains(root.certificate())
    }

    async fn enroll(
        &self,
        home: &Home,
        server: &Server,
        context: &Context,
        directory: &IdentityDir,
        now: Timestamp,
    ) -> Result<()> {
        let new = embedded::create_enrolment(
            context,
            &self.cluster,
            SpiffePattern::exactly(&self.spiffe_id),
            ProfileName::parse("workload")?,
            TOKEN_LIFE,
            &Actor::local(ACTOR),
        )
        .await?;
        let roots = home.path(ROOT);
        let pem = std::fs::read(&roots).with_context(|| home.shown(ROOT))?;
        let endpoint = Endpoint::new(&server.url(), pem.clone(), None)?;
        let credentials = Credentials::enrolment(&new.token)?;
        let names = SubjectNames {
            spiffe: Some(self.spiffe_id.clone()),
            ..SubjectNames::default()
        };
        let order = Order::default();
        let signed =
            ca_client::enroll(&endpoint, &credentials, &names, &order, directory, now).await?;
        // So that `ca renew --dir` knows the rest.
        let settings = Settings {
            server: server.url(),
            server_name: None,
            follow_bundle: serves_under_own_roots(&pem, signed.bundle().roots()),
            roots,
            profile: order.profile,
            ttl: order.ttl,
            key: order.key,
            token_file: None,
            cluster: None,
            enrolment_token_file: None,
        };
        Ok(settings.save(directory.path())?)
    }
}
