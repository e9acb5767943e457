//! Authorities: request → carry → import → published → active → retiring → retired. Two slots a cluster: one that signs,
//! and the next, which everyone trusts before it signs.

use pki::certificate::{Certificate, Issuer};
use pki::crypto::{self, Digest};
use pki::csr::prepare_request;
use pki::extension::Purpose;
use pki::name::{AuthorityId, ClusterName, DistinguishedName, TrustDomain};
use pki::profile::Profile;
use pki::rotation::{self, Life};
use pki::time::{Timestamp, Ttl};

use super::cluster::{self, ClusterDefinition, Role};
use super::new_key::NewKey;
use super::signing::Key;
use super::{Actor, Context, Error, ErrorKind, status};
use crate::store::model::{AuthorityRow, AuthorityState, ClusterRow, CrlShape, NewAudit};

/// For how long a replica may not have heard that another authority signs now.
const HANDOVER: Ttl = Ttl::hours(1);

fn refuse(reason: &'static str, text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, reason, text.into())
}

/// The authority of this id.
///
/// # Errors
/// When there is none, or the store is away.
pub async fn find(context: &Context, id: &AuthorityId) -> Result<AuthorityRow, Error> {
    context.store.authority(id).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "authority",
            format!("there is no authority {id}"),
        )
    })
}

/// The authority of this id, in the one state from which it is `done`.
pub(super) async fn find_in(
    context: &Context,
    id: &AuthorityId,
    state: AuthorityState,
    done: &str,
) -> Result<AuthorityRow, Error> {
    let row = find(context, id).await?;
    if row.state == state {
        return Ok(row);
    }
    let article = match state {
        AuthorityState::Imported | AuthorityState::Active => "an",
        _ => "a",
    };
    Err(refuse(
        "state",
        format!(
            "{id} is {}: only {article} {state} authority is {done}",
            row.state
        ),
    ))
}

/// A shard's address stands in its certificates and in itself: without one there is no shard.
fn check_shape(context: &Context, shape: CrlShape) -> Result<(), Error> {
    let fault = match shape {
        CrlShape { shards: 1, .. } | CrlShape { shards: 257.., .. } => {
            "a CRL is cut into 2 to 256 shards"
        }
        CrlShape {
            shards: 2..,
            delta: true,
        } => {
            "shards and a delta do not go together: a shard is small, and a delta is of the whole list"
        }
        CrlShape {
            shards: 0,
            delta: false,
        } => return Ok(()),
        _ if context.settings.public_url.is_none() => {
            "shards and deltas are found by their URLs: public.url is needed"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Malformed, "crl-shape", fault))
}

/// Makes the key of a cluster's next authority, and the request that is carried to whoever signs it.
///
/// If we crash after the key was made in a token and before the request is in the store, the key is left there without a
/// use, and the next request says so: it is not taken up by itself, because another installation may have made it.
///
/// # Errors
/// When there is no such cluster, its next slot is taken, the key's token is away or has such a key, the key has to be
/// confined to a token and is not, or the store is away.
pub async fn request(
    context: &Context,
    cluster: &ClusterName,
    new_key: &NewKey,
    crl_shape: CrlShape,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    check_shape(context, crl_shape)?;
    let row = cluster::find(context, cluster).await?;
    let mut generation = 0;
    for authority in context.store.authorities().await? {
        use AuthorityState as S;
        if &authority.cluster != cluster {
            continue;
        }
        if matches!(authority.state, S::Requested | S::Imported | S::Published) {
            return Err(refuse(
                "slot",
                format!(
                    "cluster {cluster}'s next slot is taken by {0}, which is {1} (`ca-server authority show {0}`){2}",
                    authority.id,
                    authority.state,
                    match authority.state {
                        S::Requested =>
                            "; if its request is lost or was refused: `ca-server authority abandon`",
                        _ => "",
                    }
                ),
            ));
        }
        generation = authority.generation.max(generation);
    }
    let generation = generation + 1;
    let id = AuthorityId::of_cluster(cluster, generation);
    // Each generation has a subject of its own: Istio looks CRLs up by it.
    let subject = DistinguishedName::new(
        Some(short(row.trust_domain.as_str())),
        short(&match cluster::role(&row)? {
            Role::Workloads => format!("{cluster} cluster CA {generation}"),
            Role::Fleet => format!("{cluster} fleet CA {generation}"),
        }),
    )
    .map_err(|error| Error::malformed("subject", error))?;
    let made = new_key.make(context, &id).await?;
    let request = made
        .key
        .seal(prepare_request(&subject, &made.public_key))
        .await?;
    let (key_uri, key_origin) = made.in_token.unzip();
    let row = AuthorityRow {
        id,
        cluster: cluster.clone(),
        generation,
        state: AuthorityState::Requested,
        subject: subject.common_name().to_owned(),
        spki: made.public_key.spki().to_vec(),
        sealed_key: made.sealed,
        key_uri,
        key_origin,
        request: request.der().to_vec(),
        chain: Vec::new(),
        not_after: None,
        activate_at: None,
        created_at: context.clock.untrusted_now(),
        revoked: None,
        crl_shape,
        published_at: None,
        public_url: context
            .settings
            .public_url
            .clone()
            .filter(|_| crl_shape != CrlShape::default()),
        version: 0,
    };
    let audit = [entry(context, actor, "authority.request", &row)];
    context.store.insert_authority(&row, &audit).await?;
    Ok(row)
}

