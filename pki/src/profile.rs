//! Profiles: what a certificate looks like. The built-in ones are all there are today.

use crate::extension::{KeyUsage, Purpose};
use crate::key::KeyAlgorithm;
use crate::name::{NameError, ProfileName};
use crate::time::Ttl;

/// Which names a certificate of the profile carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A distinguished name alone.
    CommonName,
    /// Host names and addresses.
    Hosts,
    /// Exactly one SPIFFE id and an empty subject (X509-SVID §2).
    OneSpiffeId,
}

/// What a certificate looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    name: &'static str,
    names: NameRule,
    purposes: &'static [Purpose],
    default_ttl: Ttl,
    max_ttl: Ttl,
    keys: &'static [KeyKind],
    authority: bool,
    no_check: bool,
    revocable: bool,
}

/// A kind of key, its size aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    P256,
    P384,
    Rsa,
}

/// Ed25519 is in no profile: Envoy does not offer it.
const LEAF_KEYS: &[KeyKind] = &[KeyKind::P256, KeyKind::P384, KeyKind::Rsa];
const CA_KEYS: &[KeyKind] = &[KeyKind::P256, KeyKind::P384];

/// The profile of an authority: its names and lifetimes.
const fn authority(name: &'static str, default_ttl: Ttl, max_ttl: Ttl) -> Profile {
    Profile {
        name,
        names: NameRule::CommonName,
        purposes: &[],
        default_ttl,
        max_ttl,
        keys: CA_KEYS,
        authority: true,
        no_check: false,
        revocable: true,
    }
}

const fn leaf(
    name: &'static str,
    names: NameRule,
    purposes: &'static [Purpose],
    default_ttl: Ttl,
    max_ttl: Ttl,
) -> Profile {
    Profile {
        name,
        names,
        purposes,
        default_ttl,
        max_ttl,
        keys: LEAF_KEYS,
        authority: false,
        no_check: false,
        revocable: true,
    }
}

impl Profile {
    /// A mesh workload: one SPIFFE id, server and client.
    pub const WORKLOAD: Self = leaf(
        "workload",
        NameRule::OneSpiffeId,
        &[Purpose::ServerAuth, Purpose::ClientAuth],
        Ttl::hours(24),
        Ttl::days(90),
    );
    /// A mesh workload whose certificate is over before anybody would look up a revocation, and says so.
    pub const WORKLOAD_EPHEMERAL: Self = Self {
        revocable: false,
        ..leaf(
            "workload-ephemeral",
            NameRule::OneSpiffeId,
            &[Purpose::ServerAuth, Purpose::ClientAuth],
            Ttl::hours(1),
            Ttl::hours(24),
        )
    };
    /// A gateway: host names and addresses.
    pub const SERVER: Self = leaf(
        "server",
        NameRule::Hosts,
        &[Purpose::ServerAuth],
        Ttl::days(90),
        Ttl::days(397),
    );
    /// A client that is no mesh workload.
    pub const CLIENT: Self = leaf(
        "client",
        NameRule::Hosts,
        &[Purpose::ClientAuth],
        Ttl::days(1),
        Ttl::days(90),
    );
    /// The CA's own listeners.
    pub const SERVING: Self = leaf(
        "serving",
        NameRule::Hosts,
        &[Purpose::ServerAuth],
        Ttl::days(7),
        Ttl::days(30),
    );
    /// A person or a program that administers the CA.
    pub const ADMIN: Self = leaf(
        "admin",
        NameRule::CommonName,
        &[Purpose::ClientAuth],
        Ttl::days(30),
        Ttl::days(397),
    );
    /// A delegated OCSP responder (RFC 6960 §4.2.2.2).
    pub const OCSP_RESPONDER: Self = Self {
        no_check: true,
        ..leaf(
            "ocsp-responder",
            NameRule::CommonName,
            &[Purpose::OcspSigning],
            Ttl::days(7),
            Ttl::days(30),
        )
    };
    /// A cluster's intermediate: signs leaves only.
    pub const CLUSTER_INTERMEDIATE: Self =
        authority("cluster-intermediate", Ttl::days(365), Ttl::days(3 * 365));
    /// The online intermediate at the centre that signs clusters' intermediates.
    pub const FLEET_INTERMEDIATE: Self =
        authority("fleet-intermediate", Ttl::days(3 * 365), Ttl::days(5 * 365));
    /// An intermediate for another system (istiod, SPIRE, Linkerd).
    pub const SUBORDINATE_CA: Self = authority("subordinate-ca", Ttl::days(365), Ttl::days(365));
    /// The offline root.
    pub const ROOT: Self = authority("root", Ttl::days(3650), Ttl::days(25 * 365));

