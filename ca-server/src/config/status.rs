//! How certificate status is told: `[crl]`, `[ocsp]` and `[public]`; and how long before an authority signs: `[authorities]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::http::Uri;
use pki::profile::Profile;
use pki::time::Ttl;

use super::reader::Section;

/// The shortest lifetime there is.
const SECOND: Ttl = Ttl::minutes(0);

/// How certificate status is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSettings {
    /// How long a CRL holds: longer than the longest outage that an edge has to live through.
    pub crl_validity: Ttl,
    /// How long after one CRL the next is out, revocations or none.
    pub crl_refresh: Ttl,
    /// How long an OCSP response holds.
    pub ocsp_validity: Ttl,
    /// How long caches may keep what may change: the time by which they may be late with a revocation.
    pub cache_for: Ttl,
    /// How long an authority is published before it becomes active by itself: for so long its first CRL is on its way to
    /// everyone who reads its leaves.
    pub publish_for: Ttl,
    /// Where readers of certificates reach the public listener; without it certificates carry no URLs.
    pub public_url: Option<String>,
    /// A folder where what is served is kept, for a start while the store is away.
    pub copy_dir: Option<PathBuf>,
    /// What a certificate of a profile says of where its status is found.
    pub urls: BTreeMap<&'static str, UrlKinds>,
}

/// Which URLs a certificate carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlKinds {
    /// Its issuer's CRL (RFC 5280 §4.2.1.13).
    pub crl: bool,
    /// Its issuer's certificate (RFC 5280 §4.2.2.1).
    pub issuer: bool,
    /// Its issuer's OCSP responder (RFC 5280 §4.2.2.1).
    pub ocsp: bool,
}

impl UrlKinds {
    const ALL: Self = Self {
        crl: true,
        issuer: true,
        ocsp: true,
    };
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self {
            crl_validity: Ttl::days(30),
            crl_refresh: Ttl::days(1),
            ocsp_validity: Ttl::hours(4),
            cache_for: Ttl::minutes(1),
            publish_for: Ttl::minutes(2),
            public_url: None,
            copy_dir: None,
            // What leaves the mesh: browsers and other foreign clients look there. A mesh has `ca-crl.pem`.
            urls: BTreeMap::from([
                (Profile::CLUSTER_INTERMEDIATE.as_str(), UrlKinds::ALL),
                (Profile::SERVER.as_str(), UrlKinds::ALL),
                (Profile::CLIENT.as_str(), UrlKinds::ALL),
            ]),
        }
    }
}

impl StatusSettings {
    /// What a certificate of this profile carries.
    #[must_use]
    pub fn urls_of(&self, profile: Profile) -> UrlKinds {
        self.urls.get(profile.as_str()).copied().unwrap_or_default()
    }

    /// Whether any certificate says that its status is told by OCSP.
    #[must_use]
    pub fn tells_of_ocsp(&self) -> bool {
        self.public_url.is_some() && self.urls.values().any(|kinds| kinds.ocsp)
    }

    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let default = Self::default();
        let mut section = root.section("crl");
        let crl_validity = section.ttl(
            "validity",
            default.crl_validity,
            Ttl::hours(1),
            Ttl::days(800),
        );
        let crl_refresh = section.ttl(
            "refresh",
            default.crl_refresh,
            Ttl::minutes(1),
            Ttl::days(400),
        );
        if crl_refresh.seconds() * 2 > crl_validity.seconds() {
            section.fault(
                "refresh",
                format!("{crl_refresh} is more than half of crl.validity, {crl_validity}: readers would be left with a list that is about to expire"),
            );
        }
        section.finish();

        let mut section = root.section("authorities");
        let publish_for = section.ttl("publish_for", default.publish_for, SECOND, Ttl::days(30));
        section.finish();

        let mut section = root.section("ocsp");
        let ocsp_validity = section.ttl(
            "validity",
            default.ocsp_validity,
            Ttl::minutes(2),
            Ttl::days(10),
        );
        section.finish();

        let mut section = root.section("public");
        let public_url = section
            .text("url")
            .and_then(|url| public_url(&mut section, &url));
        let copy_dir = section.optional::<PathBuf>("copy_dir");
        let cache_for = section.ttl("cache_for", default.cache_for, SECOND, Ttl::days(1));
        let mut urls = default.urls;
        let mut table = section.section("urls");
        for profile in Profile::ALL
            .into_iter()
            .filter(|profile| !profile.is_authority() || *profile == Profile::CLUSTER_INTERMEDIATE)
        {
            if let Some(kinds) = url_kinds(&mut table, profile) {
                urls.insert(profile.as_str(), kinds);
            }
        }
        table.finish();
        section.finish();
        Self {
            crl_validity,
            crl_refresh,
            ocsp_validity,
            cache_for,
            publish_for,
            public_url,
            copy_dir,
            urls,
        }
    }
}

/// RFC 5280 §4.2.1.13 wants http: a reader that needed TLS to check a certificate would go round in a circle.
fn public_url(section: &mut Section<'_>, text: &str) -> Option<String> {
    let parsed: Option<Uri> = text.parse().ok();
    let good = parsed.filter(|uri| {
        uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    if good.is_none() || text.len() > 200 {
        section.fault(
            "url",
            format!("{text:?} is not like http://ca.example.com:8080"),
        );
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn url_kinds(table: &mut Section<'_>, profile: Profile) -> Option<UrlKinds> {
    let name = profile.as_str();
    if !table.has(name) {
        return None;
    }
    let mut kinds = UrlKinds::default();
    for kind in table.list(name) {
        match kind.as_str() {
            "crl" => kinds.crl = true,
            "issuer" => kinds.issuer = true,
            "ocsp" => kinds.ocsp = true,
            other => table.fault(name, format!("{other:?} is none of crl, issuer and ocsp")),
        }
    }
    if !profile.has_revocation() && (kinds.crl || kinds.ocsp) {
        table.fault(
            name,
            "its certificates say that they are never revoked: no crl or ocsp URL may stand beside that (RFC 9608 §3)".to_owned(),
        );
    }
    Some(kinds)
}