/// Gives up an authority that was requested and never signed: its slot is free, its key is gone, and its generation is
/// used up.
///
/// # Errors
/// When there is no such authority, it was imported already, or the store is away.
pub async fn abandon(
    context: &Context,
    id: &AuthorityId,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let mut row = find(context, id).await?;
    if row.state != AuthorityState::Requested {
        return Err(refuse(
            "state",
            format!(
                "{id} is {}: only a requested authority is abandoned, one that signs or signed is revoked",
                row.state
            ),
        ));
    }
    row.state = AuthorityState::Retired;
    row.sealed_key = None;
    update(context, actor, "authority.abandon", &row).await?;
    find(context, id).await
}

/// A name of at most 64 characters (RFC 5280 appendix A.1).
pub(super) fn short(name: &str) -> &str {
    name.char_indices()
        .nth(64)
        .map_or(name, |(end, _)| &name[..end])
}

/// Takes the signed certificate of a requested authority: `chain` holds it, each CA above it and the root; a root that
/// the trust domain already believes in may be left out.
///
/// `new_root` is the SHA-256 of a root that the trust domain is to believe in from now on; it is asked for where it has others.
///
/// # Errors
/// When the key is another one, the chain does not hold, the certificate is no cluster intermediate's, it is not valid
/// now, or the store is away.
pub async fn import(
    context: &Context,
    id: &AuthorityId,
    chain: Vec<Certificate>,
    new_root: Option<&Digest>,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let Importable {
        mut row,
        trust_domain,
        chain,
        not_after,
        ..
    } = check(context, id, chain, new_root).await?;
    let now = context.clock.trusted_now()?;
    let root = chain
        .last()
        .map(|root| root.der().to_vec())
        .unwrap_or_default();
    row.state = AuthorityState::Imported;
    row.not_after = Some(not_after);
    row.chain = chain
        .iter()
        .map(|certificate| certificate.der().to_vec())
        .collect();
    // If we crash between the two, the root is believed a little early, and the import is done again.
    let detail = serde_json::json!({
        "trust_domain": trust_domain, "sha256": crypto::hex(&crypto::sha256(&root)), "authority": row.id,
    });
    let audit = [actor.did(now, "root.add", &detail)];
    context
        .store
        .add_root(&trust_domain, &root, now, &audit)
        .await?;
    update(context, actor, "authority.import", &row).await?;
    find(context, id).await
}

/// A signed authority that may come in.
#[derive(Debug)]
pub struct Importable {
    /// As it is now.
    pub row: AuthorityRow,
    /// Whose roots it stands below.
    pub trust_domain: TrustDomain,
    /// Its certificate, those above it, and last the root.
    pub chain: Vec<Certificate>,
    /// Whether the trust domain does not believe in the root yet.
    pub brings_a_root: bool,
    not_after: Timestamp,
}

