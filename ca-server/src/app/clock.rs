//! An operator's word on the clock.

use pki::time::Timestamp;

use super::actor::Actor;
use super::{Context, Error};

/// Believes the clock as it is now, after a step of more than an hour. Running servers take it up within seconds.
///
/// # Errors
/// When the store is away.
pub async fn accept(context: &Context, actor: &Actor) -> Result<Timestamp, Error> {
    let now = context.clock.untrusted_now();
    let audit = [actor.did(now, "clock.accept", &serde_json::json!({ "at": now }))];
    context.store.accept_clock(now, &actor.name, &audit).await?;
    context.clock.accept();
    Ok(now)
}
