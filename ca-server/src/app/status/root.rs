//! CRLs of the CAs above us, which stay offline: what is asked of their ceremonies, and what comes back.

use pki::certificate::Certificate;
use pki::crl::{Crl, CrlError, Reason};
use pki::crypto;
use pki::extension::KeyUsage;
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};

use crate::app::{Actor, App, Context, Error, ErrorKind, fleet};
use crate::store::model::{AuthorityRow, AuthorityState, RootCrlRow};

/// An offline CA's CRL that has less than this left raises an alarm: ceremonies take weeks to arrange.
pub const ALARM_BEFORE_END: Ttl = Ttl::days(60);

/// How often one that ends soon is complained of.
const ALARM_EVERY: Ttl = Ttl::days(1);

impl App {
    /// Offline CAs' CRLs that end soon and were not told of in the last day.
    pub fn ending_root_crls(&self, now: Timestamp) -> Vec<RootCrlRow> {
        let snapshot = self.snapshot.load_full();
        let mut told = super::lock(&self.status.told_of_ends);
        let ends = |row: &&RootCrlRow| {
            row.next_update.minus(ALARM_BEFORE_END) <= now
                && told
                    .get(&(row.root, row.number))
                    .is_none_or(|at| at.plus(ALARM_EVERY) <= now)
        };
        let ending: Vec<_> = snapshot.root_crls.values().filter(ends).cloned().collect();
        told.extend(ending.iter().map(|row| ((row.root, row.number), now)));
        ending
    }
}

/// What was imported.
#[derive(Debug)]
pub struct ImportedCrl {
    /// As it is kept.
    pub row: RootCrlRow,
    /// The CA that signed it, in words.
    pub issuer: String,
    /// Whether its end is so near that the next ceremony has to be arranged.
    pub ends_soon: bool,
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

/// Takes offline CAs' CRLs, all or none. Each is one that every reader takes (one that readers refuse would break every
/// connection): complete, in force, dated no later than now and no earlier than the one before it, newer than the one that is
/// here, and signed by a CA that stands above an authority of ours or in a bundle.
///
/// # Errors
/// When one is not, or the store is away.
pub async fn import(
    context: &Context,
    ders: &[Vec<u8>],
    actor: &Actor,
) -> Result<Vec<ImportedCrl>, Error> {
    let now = context.clock.trusted_now()?;
    let mut checked: Vec<Checked> = Vec::with_capacity(ders.len());
    for der in ders {
        let next = check(context, der, now).await?;
        if checked.iter().any(|other| other.row.root == next.row.root) {
            return Err(malformed(format!(
                "there are two CRLs of {}: import the newer one",
                next.issuer
            )));
        }
        checked.push(next);
    }
    let rows: Vec<_> = checked.iter().map(|checked| checked.row.clone()).collect();
    let audit: Vec<_> = checked
        .iter()
        .map(|Checked { issuer, row, .. }| {
            let detail = serde_json::json!({
                "issuer": issuer, "number": row.number, "next_update": row.next_update,
                "sha256": crypto::hex(&crypto::sha256(&row.der)),
            });
            actor.did(now, "crl.import", &detail)
        })
        .collect();
    context.store.put_root_crls(&rows, &audit).await?;
    let mut imported = Vec::with_capacity(checked.len());
    for Checked {
        ca,
        issuer,
        crl,
        row,
        dropped,
    } in checked
    {
        imported.push(ImportedCrl {
            revokes: of_ours(context, &ca, |serial| crl.lists(serial)).await?,
            ends_soon: row.next_update.minus(ALARM_BEFORE_END) <= now,
            row,
            issuer,
            dropped,
        });
    }
    Ok(imported)
}

fn malformed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, "crl", text.into())
}

/// A CRL that may be taken.
struct Checked {
    ca: Certificate,
    issuer: String,
    crl: Crl,
    row: RootCrlRow,
    dropped: Vec<Serial>,
}

async fn check(context: &Context, der: &[u8], now: Timestamp) -> Result<Checked, Error> {
    let crl = Crl::parse(der).map_err(|error| match error {
        // What the DER lacks where is no news to an operator.
        CrlError::NotDer(_) => malformed("this is not a CRL"),
        error => malformed(error.to_string()),
    })?;
    let ca = signer_of(context, &crl).await?;
    let issuer = pki::ceremony::name_words(ca.subject());
    let refuse = |why: String| {
        Err(malformed(format!(
            "the CRL of {issuer} is not taken: {why}"
        )))
    };
    let extensions = ca.extensions();
    let may_sign = extensions.key_usage;
    if !may_sign.is_some_and(|usage| usage.has(KeyUsage::CrlSign)) {
        return refuse("the CA may not sign CRLs (RFC 5280 §4.2.1.3)".to_owned());
    }
    if let Some(limit) = crl.limits() {
        return refuse(limit.to_owned());
    }
    if crl.authority_key_id().is_none()
        || crl.authority_key_id() != extensions.subject_key_id.as_deref()
    {
        return refuse(
            "its authority key identifier is missing, or is not that of the CA's key (RFC 5280 §5.2.1)"
                .to_owned(),
        );
    }
    let (Some(number), Some(next_update)) = (crl.number(), crl.next_update()) else {
        return refuse(
            "it lacks its number, or one of 64 bits, or its nextUpdate (RFC 5280 §5.2.3, §5.1.2.5)"
                .to_owned(),
        );
    };
    let this_update = crl.this_update();
    if next_update <= now {
        return refuse(format!(
            "it has expired: its nextUpdate is {next_update}, and it is {now}"
        ));
    }
    // Every reader would refuse it until then, and with it every connection.
    if this_update > now {
        return refuse(format!(
            "it is of the future: its thisUpdate is {this_update}, and it is {now}; import it again at {this_update}, or \
             is a clock wrong?"
        ));
    }
    let root = crypto::sha256(ca.spki());
    let before = context.store.root_crl(&root).await?;
    let mut dropped = Vec::new();
    if let Some(before) = before {
        let conflict = |text: String| Err(Error::new(ErrorKind::Conflict, "crl", text));
        if before.der == der {
            return conflict(format!(
                "this CRL, number {number} of {issuer}, is here already"
            ));
        }
        if before.number >= number {
            return conflict(format!(
                "CRL number {number} of {issuer} is not newer than number {}, which is here",
                before.number
            ));
        }
        if before.this_update > this_update {
            return conflict(format!(
                "CRL number {number} of {issuer} says that it was made at {this_update}, before number {}, which was made \
                 at {}: is the offline machine's clock wrong?",
                before.number, before.this_update
            ));
        }
        let before = Crl::parse(&before.der).map_err(Error::internal)?;
        let listed = before.revoked().iter().map(|entry| entry.serial);
        dropped = listed.filter(|serial| !crl.lists(serial)).collect();
    }
    let row = RootCrlRow {
        root,
        number,
        der: der.to_vec(),
        this_update,
        next_update,
        imported_at: now,
    };
    Ok(Checked {
        ca,
        issuer,
        crl,
        row,
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
        "# The next CRL of {issuer}, asked for by ca-server. Put this file, {CERTIFICATE} and {PREVIOUS_CRL} beside the\n\
         # CA's key file (name it below) on the offline machine, read it, and run it:\n\
         # ca-root run THIS-FILE --transcript issue-crl-{number}.transcript; ca-root shows what it will sign, and asks.\n\
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
