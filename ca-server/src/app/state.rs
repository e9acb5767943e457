//! What is in force: clusters, authorities and bundles as the store has them, ready to use. A snapshot never changes;
//! a newer one takes its place whole.

use std::collections::HashMap;
use std::sync::Arc;

use pki::bundle::Bundle;
use pki::certificate::{Certificate, Issuer};
use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName, TrustDomain};
use pki::ocsp::IssuerHashes;
use pki::policy::ClusterPolicy;
use pki::rotation::Life;

use super::cluster::{ClusterDefinition, Role};
use super::signing::Key;
use super::status::{self, Document};
use super::{Context, Error, ErrorKind};
use crate::authn::token::{
    IssuerSet, ReviewConfigError, TokenIssuer, TokenReviewConfig, TokenReviewer,
};
use crate::store::model::{AuthorityRow, AuthorityState, CrlShape, RootCrlRow};

/// Everything that a request is decided by.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store's change number that it was read at.
    pub sequence: u64,
    /// The clusters.
    pub clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// The authorities with a certificate, retired ones left out; revoked ones answer for what they issued.
    pub authorities: Vec<Arc<Authority>>,
    /// The bundles.
    pub bundles: HashMap<TrustDomain, Arc<PublishedBundle>>,
    /// The CRLs of the CAs above ours, by the SHA-256 of their SubjectPublicKeyInfo.
    pub root_crls: HashMap<Digest, RootCrlRow>,
}

/// A cluster in force.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its id.
    pub name: ClusterName,
    /// What its authorities sign.
    pub role: Role,
    /// What it allows.
    pub policy: ClusterPolicy,
    /// Who issues its tokens, keys pinned.
    pub issuers: Arc<IssuerSet>,
    /// The API server that reviews its tokens; why it cannot be asked, where its files do not read on this machine.
    pub reviewer: Option<Result<Arc<TokenReviewer>, ReviewConfigError>>,
    /// The authority that signs.
    pub active: Option<Arc<Authority>>,
    definition: String,
}

/// An authority in force.
#[derive(Debug)]
pub struct Authority {
    /// Its id.
    pub id: AuthorityId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Where it stands.
    pub state: AuthorityState,
    /// What it signs as.
    pub issuer: Issuer,
    /// Its certificate, and each CA's above it up to the root.
    pub chain: Vec<Certificate>,
    /// PEM of each CA of the chain but the root.
    pub intermediates_pem: Vec<String>,
    /// Its key, where this replica may sign with it.
    pub key: Option<Key>,
    /// What it publishes beside its complete CRL.
    pub crl_shape: CrlShape,
    /// Where its shards and deltas are found, as its leaves say.
    pub public_url: Option<String>,
    /// Its certificate, for HTTP.
    pub document: Document,
    /// How OCSP requests name it.
    pub ocsp: IssuerHashes,
}

impl Authority {
    /// Whether this replica can sign for it now, as far as is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.key.as_ref().is_some_and(Key::is_ready)
    }

    /// Its validity, that of every CA above it counted in.
    #[must_use]
    pub fn life(&self) -> Life {
        Life {
            not_before: self.issuer.not_before(),
            not_after: self.issuer.not_after(),
        }
    }
}

/// A bundle, ready to send.
#[derive(Debug)]
pub struct PublishedBundle {
    /// The roots.
    pub bundle: Bundle,
    /// All of them as one PEM text.
    pub pem: String,
    /// The same, for HTTP.
    pub document: Document,
}

impl Snapshot {
    /// Reads the store. Keys that `before` has open are not opened again.
    pub(super) async fn load(context: &Context, before: Option<&Self>) -> Result<Self, Error> {
        // Read first: what changes while the rest is read leaves an older number behind, and is read again.
        let sequence = context.store.change_sequence().await?;
        let mut authorities = Vec::new();
        for row in context.store.authorities().await? {
            use AuthorityState as S;
            if matches!(
                row.state,
                S::Imported | S::Published | S::Active | S::Retiring | S::Revoked
            ) {
                authorities.push(Arc::new(open(context, row, before)?));
            }
        }
        let mut clusters = HashMap::new();
        for row in context.store.clusters().await? {
            let active = authorities
                .iter()
                .find(|a| a.cluster == row.name && a.state == AuthorityState::Active)
                .cloned();
            let same = before
                .and_then(|snapshot| snapshot.clusters.get(&row.name))
                .filter(|cluster| cluster.definition == row.definition);
            let cluster = match same {
                // Keeps what the token cache knows of its issuers.
                Some(same) => Cluster {
                    active,
                    ..Cluster::clone(same)
                },
                None => cluster(row.definition, active).await?,
            };
            clusters.insert(row.name, Arc::new(cluster));
        }
        let mut bundles = HashMap::new();
        for row in context.store.bundles().await? {
            let trust_domain = row.trust_domain;
            let roots: Result<Vec<_>, _> = row
                .roots
                .iter()
                .map(|der| Certificate::parse(der))
                .collect();
            let bundle = Bundle::new(
                trust_domain.clone(),
                row.sequence,
                roots.map_err(Error::internal)?,
            )
            .map_err(Error::internal)?;
            let pem = bundle.to_pem();
            let published = PublishedBundle {
                document: Document::new(pem.clone().into_bytes(), status::PEM, None, None),
                bundle,
                pem,
            };
            bundles.insert(trust_domain, Arc::new(published));
        }
        let root_crls = context.store.root_crls().await?;
        let root_crls = root_crls.into_iter().map(|row| (row.root, row)).collect();
        Ok(Self {
            sequence,
            clusters,
            authorities,
            bundles,
            root_crls,
        })
    }

