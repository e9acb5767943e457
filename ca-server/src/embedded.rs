//! `ca-server` within another program, as the try-out has it: what setting one up and running it takes.
//!
//! Each call is one of [`crate::app`] or of the store whose future has no type of its own any more. Async code is compiled
//! where the type of its future is known: a program that awaited those calls themselves would compile the store, and the
//! server above it, once more.

use std::pin::Pin;

use pki::certificate::Certificate;
use pki::name::{AuthorityId, ClusterName, ProfileName, SpiffePattern};
use pki::time::Ttl;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::cluster::{self, ClusterDefinition};
use crate::app::{Actor, Context, Error, NewKey, authority, enrolment, status};
use crate::config::Config;
use crate::store::model::{AuthorityRow, CrlShape};

/// What a call comes to, with the errors of the call that it names.
pub type Call<'a, T, E = Error> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// [`crate::cli::open`].
#[must_use]
pub fn open(config: &Config) -> Call<'_, Context, anyhow::Error> {
    Box::pin(crate::cli::open(config))
}

/// [`crate::server::run`].
#[must_use]
pub fn run(
    configuration: watch::Receiver<Config>,
    context: Context,
    stop: CancellationToken,
) -> Call<'static, (), anyhow::Error> {
    Box::pin(crate::server::run(configuration, context, stop))
}

/// Whether there is a cluster of this name.
#[must_use]
pub fn has_cluster<'a>(context: &'a Context, name: &'a ClusterName) -> Call<'a, bool> {
    Box::pin(async { Ok(context.store.cluster(name).await?.is_some()) })
}

/// [`cluster::apply`].
#[must_use]
pub fn apply_cluster<'a>(
    context: &'a Context,
    definition: &'a ClusterDefinition,
    actor: &'a Actor,
) -> Call<'a, &'static str> {
    Box::pin(cluster::apply(context, definition, actor))
}

/// All authorities.
#[must_use]
pub fn authorities(context: &Context) -> Call<'_, Vec<AuthorityRow>> {
    Box::pin(async { Ok(context.store.authorities().await?) })
}

/// [`authority::request`].
#[must_use]
pub fn request_authority<'a>(
    context: &'a Context,
    cluster: &'a ClusterName,
    key: &'a NewKey,
    actor: &'a Actor,
) -> Call<'a, AuthorityRow> {
    let shape = CrlShape::default();
    Box::pin(authority::request(context, cluster, key, shape, actor))
}

/// [`authority::import`] of a chain that ends at a known root, or at the first one.
#[must_use]
pub fn import_authority<'a>(
    context: &'a Context,
    id: &'a AuthorityId,
    chain: Vec<Certificate>,
    actor: &'a Actor,
) -> Call<'a, AuthorityRow> {
    Box::pin(authority::import(context, id, chain, None, actor))
}

/// [`authority::reconcile`].
#[must_use]
pub fn reconcile_authorities(context: &Context) -> Call<'_, ()> {
    Box::pin(authority::reconcile(context))
}

/// [`authority::activate`].
#[must_use]
pub fn activate_authority<'a>(
    context: &'a Context,
    id: &'a AuthorityId,
    actor: &'a Actor,
) -> Call<'a, ()> {
    Box::pin(authority::activate(context, id, actor))
}

/// Whether a root's CRL was imported.
#[must_use]
pub fn has_root_crl(context: &Context) -> Call<'_, bool> {
    Box::pin(async { Ok(!context.store.root_crls().await?.is_empty()) })
}

/// [`status::root::import`].
#[must_use]
pub fn import_root_crls<'a>(
    context: &'a Context,
    ders: &'a [Vec<u8>],
    actor: &'a Actor,
) -> Call<'a, ()> {
    Box::pin(async move { status::root::import(context, ders, actor).await.map(drop) })
}

/// [`enrolment::create`].
#[must_use]
pub fn create_enrolment<'a>(
    context: &'a Context,
    cluster: &'a ClusterName,
    pattern: SpiffePattern,
    profile: ProfileName,
    ttl: Ttl,
    actor: &'a Actor,
) -> Call<'a, enrolment::NewEnrolment> {
    Box::pin(enrolment::create(
        context, cluster, pattern, profile, ttl, actor,
    ))
}