/// Whether a signed authority may come in; nothing is changed.
///
/// # Errors
/// As [`import`].
pub async fn check(
    context: &Context,
    id: &AuthorityId,
    chain: Vec<Certificate>,
    new_root: Option<&Digest>,
) -> Result<Importable, Error> {
    let row = find_in(context, id, AuthorityState::Requested, "imported").await?;
    let cluster = cluster::find(context, &row.cluster).await?;
    let known = context.store.bundle(&cluster.trust_domain).await?;
    let chain = complete(chain, &known.roots)?;
    let now = context.clock.trusted_now()?;
    check_import(&row, cluster::role(&cluster)?, &chain, now)?;
    check_root(&cluster, &chain, &known.roots, new_root)?;
    refuse_shared_subject(context, &row, &chain).await?;
    let issuer = Issuer::from_chain(&chain).map_err(|error| Error::malformed("chain", error))?;
    let root = chain.last();
    Ok(Importable {
        brings_a_root: root.is_some_and(|root| known.roots.iter().all(|der| der != root.der())),
        not_after: issuer.not_after(),
        trust_domain: cluster.trust_domain,
        row,
        chain,
    })
}

/// Retires an authority that came in and never signed a certificate; its key goes with it.
///
/// # Errors
/// When it signs or signed, there is no such authority, or the store is away.
pub async fn retire_unused(
    context: &Context,
    id: &AuthorityId,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let mut row = find(context, id).await?;
    let why_not = match row.state {
        AuthorityState::Imported | AuthorityState::Published => None,
        AuthorityState::Requested => Some("it never came in: abandon it"),
        AuthorityState::Active => {
            Some("it signs: activate its successor, and it retires by itself")
        }
        AuthorityState::Retiring => Some("it retires by itself when its last certificate is over"),
        AuthorityState::Retired => Some("there is nothing to do"),
        AuthorityState::Revoked => Some("it retires by itself when it has ended"),
    };
    if let Some(why_not) = why_not {
        return Err(refuse("state", format!("{id} is {}: {why_not}", row.state)));
    }
    row.state = AuthorityState::Retired;
    row.sealed_key = None;
    update(context, actor, "authority.retire", &row).await?;
    find(context, id).await
}

/// A root that everyone will believe in comes with the first authority of a trust domain, and after that on an operator's word
/// alone: the file with the chain was carried, and may have been changed on its way.
fn check_root(
    cluster: &ClusterRow,
    chain: &[Certificate],
    known: &[Vec<u8>],
    new_root: Option<&Digest>,
) -> Result<(), Error> {
    let Some(root) = chain.last() else {
        return Ok(());
    };
    let digest = crypto::sha256(root.der());
    if let Some(meant) = new_root.filter(|meant| **meant != digest) {
        return Err(refuse(
            "root",
            format!(
                "the chain ends at another root than --new-root says: {}, and not {}",
                crypto::hex(&digest),
                crypto::hex(meant)
            ),
        ));
    }
    let is_known = known.iter().any(|der| der == root.der());
    if known.is_empty() || is_known || new_root.is_some() {
        return Ok(());
    }
    let of_the_same_name = known.iter().any(|der| {
        Certificate::parse(der).is_ok_and(|believed| believed.subject() == root.subject())
    });
    let warning = match of_the_same_name {
        true => " (it has the name of one that it believes in, and another key)",
        false => "",
    };
    Err(refuse(
        "root",
        format!(
            "the chain ends at a root that trust domain {} does not believe in: {}{warning}, SHA-256 {}. If everyone is to believe in it, compare \
             that with the root's own ceremony (`openssl x509 -in root.pem -outform DER | sha256sum` there), and import again with --new-root and it",
            cluster.trust_domain,
            pki::ceremony::name_words(root.subject()),
            crypto::hex(&digest)
        ),
    ))
}

/// Appends the root where the chain ends below one that is believed in.
fn complete(mut chain: Vec<Certificate>, known: &[Vec<u8>]) -> Result<Vec<Certificate>, Error> {
    let Some(last) = chain.last() else {
        return Ok(chain);
    };
    if last.is_self_issued() {
        return Ok(chain);
    }
    for der in known {
        let root = Certificate::parse(der).map_err(Error::internal)?;
        let key = root.public_key().map_err(Error::internal)?;
        if root.subject() == last.issuer() && last.verify_by(&key).is_ok() {
            chain.push(root);
            break;
        }
    }
    Ok(chain)
}

