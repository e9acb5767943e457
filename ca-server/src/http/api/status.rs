//! How the server and its store are, and what there is to know of profiles.

use axum::Json;
use pki::key::KeyAlgorithm;
use pki::name::ProfileName;
use pki::profile::{NameRule, Profile};
use pki::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Call, NoBody, Path, Query};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use crate::app::{Error, ErrorKind};
use crate::store::Store;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    /// The program's version.
    version: &'static str,
    /// The replica that answers.
    replica: String,
    /// Its clock.
    clock: ClockView,
    /// The store.
    store: StoreView,
    /// The authorities that the caller may see.
    authorities: Vec<AuthorityStatus>,
    /// How many clusters the caller may see.
    clusters: usize,
}

/// The clock.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClockView {
    /// What it says.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Whether it is believed; where it is not, nothing is issued until an operator accepts it.
    trusted: bool,
}

/// The store.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoreView {
    /// `postgres` or `sqlite`.
    engine: &'static str,
    /// Whether it takes what is written.
    writes: bool,
    /// Whether what has changed in it is in force here, or will be within a second.
    followed: bool,
    /// Grows with every change; null for who sees some clusters.
    change_sequence: Option<u64>,
}

/// An authority in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorityStatus {
    /// Its id.
    id: String,
    /// Its cluster.
    cluster: String,
    /// Where it stands.
    state: &'static str,
    /// The last second of its chain.
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
    /// Whether this replica can sign for it.
    ready: bool,
}

/// How the server and its store are.
#[utoipa::path(get, path = "/v1/status", tag = "Server", responses((status = 200, body = StatusView)))]
pub(super) async fn show(call: Call) -> Result<Json<StatusView>, Fault> {
    let context = call.context();
    let snapshot = call.snapshot().clone();
    let scope = call.permit.scope();
    let change_sequence = match scope.clusters() {
        None => Some(context.store.change_sequence().await.map_err(Error::from)?),
        Some(_) => None,
    };
    let authorities = snapshot.authorities.iter();
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION"),
        replica: context
            .store
            .auditor()
            .map_err(Error::from)?
            .replica()
            .to_string(),
        clock: ClockView {
            now: context.clock.untrusted_now(),
            trusted: context.clock.trusted_now().is_ok(),
        },
        store: StoreView {
            engine: match context.store {
                #[cfg(feature = "postgres")]
                Store::Postgres(_) => "postgres",
                Store::Sqlite(_) => "sqlite",
            },
            writes: call.writes(),
            followed: call.follows_the_store(),
            change_sequence,
        },
        authorities: authorities
            .filter(|authority| scope.has(&authority.cluster))
            .map(|authority| AuthorityStatus {
                id: authority.id.to_string(),
                cluster: authority.cluster.to_string(),
                state: authority.state.as_str(),
                not_after: authority.issuer.not_after(),
                ready: authority.is_ready(),
            })
            .collect(),
        clusters: snapshot
            .clusters
            .keys()
            .filter(|name| scope.has(name))
            .count(),
    }))
}

/// The clock as it is believed now.
#[utoipa::path(post, path = "/v1/clock/accept", tag = "Server", responses((status = 200, body = ClockView)))]
pub(super) async fn accept_clock(call: Call, _: NoBody) -> Result<Json<ClockView>, Fault> {
    let actor = call.permit.everywhere()?;
    let context = call.context();
    let now = crate::app::clock::accept(context, &actor).await?;
    Ok(Json(ClockView { now, trusted: true }))
}

/// What certificates of a profile look like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProfileView {
    /// Its name.
    name: &'static str,
    /// Which names its certificates carry: `one-spiffe-id`, `hosts` or `common-name`.
    names: &'static str,
    /// What its certificates are good for: `serverAuth`, `clientAuth`, `OCSPSigning`; none: everything that a CA is for.
    purposes: Vec<String>,
    /// The lifetime of who does not ask for one.
    #[schema(value_type = String)]
    default_ttl: pki::time::Ttl,
    /// The longest lifetime.
    #[schema(value_type = String)]
    max_ttl: pki::time::Ttl,
    /// The keys that may be certified.
    keys: Vec<&'static str>,
    /// Whether its certificates are CAs'.
    authority: bool,
    /// Whether its certificates can be revoked.
    revocable: bool,
}

fn profile(profile: Profile) -> ProfileView {
    let keys = [
        (KeyAlgorithm::EcdsaP256, "P-256"),
        (KeyAlgorithm::EcdsaP384, "P-384"),
        (KeyAlgorithm::Rsa { bits: 2048 }, "RSA 2048-4096"),
    ];
    ProfileView {
        name: profile.as_str(),
        names: match profile.names() {
            NameRule::OneSpiffeId => "one-spiffe-id",
            NameRule::Hosts => "hosts",
            NameRule::CommonName => "common-name",
        },
        purposes: profile.purposes().iter().map(|it| it.to_string()).collect(),
        default_ttl: profile.default_ttl(),
        max_ttl: profile.max_ttl(),
        keys: keys
            .into_iter()
            .filter(|(key, _)| profile.takes(*key))
            .map(|(_, name)| name)
            .collect(),
        authority: profile.is_authority(),
        revocable: profile.has_revocation(),
    }
}

/// The profiles.
#[utoipa::path(get, path = "/v1/profiles", tag = "Profiles", params(PageQuery), responses((status = 200, body = Page<ProfileView>)))]
pub(super) async fn profiles(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ProfileView>>, Fault> {
    let views = Profile::ALL.into_iter().map(profile).collect();
    let page = Page::of(
        &call,
        views,
        query.limit,
        query.page.as_deref(),
        |view: &ProfileView| view.name.to_owned(),
    )?;
    Ok(Json(page))
}

/// One profile.
#[utoipa::path(get, path = "/v1/profiles/{name}", tag = "Profiles", params(("name" = String, Path,)), responses((status = 200, body = ProfileView)))]
pub(super) async fn show_profile(
    _: Call,
    Path(name): Path<ProfileName>,
) -> Result<Json<ProfileView>, Fault> {
    let found = Profile::builtin(&name).ok_or_else(|| {
        let text = format!("there is no profile {name}");
        Error::new(ErrorKind::NotFound, "profile", text)
    })?;
    Ok(Json(profile(found)))
}