    /// Makes the reviewers that could not be made before; `None` when there is nothing new. A file that was missing does
    /// not move the store's change number.
    pub(super) async fn with_reviewers(&self) -> Option<Self> {
        let mut clusters = None;
        for (name, cluster) in &self.clusters {
            let Some(Err(_)) = cluster.reviewer else {
                continue;
            };
            let parsed: ClusterDefinition = serde_json::from_str(&cluster.definition).ok()?;
            if let Ok(reviewer) = TokenReviewer::new(parsed.token_review?).await {
                tracing::info!(cluster.id = %name, "the API server can be asked about the cluster's tokens");
                let whole = Cluster {
                    reviewer: Some(Ok(Arc::new(reviewer))),
                    ..Cluster::clone(cluster)
                };
                clusters
                    .get_or_insert_with(|| self.clusters.clone())
                    .insert(name.clone(), Arc::new(whole));
            }
        }
        let clusters = clusters?;
        Some(Self {
            clusters,
            ..self.clone()
        })
    }

    /// The authority of this id.
    #[must_use]
    pub fn authority(&self, id: &AuthorityId) -> Option<&Arc<Authority>> {
        self.authorities
            .iter()
            .find(|authority| &authority.id == id)
    }

    /// The authority whose key made the signature on `certificate`, by name, key identifier and signature.
    #[must_use]
    pub fn signer_of(&self, certificate: &Certificate) -> Option<&Arc<Authority>> {
        self.authorities.iter().find(|authority| {
            authority.issuer.name() == certificate.issuer()
                && certificate.extensions().authority_key_id.as_deref()
                    == Some(authority.issuer.key_id())
                && certificate.verify_by(authority.issuer.key()).is_ok()
        })
    }
}

async fn cluster(definition: String, active: Option<Arc<Authority>>) -> Result<Cluster, Error> {
    let parsed: ClusterDefinition = serde_json::from_str(&definition).map_err(Error::internal)?;
    let policy = parsed.policy()?;
    let issuers: Result<Vec<_>, _> = parsed
        .token_issuers
        .into_iter()
        .map(TokenIssuer::try_from)
        .collect();
    let reviewer = match parsed.token_review {
        Some(config) => Some(reviewer(&parsed.name, config).await),
        None => None,
    };
    Ok(Cluster {
        name: parsed.name,
        role: parsed.role,
        policy,
        issuers: Arc::new(IssuerSet::new(issuers.map_err(Error::internal)?)),
        reviewer,
        active,
        definition,
    })
}

/// Its files lie on this machine and may be missing now: that is this cluster's trouble alone, and no reason to let what
/// has changed elsewhere wait.
async fn reviewer(
    cluster: &ClusterName,
    config: TokenReviewConfig,
) -> Result<Arc<TokenReviewer>, ReviewConfigError> {
    let made = TokenReviewer::new(config).await;
    if let Err(error) = &made {
        tracing::warn!(cluster.id = %cluster, %error, "no API server can be asked about the cluster's tokens, pinned keys are all there is");
    }
    made.map(Arc::new)
}

/// Without the key, what the authority has published is still served; another replica may have it.
fn open_key(context: &Context, row: &AuthorityRow) -> Result<Option<Key>, Error> {
    match Key::of(context, row) {
        Ok(Some(key)) => Ok(Some(key)),
        Ok(None) => {
            tracing::warn!(
                authority.id = %row.id,
                key.uri = %row.key_place(),
                "this replica's configuration does not name the token that holds the authority's key: it does not sign"
            );
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::Conflict => {
            tracing::error!(authority.id = %row.id, error = %error.detail(), "the authority does not sign");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open(
    context: &Context,
    row: AuthorityRow,
    before: Option<&Snapshot>,
) -> Result<Authority, Error> {
    let chain: Result<Vec<_>, _> = row
        .chain
        .iter()
        .map(|der| Certificate::parse(der))
        .collect();
    let chain = chain.map_err(Error::internal)?;
    let issuer = Issuer::from_chain(&chain).map_err(Error::internal)?;
    let opened = before
        .and_then(|snapshot| snapshot.authority(&row.id))
        .filter(|authority| authority.issuer.key().spki() == row.spki)
        .map(|authority| authority.key.clone());
    let key = match opened {
        Some(key) => key,
        None => open_key(context, &row)?,
    };
    let own = chain.first().map(Certificate::der).unwrap_or_default();
    let document = Document::new(
        own.to_vec(),
        status::PKIX_CERT,
        Some(issuer.not_before()),
        Some(issuer.not_after()),
    );
    let below_root = chain.len().saturating_sub(1);
    Ok(Authority {
        ocsp: IssuerHashes::of(&issuer),
        id: row.id,
        cluster: row.cluster,
        state: row.state,
        issuer,
        intermediates_pem: chain
            .iter()
            .take(below_root)
            .map(Certificate::to_pem)
            .collect(),
        chain,
        key,
        crl_shape: row.crl_shape,
        public_url: row.public_url,
        document,
    })
}
