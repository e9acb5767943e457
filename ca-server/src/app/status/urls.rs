//! Where the readers of a certificate find its status, and what is served there: one place for both.

use pki::certificate::Urls;
use pki::profile::Profile;
use pki::serial::{SERIAL_ENTROPY, Serial};

use crate::app::state::Authority;
use crate::config::StatusSettings;
use crate::store::model::CrlShape;

/// The name of a delta among a CRL's parts.
pub(super) const DELTA: &str = "delta";

/// The name of a shard among a CRL's parts.
pub(super) fn shard_part(shard: u16) -> String {
    format!("shard-{shard}")
}

/// The shard that a serial number of ours is listed in: of its random octets, the first two.
pub(super) fn shard_of(serial: &Serial, shards: u16) -> u16 {
    // Our layout: a version octet, two of the day, then the random ones.
    match serial.as_bytes() {
        [_, _, _, a, b, ..] => shard(*a, *b, shards),
        _ => 0,
    }
}

fn shard(a: u8, b: u8, shards: u16) -> u16 {
    u16::from_be_bytes([a, b]).checked_rem(shards).unwrap_or(0)
}

/// The address of a part of an authority's CRL.
pub(super) fn part_url(base: &str, authority: &Authority, part: &str) -> String {
    format!("{base}/crls/{}/{part}.crl", authority.id)
}

/// Where the parts of an authority's CRL are found: as it was when the authority was requested, because its leaves say so,
/// and a shard is read only by its name (RFC 5280 §6.3.3 (b)(2)(i)).
pub(super) fn parts_base<'a>(
    settings: &'a StatusSettings,
    authority: &'a Authority,
) -> Option<&'a str> {
    let own = authority.public_url.as_deref();
    own.or(settings.public_url.as_deref())
}

/// The URLs of a certificate of `profile` that `authority` signs with a serial number of this randomness.
pub(in crate::app) fn urls(
    settings: &StatusSettings,
    profile: Profile,
    authority: &Authority,
    entropy: &[u8; SERIAL_ENTROPY],
) -> Urls {
    let (Some(base), kinds) = (&settings.public_url, settings.urls_of(profile)) else {
        return Urls::default();
    };
    let CrlShape { shards, delta } = authority.crl_shape;
    let of_parts = parts_base(settings, authority).unwrap_or(base);
    let crl = match shards {
        0 => format!("{base}/crls/{}.crl", authority.id),
        shards => {
            let shard = shard(entropy[0], entropy[1], shards);
            part_url(of_parts, authority, &shard_part(shard))
        }
    };
    Urls {
        crl: kinds.crl.then_some(crl),
        ca_issuers: kinds
            .issuer
            .then(|| format!("{base}/authorities/{}.crt", authority.id)),
        ocsp: kinds.ocsp.then(|| format!("{base}/ocsp")),
        freshest_crl: (kinds.crl && delta).then(|| part_url(of_parts, authority, DELTA)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::time::Timestamp;

    #[test]
    fn a_serial_number_falls_into_the_shard_that_its_certificate_names() {
        for shards in [0, 1, 2, 7, 256] {
            for n in 0..=u8::MAX {
                let entropy = [n; SERIAL_ENTROPY];
                let serial = Serial::issue(Timestamp::from_unix(1_800_000_000), entropy);
                assert_eq!(shard_of(&serial, shards), shard(n, n, shards));
                assert!(shards == 0 || shard_of(&serial, shards) < shards);
            }
        }
    }
}