fn check_import(
    row: &AuthorityRow,
    role: Role,
    chain: &[Certificate],
    now: Timestamp,
) -> Result<(), Error> {
    let malformed = |text: String| Error::new(ErrorKind::Malformed, "chain", text);
    let own = chain
        .first()
        .ok_or_else(|| malformed("the file has no certificate".to_owned()))?;
    if own.spki() != row.spki {
        return Err(malformed(format!(
            "the certificate is for another key than the one {} was requested with",
            row.id
        )));
    }
    let issuer = Issuer::from_chain(chain).map_err(|error| Error::malformed("chain", error))?;
    for certificate in chain {
        if certificate.extensions().unknown_critical {
            return Err(malformed(format!(
                "{} has a critical extension that readers do not know: they would refuse every chain through it",
                pki::ceremony::name_words(certificate.subject())
            )));
        }
    }
    let purposes = own.extensions().purposes.as_deref();
    if let Some(purposes) = purposes
        && ![Purpose::ServerAuth, Purpose::ClientAuth]
            .iter()
            .all(|needed| purposes.contains(needed))
    {
        return Err(malformed(
            "the certificate is for certain purposes, and serverAuth and clientAuth are not both among them: readers would refuse its leaves"
                .to_owned(),
        ));
    }
    if !issuer.signs_crls() {
        return Err(malformed(
            "the certificate lacks cRLSign: every verifier would refuse its CRLs".to_owned(),
        ));
    }
    match (role, issuer.path_len()) {
        (Role::Workloads, Some(0)) | (Role::Fleet, Some(1)) => {}
        (Role::Workloads, _) => {
            return Err(malformed(
                "a cluster's intermediate has path length 0".to_owned(),
            ));
        }
        (Role::Fleet, _) => {
            return Err(malformed(
                "a fleet's intermediate has path length 1: clusters' intermediates stand below it"
                    .to_owned(),
            ));
        }
    }
    if own.extensions().has_name_constraints {
        return Err(malformed(
            "the certificate has name constraints: rustls-webpki (ztunnel) refuses every chain with URI ones".to_owned(),
        ));
    }
    if chain.len() < 2 {
        return Err(malformed(
            "the certificate is a root: a cluster has an intermediate under one".to_owned(),
        ));
    }
    if now < issuer.not_before() || now >= issuer.not_after() {
        return Err(malformed(format!(
            "the chain is valid from {} to {}, and it is {now}",
            issuer.not_before(),
            issuer.not_after()
        )));
    }
    Ok(())
}

/// Two authorities of one name are told apart by no one who looks a CRL up by its issuer (Istio, OpenSSL).
async fn refuse_shared_subject(
    context: &Context,
    row: &AuthorityRow,
    chain: &[Certificate],
) -> Result<(), Error> {
    let Some(own) = chain.first() else {
        return Ok(());
    };
    for other in context.store.authorities().await? {
        let theirs = other.chain.first().filter(|_| other.id != row.id);
        let Some(theirs) = theirs else { continue };
        let theirs = Certificate::parse(theirs).map_err(Error::internal)?;
        if theirs.subject() == own.subject() {
            return Err(refuse(
                "subject",
                format!(
                    "{} has the same subject, {}: readers find CRLs by it, so each authority has a subject of its own",
                    other.id,
                    pki::ceremony::name_words(own.subject())
                ),
            ));
        }
    }
    Ok(())
}

/// Publishes an imported authority: signs its first CRL. From then on it is in every bundle, and may become active.
///
/// # Errors
/// When it is not imported, or the store is away.
pub async fn publish(
    context: &Context,
    id: &AuthorityId,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let mut row = find_in(context, id, AuthorityState::Imported, "published").await?;
    if context.store.crl(id).await?.is_none() {
        let issuer = Issuer::from_chain(&parse_chain(&row)?).map_err(Error::internal)?;
        let key = Key::of(context, &row)?.ok_or_else(|| {
            let text = format!("the token that holds the key of {id} is not in this configuration");
            Error::new(ErrorKind::Conflict, "no-key", text)
        })?;
        key.make_ready().await?;
        let crl = status::first_crl(context, &issuer, &key).await?;
        context.store.put_crl(id, &crl, None).await?;
    }
    row.state = AuthorityState::Published;
    row.published_at = Some(context.clock.trusted_now()?);
    update(context, actor, "authority.publish", &row).await?;
    find(context, id).await
}