    /// Every built-in profile.
    pub const ALL: [Self; 11] = [
        Self::WORKLOAD,
        Self::WORKLOAD_EPHEMERAL,
        Self::SERVER,
        Self::CLIENT,
        Self::SERVING,
        Self::ADMIN,
        Self::OCSP_RESPONDER,
        Self::CLUSTER_INTERMEDIATE,
        Self::FLEET_INTERMEDIATE,
        Self::SUBORDINATE_CA,
        Self::ROOT,
    ];

    /// The built-in profile of this name.
    #[must_use]
    pub fn builtin(name: &ProfileName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name == name.as_str())
    }

    /// Its name.
    ///
    /// # Errors
    /// Never: the built-in names are of the alphabet, which a test holds.
    pub fn name(&self) -> Result<ProfileName, NameError> {
        ProfileName::parse(self.name)
    }

    /// Its name as text.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        self.name
    }

    /// Which names its certificates carry.
    #[must_use]
    pub const fn names(&self) -> NameRule {
        self.names
    }

    /// The purposes its certificates are good for; none means that the extension is absent.
    #[must_use]
    pub const fn purposes(&self) -> &'static [Purpose] {
        self.purposes
    }

    /// The lifetime of who does not ask for one.
    #[must_use]
    pub const fn default_ttl(&self) -> Ttl {
        self.default_ttl
    }

    /// The longest lifetime.
    #[must_use]
    pub const fn max_ttl(&self) -> Ttl {
        self.max_ttl
    }

    /// Whether its certificates are CAs'.
    #[must_use]
    pub const fn is_authority(&self) -> bool {
        self.authority
    }

    /// Whether its certificates carry ocsp-nocheck.
    #[must_use]
    pub const fn is_no_check(&self) -> bool {
        self.no_check
    }

    /// Whether its certificates can be revoked: others say that they never are (RFC 9608).
    #[must_use]
    pub const fn has_revocation(&self) -> bool {
        self.revocable
    }

    /// Whether a key of this kind may be certified.
    #[must_use]
    pub fn takes(&self, key: KeyAlgorithm) -> bool {
        let kind = match key {
            KeyAlgorithm::EcdsaP256 => KeyKind::P256,
            KeyAlgorithm::EcdsaP384 => KeyKind::P384,
            KeyAlgorithm::Rsa { .. } => KeyKind::Rsa,
            KeyAlgorithm::Ed25519 => return false,
        };
        self.keys.contains(&kind)
    }

    /// The uses of a certified key of this kind: RFC 8813 §3 forbids keyEncipherment for EC keys.
    #[must_use]
    pub fn key_usages(&self, key: KeyAlgorithm) -> &'static [KeyUsage] {
        if self.authority {
            &[KeyUsage::KeyCertSign, KeyUsage::CrlSign]
        } else if key.is_rsa() && self.purposes.contains(&Purpose::ServerAuth) {
            &[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment]
        } else {
            &[KeyUsage::DigitalSignature]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_is_found_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(Profile::builtin(&profile.name().unwrap()), Some(profile));
            assert!(profile.default_ttl() <= profile.max_ttl());
        }
    }
}
