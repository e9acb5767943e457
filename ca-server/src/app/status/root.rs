//! CRLs of the CAs above us, which stay offline: what is asked of their ceremonies, and what comes back.

use pki::certificate::Certificate;
use pki::crl::{Crl, Reason};
use pki::crypto;
use pki::extension::KeyUsage;
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};

use crate::app::{Context, Error, ErrorKind, fleet};
use crate::store::model::{AuthorityRow, AuthorityState, RootCrlRow};

/// An offline CA's CRL that has less than this left raises an alarm: ceremonies take weeks to arrange.
pub const ALARM_BEFORE_END: Ttl = Ttl::days(60);

/// What was imported.
#[derive(Debug)]
pub struct ImportedCrl {
    /// As it is kept.
    pub row: RootCrlRow,
    /// The CA that signed it, in words.
    pub issuer: String,
    /// Authorities of ours that it revokes.
    pub revokes: Vec<AuthorityRow>,
    /// Serial numbers on the list before it that it does not have.
    pub dropped: Vec<Serial>,
}

/// The CAs above ours and the roots that are believed in, each with the certificates that stand for it.
async fn known_cas(context: &Context) -> Result<Vec<Certificate>, Error> {
    let mut ders = Vec::new();
    for row in context.store.bundles().await? {
        ders.extend(row.roots);
    }
    for row in context.store.authorities().await? {
        ders.extend(row.chain.into_iter().skip(1));
    }
    ders.sort_unstable();
    ders.dedup();
    let parsed: Result<Vec<_>, _> = ders.iter().map(|der| Certificate::parse(der)).collect();
    parsed.map_err(Error::internal)
}

/// Takes an offline CA's CRL: complete, in force, signed by a CA that stands above an authority of ours or in a bundle, and
/// newer than the one that is here.
///
/// # Errors
/// When it is not, or the store is away.
pub async fn import(context: &Context, der: &[u8], actor: &str) -> Result<ImportedCrl, Error> {
    let malformed = |text: String| Error::new(ErrorKind::Malformed, "crl", text);
    let crl = Crl::parse(der).map_err(|error| Error::malformed("crl", error))?;
    let ca = signer_of(context, &crl).await?;
    let words = pki::ceremony::name_words(ca.subject());
    if !ca
        .extensions()
        .key_usage
        .is_some_and(|usage| usage.has(KeyUsage::CrlSign))
    {
        return Err(malformed(format!("{words} may not sign CRLs")));
    }
    let (Some(number), Some(next_update)) = (crl.number(), crl.next_update()) else {
        return Err(malformed(
            "the CRL lacks its number or its nextUpdate (RFC 5280 §5.2.3, §5.1.2.5)".to_owned(),
        ));
    };
    let now = context.clock.trusted_now()?;
    if next_update <= now {
        return Err(malformed(format!(
            "the CRL has expired: its nextUpdate is {next_update}, and it is {now}"
        )));
    }
    if crl.this_update() > now.plus(Ttl::hours(1)) {
        return Err(malformed(format!(
            "the CRL is from the future: its thisUpdate is {}, and it is {now}",
            crl.this_update()
        )));
    }
    let root = crypto::sha256(ca.spki());
    let before = context.store.root_crl(&root).await?;
    if let Some(before) = &before {
        if before.der == der {
            return Err(Error::new(
                ErrorKind::Conflict,
                "crl",
                format!("this CRL, number {number} of {words}, is here already"),
            ));
        }
        if before.number >= number {
            return Err(Error::new(
                ErrorKind::Conflict,
                "crl",
                format!(
                    "CRL number {number} of {words} is not newer than number {}, which is here",
                    before.number
                ),
            ));
        }
    }
    let row = RootCrlRow {
        root,
        number,
        der: der.to_vec(),
        this_update: crl.this_update(),
        next_update,
        imported_at: now,
    };
    context.store.put_root_crl(&row).await?;
    let detail =
        serde_json::json!({ "issuer": words, "number": number, "next_update": next_update });
    context
        .store
        .append_event(now, actor, "crl.import", &detail.to_string())
        .await?;
    let dropped = match before {
        Some(before) => {
            let before = Crl::parse(&before.der).map_err(Error::internal)?;
            let before = before.revoked().iter().map(|entry| entry.serial);
            before.filter(|serial| !crl.lists(serial)).collect()
        }
        None => Vec::new(),
    };
    let revokes = of_ours(context, &ca, |serial| crl.lists(serial)).await?;
    Ok(ImportedCrl {
        row,
        issuer: words,
        revokes,
        dropped,
    })
}