fn parse_chain(row: &AuthorityRow) -> Result<Vec<Certificate>, Error> {
    row.chain
        .iter()
        .map(|der| Certificate::parse(der).map_err(Error::internal))
        .collect()
}

/// Makes a published authority the one that signs; the one before it retires. A key in a token that this process can reach
/// shows first that it signs.
///
/// # Errors
/// When it is not published, its key does not sign, it would end before the leaves it signs, lost a race, or the store is away.
pub async fn activate(context: &Context, id: &AuthorityId, actor: &Actor) -> Result<(), Error> {
    let row = find_in(context, id, AuthorityState::Published, "activated").await?;
    let longest_leaf = longest_leaf(context, &row.cluster).await?;
    let now = context.clock.trusted_now()?;
    rotation::may_activate(life(&row)?, longest_leaf, now)
        .map_err(|error| refuse("life", error.to_string()))?;
    if let Some(key) = Key::of(context, &row)? {
        key.make_ready().await?;
    }
    let audit = [entry(context, actor, "authority.activate", &row)];
    context
        .store
        .swap_active(id, row.version, now, &audit)
        .await?;
    Ok(())
}

async fn longest_leaf(context: &Context, cluster: &ClusterName) -> Result<Ttl, Error> {
    let row = cluster::find(context, cluster).await?;
    let definition = ClusterDefinition::of(&row)?;
    Ok(match definition.role {
        Role::Workloads => definition.longest_ttl(),
        Role::Fleet => Profile::CLUSTER_INTERMEDIATE.default_ttl(),
    })
}

fn life(row: &AuthorityRow) -> Result<Life, Error> {
    let issuer = Issuer::from_chain(&parse_chain(row)?).map_err(Error::internal)?;
    Ok(Life {
        not_before: issuer.not_before(),
        not_after: issuer.not_after(),
    })
}

/// Until when a published authority is only published: readers fetch its first CRL in this time, and refuse its leaves
/// without it. `None` where it need not wait: the installation's first of all is new to everyone alike.
fn published_until(
    context: &Context,
    next: &AuthorityRow,
    rows: &[AuthorityRow],
) -> Option<Timestamp> {
    use AuthorityState as S;
    let others = rows.iter().filter(|row| row.id != next.id);
    let is_first = others
        .into_iter()
        .all(|row| matches!(row.state, S::Requested | S::Imported));
    let since = next.published_at.filter(|_| !is_first)?;
    Some(since.plus(context.settings.publish_for))
}

/// Until when a published authority waits before it becomes active by itself; `None` when it does not wait for time.
///
/// # Errors
/// When the store is away.
pub async fn waits_until(
    context: &Context,
    row: &AuthorityRow,
) -> Result<Option<Timestamp>, Error> {
    if row.state != AuthorityState::Published {
        return Ok(None);
    }
    let rows = context.store.authorities().await?;
    let until = published_until(context, row, &rows);
    let now = context.clock.untrusted_now();
    Ok(until.filter(|until| *until > now))
}

/// Moves every cluster on: publishes what was imported, activates the next one when it is due (where none is active, as
/// soon as it was published for long enough), retires what has ended, whatever it was until then. Idempotent; a replica
/// that is late loses the compare-and-set and changes nothing.
///
/// # Errors
/// When the store is away or the clock is not trusted.
pub async fn reconcile(context: &Context) -> Result<(), Error> {
    let actor = Actor::itself("reconciler");
    let now = context.clock.trusted_now()?;
    let rows = context.store.authorities().await?;
    for row in &rows {
        // Who has its token signs its first CRL and has it take over; that it has ended anybody may see.
        let is_elsewhere = || {
            let uri = row.key_uri.as_ref();
            uri.is_some_and(|uri| context.tokens.of(uri).is_err())
        };
        let step = match row.state {
            AuthorityState::Requested | AuthorityState::Retired => continue,
            _ if has_ended(row, now) => end(context, row, &actor).await,
            AuthorityState::Imported | AuthorityState::Published if is_elsewhere() => continue,
            AuthorityState::Imported => publish(context, &row.id, &actor).await.map(|_| ()),
            AuthorityState::Published if is_due(context, row, &rows, now).await? => {
                activate(context, &row.id, &actor).await
            }
            AuthorityState::Retiring if is_over(context, row, &rows, now).await? => {
                retire(context, row, &actor, "authority.retire").await
            }
            _ => continue,
        };
        if let Err(error) = step {
            // A token that is away is no reason for the other clusters to stand still.
            if error.reason() == "store" {
                return Err(error);
            }
            tracing::warn!(authority.id = %row.id, error = %error.detail(), "the authority stays as it is");
        }
    }
    Ok(())
}

