//! Who administers: proof by a client certificate of profile `admin`, or by an OIDC token of a configured issuer.

use std::net::SocketAddr;

use pki::profile::Profile;

use super::{PeerCertificate, record_of_peer, unauthenticated};
use crate::app::permit::Principal;
use crate::app::{App, Error, ErrorKind};

/// Proves an administrator, and looks up its roles. A certificate goes before a token.
///
/// # Errors
/// `Unauthenticated` when nothing proves it, with a reason class; `Denied` for a certificate of ours that is none of an
/// administrator's; `Unavailable` when the store is away.
pub async fn authenticate(
    app: &App,
    peer: Option<&PeerCertificate>,
    bearer: Option<&str>,
    remote: SocketAddr,
) -> Result<Principal, Error> {
    let mut certificate = None;
    let (name, groups) = match (peer, bearer) {
        (Some(peer), _) => {
            certificate = Some(peer.shown(app.context().clock.trusted_now()?));
            (by_certificate(app, peer).await?, Vec::new())
        }
        (None, Some(token)) => {
            let now = app.context().clock.trusted_now()?;
            app.administration().by_token(token, now).await?
        }
        (None, None) => {
            return Err(unauthenticated(
                "no-credential",
                "no client certificate of ours and no token",
            ));
        }
    };
    let powers = app.powers(&name, &groups).await?;
    Ok(Principal {
        name,
        powers,
        remote: remote.to_string(),
        certificate,
    })
}

/// Only the home cluster's authority makes administrators: one that another cluster's signed, an edge's say, is a name that
/// nobody vouched for.
async fn by_certificate(app: &App, peer: &PeerCertificate) -> Result<String, Error> {
    let stored = record_of_peer(app, Some(peer)).await?;
    let record = &stored.record;
    let is_admin = record.profile.as_str() == Profile::ADMIN.as_str();
    if !is_admin || record.cluster != app.administration().home_cluster {
        return Err(Error::new(
            ErrorKind::Denied,
            "not-an-administrator",
            "this certificate is not an administrator's",
        ));
    }
    peer.common_name()
        .map(|name| format!("cert:{name}"))
        .ok_or_else(|| {
            unauthenticated(
                "certificate",
                "an administrator's certificate without a name",
            )
        })
}
