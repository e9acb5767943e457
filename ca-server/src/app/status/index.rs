//! One authority's revocations, in memory.

use std::collections::BTreeMap;

use pki::crl::Reason;
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::store::model::{Revocation, StatusEvent};

/// What is revoked or on hold, up to an index of the authority's log.
#[derive(Debug, Default)]
pub(super) struct AuthorityStatus {
    position: Option<u64>,
    revoked: BTreeMap<Serial, Revocation>,
    authority_revoked: Option<(Timestamp, u8)>,
}

impl AuthorityStatus {
    pub(super) fn at(position: Option<u64>) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }

    /// The index of the last event that is taken into account.
    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    pub(super) fn set_authority_revoked(&mut self, revoked: Option<(Timestamp, u8)>) {
        self.authority_revoked = revoked;
    }

    pub(super) fn extend(&mut self, page: Vec<Revocation>) {
        self.revoked.extend(
            page.into_iter()
                .map(|revocation| (revocation.serial, revocation)),
        );
    }

    /// The last of what was read so far, by serial number.
    pub(super) fn last_serial(&self) -> Option<&Serial> {
        self.revoked.last_key_value().map(|(serial, _)| serial)
    }

    /// Takes up events, in their order. One that is known already changes nothing.
    pub(super) fn apply(&mut self, events: Vec<(u64, StatusEvent)>) {
        for (index, event) in events {
            match event {
                StatusEvent::Revoked(revocation) => {
                    self.revoked.insert(revocation.serial, revocation);
                }
                StatusEvent::Lifted(serial) => {
                    self.revoked.remove(&serial);
                }
                StatusEvent::AuthorityRevoked { at, reason } => {
                    self.authority_revoked = Some((at, reason));
                }
            }
            self.position = self.position.max(Some(index));
        }
    }

    /// Since when and why everything that the authority issued is revoked with it. The reason belongs to the authority's
    /// certificate: that its key is in other hands says nothing of its leaves' own keys.
    pub(super) fn all_revoked(&self) -> Option<(Timestamp, u8)> {
        self.authority_revoked.map(|(at, reason)| {
            let of_leaves = match Reason::from_code(reason) {
                None | Some(Reason::CaCompromise) => Reason::Unspecified,
                Some(reason) => reason,
            };
            (at, of_leaves as u8)
        })
    }

    /// Since when and why a certificate is revoked by itself.
    pub(super) fn own_revocation(&self, serial: &Serial) -> Option<(Timestamp, u8)> {
        let own = self.revoked.get(serial);
        own.map(|revocation| (revocation.revoked_at, revocation.reason))
    }

    /// Since when and why a certificate is revoked. What was revoked by itself stays so; otherwise its authority decides.
    pub(super) fn revocation(&self, serial: &Serial) -> Option<(Timestamp, u8)> {
        self.own_revocation(serial).or(self.all_revoked())
    }

    /// What is revoked or on hold and has to be listed after a list made at `before`, by serial number: until one past its
    /// end (RFC 5280 §5.2). What has ended stays known: a certificate that was revoked is never good again.
    pub(super) fn to_list(&self, before: Timestamp) -> impl Iterator<Item = &Revocation> {
        let known = self.revoked.values();
        known.filter(move |revocation| revocation.not_after >= before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn revoked(n: u8, reason: u8) -> StatusEvent {
        StatusEvent::Revoked(Revocation {
            serial: Serial::issue(END, [n; 16]),
            revoked_at: END,
            reason,
            not_after: END,
        })
    }

    #[test]
    fn events_that_are_known_already_change_nothing() {
        let serial = Serial::issue(END, [1; 16]);
        let mut status = AuthorityStatus::at(Some(4));
        let events = vec![
            (5, revoked(1, 6)),
            (6, StatusEvent::Lifted(serial)),
            (9, revoked(2, 1)),
        ];
        status.apply(events.clone());
        status.apply(events);
        assert_eq!(status.position(), Some(9));
        assert_eq!(status.revocation(&serial), None);
        assert_eq!(status.to_list(Timestamp::EPOCH).count(), 1);
    }

    #[test]
    fn an_authority_that_is_revoked_takes_all_its_certificates_with_it() {
        let mut status = AuthorityStatus::at(None);
        status.apply(vec![
            (0, revoked(1, 4)),
            (1, StatusEvent::AuthorityRevoked { at: END, reason: 2 }),
        ]);
        let of = |n: u8| status.revocation(&Serial::issue(END, [n; 16]));
        assert_eq!(
            (of(1), of(2)),
            (Some((END, 4)), Some((END, 0))),
            "cACompromise is the authority's alone"
        );
    }

    #[test]
    fn what_a_list_made_after_its_end_has_shown_is_left_out_and_stays_revoked() {
        let mut status = AuthorityStatus::at(None);
        status.apply(vec![(0, revoked(1, 4))]);
        assert_eq!(status.to_list(END).count(), 1);
        let after = Timestamp::from_unix(END.unix() + 1);
        assert_eq!(status.to_list(after).count(), 0);
        let serial = Serial::issue(END, [1; 16]);
        assert_eq!(status.revocation(&serial), Some((END, 4)));
    }
}