/// Whether its certificate, or one above it, is over: it signs nothing that anyone would believe, no list either.
fn has_ended(row: &AuthorityRow, now: Timestamp) -> bool {
    row.not_after.is_some_and(|end| end <= now)
}

/// Retires an authority whose certificate is over. Left as it is, its list, which cannot be renewed, would be missing in
/// everyone's set for ever.
async fn end(context: &Context, row: &AuthorityRow, actor: &Actor) -> Result<(), Error> {
    retire(context, row, actor, "authority.end").await?;
    if row.state == AuthorityState::Active {
        tracing::error!(
            authority.id = %row.id, cluster.id = %row.cluster,
            "the active authority has ended: its cluster issues nothing until another is active"
        );
    } else {
        tracing::info!(authority.id = %row.id, state = %row.state, "the authority has ended and is retired");
    }
    Ok(())
}

async fn retire(
    context: &Context,
    row: &AuthorityRow,
    actor: &Actor,
    kind: &str,
) -> Result<(), Error> {
    // It signs nothing more: its key goes with it.
    let retired = AuthorityRow {
        state: AuthorityState::Retired,
        sealed_key: None,
        ..row.clone()
    };
    update(context, actor, kind, &retired).await
}

/// Whether the last leaf has expired, and a CRL has been out since that lists what was revoked (RFC 5280 §5.2).
async fn is_over(
    context: &Context,
    row: &AuthorityRow,
    rows: &[AuthorityRow],
    now: Timestamp,
) -> Result<bool, Error> {
    let succeeded = rows
        .iter()
        .find(|other| other.cluster == row.cluster && other.state == AuthorityState::Active)
        .and_then(|active| active.activate_at);
    if succeeded.is_none_or(|at| now < at.plus(HANDOVER)) {
        return Ok(false);
    }
    let Some(last) = context.store.last_expiry(&row.id).await? else {
        return Ok(true);
    };
    if last >= now {
        return Ok(false);
    }
    let crl = context.store.crl(&row.id).await?;
    Ok(crl.is_none_or(|crl| crl.this_update > last))
}

async fn is_due(
    context: &Context,
    next: &AuthorityRow,
    rows: &[AuthorityRow],
    now: Timestamp,
) -> Result<bool, Error> {
    if published_until(context, next, rows).is_some_and(|until| until > now) {
        return Ok(false);
    }
    let longest_leaf = longest_leaf(context, &next.cluster).await?;
    if rotation::may_activate(life(next)?, longest_leaf, now).is_err() {
        return Ok(false);
    }
    let active = rows
        .iter()
        .find(|row| row.cluster == next.cluster && row.state == AuthorityState::Active);
    match active {
        None => Ok(true),
        Some(active) => Ok(rotation::replacement_due(life(active)?, longest_leaf) <= now),
    }
}

/// Puts an authority that is still at the row's version in its place, and tells of it.
async fn update(
    context: &Context,
    actor: &Actor,
    kind: &str,
    row: &AuthorityRow,
) -> Result<(), Error> {
    let audit = [entry(context, actor, kind, row)];
    let store = &context.store;
    store.update_authority(row, row.version, &audit).await?;
    Ok(())
}

fn entry(context: &Context, actor: &Actor, kind: &str, row: &AuthorityRow) -> NewAudit {
    let certificate = row
        .chain
        .first()
        .map(|der| crypto::hex(&crypto::sha256(der)));
    let detail = serde_json::json!({
        "authority": row.id, "cluster": row.cluster, "subject": row.subject, "key": row.key_place(),
        "spki_sha256": crypto::hex(&crypto::sha256(&row.spki)), "certificate_sha256": certificate,
    });
    actor.did(context.clock.untrusted_now(), kind, &detail)
}