async fn signer_of(context: &Context, crl: &Crl) -> Result<Certificate, Error> {
    for ca in known_cas(context).await? {
        if ca.subject() != crl.issuer() {
            continue;
        }
        let Ok(key) = ca.public_key() else { continue };
        if crl.verify_by(&key).is_ok() {
            return Ok(ca);
        }
    }
    Err(Error::new(
        ErrorKind::Malformed,
        "crl",
        format!(
            "no CA above an authority of ours, and no root of a bundle, signed this CRL; its issuer is {}",
            pki::ceremony::name_words(crl.issuer())
        ),
    ))
}

/// Authorities of ours that `ca` certified, with serial numbers that `which` wants.
async fn of_ours(
    context: &Context,
    ca: &Certificate,
    which: impl Fn(&Serial) -> bool,
) -> Result<Vec<AuthorityRow>, Error> {
    let mut found = Vec::new();
    for row in context.store.authorities().await? {
        let [own, above, ..] = row.chain.as_slice() else {
            continue;
        };
        let own = Certificate::parse(own).map_err(Error::internal)?;
        let above = Certificate::parse(above).map_err(Error::internal)?;
        if above.spki() == ca.spki() && which(&own.serial()) {
            found.push(row);
        }
    }
    Ok(found)
}

/// Where the revocation of an authority stands at the CA that certified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtItsIssuer {
    /// It is on that CA's CRL.
    Listed,
    /// That CA's next CRL, made in a ceremony, has to list it.
    AwaitingCeremony,
}

/// Where a revoked authority stands with the CA that certified it; `None` for one that is not revoked.
///
/// # Errors
/// When the store is away, or a row does not hold together.
pub async fn at_its_issuer(
    context: &Context,
    row: &AuthorityRow,
) -> Result<Option<AtItsIssuer>, Error> {
    let (AuthorityState::Revoked, [own, above, ..]) = (row.state, row.chain.as_slice()) else {
        return Ok(None);
    };
    let own = Certificate::parse(own).map_err(Error::internal)?;
    let above = Certificate::parse(above).map_err(Error::internal)?;
    if let Some(issuer) = fleet::issuer_of(context, row).await? {
        let listed = context.store.is_revoked(&issuer.id, &own.serial()).await?;
        return Ok(listed.then_some(AtItsIssuer::Listed));
    }
    let crl = context
        .store
        .root_crl(&crypto::sha256(above.spki()))
        .await?;
    let listed = match crl {
        Some(crl) => Crl::parse(&crl.der)
            .map_err(Error::internal)?
            .lists(&own.serial()),
        None => false,
    };
    Ok(Some(if listed {
        AtItsIssuer::Listed
    } else {
        AtItsIssuer::AwaitingCeremony
    }))
}

/// What a CA's next CRL ceremony is asked to do.
#[derive(Debug)]
pub struct CeremonyRequest {
    /// The plan for `ca-root`: it lists everything that the CRL has to list.
    pub plan: String,
    /// PEM of the CRL before it, which the plan names [`PREVIOUS_CRL`].
    pub previous: String,
    /// PEM of the CA's certificate, which the plan names [`CERTIFICATE`].
    pub certificate: String,
    /// The CA in words.
    pub issuer: String,
    /// How many certificates the new CRL will list that the one before it does not.
    pub added: usize,
}

/// The plan's name for the CRL before the one that it asks for.
pub const PREVIOUS_CRL: &str = "previous.crl.pem";
/// The plan's name for the CA's certificate.
pub const CERTIFICATE: &str = "root.pem";

