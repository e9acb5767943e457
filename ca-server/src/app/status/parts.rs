//! The lists beside the complete one, for an authority whose operator asked for them: shards, each for the certificates
//! that name it, and a delta, of what has changed since an older complete list.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use pki::crl::{Reason, RevokedCertificate, Scope};
use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::urls::{DELTA, part_url, parts_base, shard_of, shard_part};
use super::{PAGE, ServedCrl};
use crate::app::state::Authority;
use crate::app::{App, Error};
use crate::store::model::{CrlShape, StatusEvent};

/// A list to be built: its name, what it is about, and its entries.
pub(super) struct Part {
    /// `None` for the complete list.
    pub(super) name: Option<String>,
    pub(super) about: About,
    pub(super) revoked: Vec<RevokedCertificate>,
}

/// [`Scope`], owning its URL.
pub(super) enum About {
    Complete { freshest: Option<String> },
    Shard { url: String },
    Delta { base: u64 },
}

impl About {
    pub(super) fn scope(&self) -> Scope<'_> {
        match self {
            Self::Complete { freshest } => Scope::Complete {
                freshest: freshest.as_deref(),
            },
            Self::Shard { url } => Scope::Shard { url },
            Self::Delta { base } => Scope::Delta { base: *base },
        }
    }
}

/// The complete list that deltas are made against. This replica's memory of it is enough: without it, the list that is in
/// force becomes the base, and readers of an older one fetch that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    number: u64,
    covers: Option<u64>,
    this_update: Timestamp,
}

impl App {
    /// Whether the list in force lacks a part that it should have.
    pub(super) fn lacks_parts(&self, authority: &Authority, crl: &ServedCrl) -> bool {
        let CrlShape { shards, delta } = authority.crl_shape;
        let has_shards = shards == 0 || crl.parts.contains_key(&shard_part(0));
        let has_url = parts_base(&self.context.settings, authority).is_some();
        has_url && !(has_shards && (!delta || crl.parts.contains_key(DELTA)))
    }

    /// Every list to be built of what is revoked, the complete one first.
    pub(super) async fn parts(
        &self,
        authority: &Authority,
        before: Option<&ServedCrl>,
        revoked: Vec<RevokedCertificate>,
    ) -> Result<Vec<Part>, Error> {
        let CrlShape { shards, delta } = authority.crl_shape;
        let url = parts_base(&self.context.settings, authority);
        let mut parts = Vec::new();
        if let Some(url) = url {
            parts.extend((0..shards).map(|shard| {
                let name = shard_part(shard);
                let of_it = |entry: &&RevokedCertificate| shard_of(&entry.serial, shards) == shard;
                Part {
                    about: About::Shard {
                        url: part_url(url, authority, &name),
                    },
                    name: Some(name),
                    revoked: revoked.iter().filter(of_it).copied().collect(),
                }
            }));
        }
        if let (true, Some(before)) = (delta, before) {
            let base = self.delta_base(&authority.id, before);
            parts.push(Part {
                name: Some(DELTA.to_owned()),
                about: About::Delta { base: base.number },
                revoked: self.changes_since(&authority.id, base, &revoked).await?,
            });
        }
        let freshest = url.filter(|_| delta);
        let complete = Part {
            name: None,
            about: About::Complete {
                freshest: freshest.map(|url| part_url(url, authority, DELTA)),
            },
            revoked,
        };
        parts.insert(0, complete);
        Ok(parts)
    }

    /// A base serves for as long as a complete list does before its refresh: who fetches one as often has it.
    fn delta_base(&self, id: &AuthorityId, before: &ServedCrl) -> Base {
        let refresh = self.context.settings.crl_refresh;
        let bases = self.status.bases.lock();
        let mut bases = bases.unwrap_or_else(PoisonError::into_inner);
        let in_force = Base {
            number: before.number,
            covers: before.covers,
            this_update: before.this_update,
        };
        let base = bases.entry(id.clone()).or_insert(in_force);
        if base.this_update.plus(refresh) <= before.this_update || base.number > before.number {
            *base = in_force;
        }
        *base
    }

    /// What has been revoked, held or lifted since `base`, as it stands now.
    async fn changes_since(
        &self,
        id: &AuthorityId,
        base: Base,
        revoked: &[RevokedCertificate],
    ) -> Result<Vec<RevokedCertificate>, Error> {
        let mut touched: BTreeSet<Serial> = BTreeSet::new();
        let (mut after, mut all) = (base.covers, false);
        loop {
            let events = self.context.store.status_events(id, after, PAGE).await?;
            let Some((last, _)) = events.last() else {
                break;
            };
            after = Some(*last);
            for (_, event) in &events {
                match event {
                    StatusEvent::Revoked(revocation) => {
                        touched.insert(revocation.serial);
                    }
                    StatusEvent::Lifted(serial) => {
                        touched.insert(*serial);
                    }
                    StatusEvent::AuthorityRevoked { .. } => all = true,
                }
            }
        }
        let mut changed: Vec<_> = revoked
            .iter()
            .filter(|entry| all || touched.contains(&entry.serial))
            .copied()
            .collect();
        let listed: BTreeSet<Serial> = changed.iter().map(|entry| entry.serial).collect();
        let now = self.context.clock.untrusted_now();
        changed.extend(
            touched
                .difference(&listed)
                .map(|serial| RevokedCertificate {
                    serial: *serial,
                    revoked_at: now,
                    reason: Reason::RemoveFromCrl,
                }),
        );
        Ok(changed)
    }
}
