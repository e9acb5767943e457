//! Tries tokens' keys out, each now and then: who learns that a token is gone from a refused request learns it too late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pki::name::AuthorityId;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::signing::Key;
use crate::app::tokens::{NamedToken, TokenKey};

/// How long to wait after a failure, doubled each time: a token comes back when someone plugs it in.
const RETRY: Duration = Duration::from_secs(1);
/// And no longer than this.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Opens `token` when it can be, and has each key of an authority in force sign a canary: every so often, as soon as one has
/// failed, and when an authority is new.
pub(super) async fn watch(app: Arc<App>, token: Arc<NamedToken>, stop: CancellationToken) {
    let mut changes = app.changes();
    let mut known = BTreeMap::new();
    let mut pause = RETRY;
    loop {
        changes.borrow_and_update();
        let round = async {
            let well = try_out(&app, &token, &mut known).await;
            pause = if well {
                RETRY
            } else {
                (pause * 2).min(RETRY_MAX)
            };
            let wait = if well {
                token.settings().canary
            } else {
                pause / 2
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = token.wanted() => {}
                _ = changes.changed() => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

/// Whether everything was well. `known` holds, of each key, whether it was.
async fn try_out(app: &App, token: &NamedToken, known: &mut BTreeMap<AuthorityId, bool>) -> bool {
    let keys = keys_in(app, token);
    known.retain(|id, _| {
        let stays = keys.iter().any(|key| key.authority() == id);
        if !stays {
            app.metrics().forget_canary(id, token.label());
        }
        stays
    });
    let mut well = true;
    for key in keys {
        let id = key.authority();
        let result = key.try_out().await;
        let now = app.context().clock.untrusted_now();
        app.metrics()
            .canary(id, token.label(), result.is_ok().then_some(now));
        let before = known.insert(id.clone(), result.is_ok());
        match (&result, before) {
            (Ok(()), None) => {
                tracing::info!(authority.id = %id, token = token.label(), "the key in its token works");
            }
            (Ok(()), Some(false)) => {
                tracing::info!(authority.id = %id, token = token.label(), "the key in its token works again");
            }
            // Once an outage, not once a try.
            (Err(error), None | Some(true)) => {
                tracing::error!(
                    authority.id = %id, token = token.label(), error = %error.detail(),
                    "the key in its token does not sign: what needs it is refused until it does"
                );
            }
            (Ok(()), Some(true)) | (Err(_), Some(false)) => {}
        }
        well &= result.is_ok();
    }
    well
}

fn keys_in(app: &App, token: &NamedToken) -> Vec<Arc<TokenKey>> {
    let snapshot = app.snapshot();
    let keys = snapshot
        .authorities
        .iter()
        .filter_map(|authority| match &authority.key {
            Some(Key::Token(key)) if key.token().label() == token.label() => Some(key.clone()),
            _ => None,
        });
    keys.collect()
}