/// A plan for the ceremony that makes the next CRL of the CA above `authority`, or of the only root there is.
///
/// # Errors
/// When it is not clear which CA is meant, its last CRL was never imported, or the store is away.
pub async fn ceremony_request(
    context: &Context,
    authority: Option<&AuthorityRow>,
) -> Result<CeremonyRequest, Error> {
    let ca = match authority {
        Some(row) if fleet::issuer_of(context, row).await?.is_some() => {
            return Err(Error::new(
                ErrorKind::Conflict,
                "crl",
                format!(
                    "the authority above {} is online and publishes its own CRL: there is nothing to carry",
                    row.id
                ),
            ));
        }
        Some(row) => match row.chain.get(1) {
            Some(above) => Certificate::parse(above).map_err(Error::internal)?,
            None => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "state",
                    format!("{} has no certificate yet", row.id),
                ));
            }
        },
        None => the_only_root(context).await?,
    };
    let issuer = pki::ceremony::name_words(ca.subject());
    let Some(before) = context.store.root_crl(&crypto::sha256(ca.spki())).await? else {
        return Err(Error::new(
            ErrorKind::Conflict,
            "crl",
            format!("the last CRL of {issuer} is not here: `ca-server crl import` takes it"),
        ));
    };
    let previous = Crl::parse(&before.der).map_err(Error::internal)?;
    let mut entries = String::new();
    let mut listed = Vec::new();
    for revoked in previous.revoked() {
        push(
            &mut entries,
            &revoked.serial,
            revoked.reason,
            Some(revoked.revoked_at),
            None,
        );
        listed.push(revoked.serial);
    }
    let mut added = 0;
    for row in of_ours(context, &ca, |serial| !listed.contains(serial)).await? {
        let Some((at, reason)) = row.revoked else {
            continue;
        };
        let own = Certificate::parse(&row.chain[0]).map_err(Error::internal)?;
        let reason = Reason::from_code(reason).unwrap_or(Reason::Unspecified);
        push(&mut entries, &own.serial(), reason, Some(at), Some(&row));
        added += 1;
    }
    let number = previous.number().map_or(0, |number| number + 1);
    let plan = format!(
        "# The next CRL of {issuer}, asked for by ca-server. Put this file, {PREVIOUS_CRL} and the CA's key file\n\
         # into one folder on the offline machine, look at it (`ca-root plan`), and run it (`ca-root run`).\n\
         version = 1\n\
         ceremony = \"issue-crl\"\n\n\
         [root]\n\
         certificate = \"{CERTIFICATE}\"\n\
         key = \"root.key\"\n\n\
         [crl]\n\
         number = {number}\n\
         previous = \"{PREVIOUS_CRL}\"\n\
         life = \"400d\"\n\
         out = \"root-{number}.crl.pem\"\n{entries}"
    );
    Ok(CeremonyRequest {
        plan,
        previous: pki::pem::crl(&before.der),
        certificate: ca.to_pem(),
        issuer,
        added,
    })
}

fn push(
    text: &mut String,
    serial: &Serial,
    reason: Reason,
    at: Option<Timestamp>,
    row: Option<&AuthorityRow>,
) {
    use std::fmt::Write as _;
    let comment = row.map_or_else(String::new, |row| {
        format!("# {}: {:?}\n", row.id, row.subject)
    });
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\n{comment}[[revoke]]\nserial = \"{serial}\"\nreason = \"{reason}\"\n"
    );
    if let Some(at) = at {
        let _ = writeln!(text, "at = \"{at}\"");
    }
}

async fn the_only_root(context: &Context) -> Result<Certificate, Error> {
    let mut roots = Vec::new();
    for row in context.store.bundles().await? {
        roots.extend(row.roots);
    }
    roots.sort_unstable();
    roots.dedup();
    match roots.as_slice() {
        [root] => Certificate::parse(root).map_err(Error::internal),
        roots => Err(Error::new(
            ErrorKind::Conflict,
            "crl",
            format!(
                "there are {} roots: name an authority below the one that is meant",
                roots.len()
            ),
        )),
    }
}
