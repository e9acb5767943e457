//! What the public listener serves, kept outside of the store (`public.copy_dir`): a server that is started while the store is
//! away serves it, and nothing that has ended meanwhile.
//!
//! A file for each address, each put in its place whole. All of it is public, and signed by CAs that its readers know: whoever
//! could write into the folder could withhold, but not forge. Bundles, which are believed as they are, are not in it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::time::Timestamp;

use super::served::{PEM, PKIX_CERT, PKIX_CRL};
use super::{Document, ServedSet};
use crate::app::state::Snapshot;
use crate::app::{App, Error};

/// The address of the full set.
pub(crate) const FULL_SET: &str = "ca-crl.pem";

/// Documents by address, without its first slash.
pub type Copy = BTreeMap<String, Document>;

/// What the files in the folder are, by address and tag.
#[derive(Debug, Default)]
pub(super) struct Kept(HashMap<String, String>);

/// Everything that is served, by address.
fn documents(served: &ServedSet, snapshot: &Snapshot) -> Copy {
    let mut all = Copy::new();
    for (id, crl) in &served.crls {
        all.insert(format!("crls/{id}.crl"), crl.complete.clone());
        for (part, document) in &crl.parts {
            all.insert(format!("crls/{id}/{part}.crl"), document.clone());
        }
    }
    for (name, ca) in &served.above {
        all.insert(format!("authorities/{name}.crt"), ca.certificate.clone());
        if let Some(crl) = &ca.crl {
            all.insert(format!("crls/{name}.crl"), crl.clone());
        }
    }
    for authority in &snapshot.authorities {
        let address = format!("authorities/{}.crt", authority.id);
        all.insert(address, authority.document.clone());
    }
    if let Ok(set) = &served.full {
        all.insert(FULL_SET.to_owned(), set.clone());
    }
    all
}

impl App {
    /// Keeps what is served now, where a folder for it is configured.
    ///
    /// # Errors
    /// When the task that writes ends early. What the folder does not take is logged.
    pub async fn keep_copy(&self) -> Result<(), Error> {
        let Some(folder) = self.context.settings.copy_dir.clone() else {
            return Ok(());
        };
        // Read first: what is swapped in meanwhile is kept at the next turn.
        let revision = self.status.served_revision.load(Ordering::Acquire);
        let snapshot = self.snapshot.load_full();
        let served = self.status.served.load_full();
        let now = (snapshot.sequence, revision);
        if *super::lock(&self.status.copied_of) == Some(now) {
            return Ok(());
        }
        let all = documents(&served, &snapshot);
        let mut kept = std::mem::take(&mut *super::lock(&self.status.copied));
        let written = tokio::task::spawn_blocking(move || {
            let written = kept.become_like(&folder, &all);
            (kept, written)
        });
        let (kept, written) = written.await.map_err(Error::internal)?;
        *super::lock(&self.status.copied) = kept;
        match written {
            Ok(()) => *super::lock(&self.status.copied_of) = Some(now),
            Err(error) => {
                tracing::warn!(%error, "public.copy_dir is not written: a start without the store would serve older lists");
            }
        }
        Ok(())
    }
}

impl Kept {
    fn become_like(&mut self, folder: &Path, all: &Copy) -> std::io::Result<()> {
        for (address, document) in all {
            if self.0.get(address) != Some(&document.etag) {
                write(&folder.join(address), &document.body)?;
                self.0.insert(address.clone(), document.etag.clone());
            }
        }
        let files = files(folder);
        for address in files
            .into_iter()
            .filter(|address| !all.contains_key(address))
        {
            std::fs::remove_file(folder.join(&address))?;
            self.0.remove(&address);
        }
        Ok(())
    }
}

/// Writes a file whole, for everyone to read.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    let staged = file.with_extension("new");
    let mut out = std::fs::File::create(&staged)?;
    out.set_permissions(PermissionsExt::from_mode(0o644))?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&staged, file)
}

/// The addresses that have a file; whatever else lies in the folder is none of ours.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if folder.join(FULL_SET).is_file() {
        found.push(FULL_SET.to_owned());
    }
    let mut folders: Vec<_> = ["authorities", "crls"]
        .map(|name| (folder.join(name), format!("{name}/")))
        .into();
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    folders.push((entry.path(), format!("{prefix}{name}/")));
                }
                Ok(kind) if kind.is_file() => found.push(format!("{prefix}{name}")),
                _ => {}
            }
        }
    }
    found
}

/// Reads what was kept: what parses, is signed by a CA that is here too, and has not ended at `now`. The rest is left out and
/// logged.
#[must_use]
pub fn read(folder: &Path, now: Timestamp) -> Copy {
    let mut bytes = BTreeMap::new();
    for address in files(folder) {
        match std::fs::read(folder.join(&address)) {
            Ok(read) => drop(bytes.insert(address, read)),
            Err(error) => {
                tracing::warn!(address, %error, "a file of public.copy_dir does not read")
            }
        }
    }
    let cas: Vec<Certificate> = bytes
        .iter()
        .filter(|(address, _)| address.ends_with(".crt"))
        .filter_map(|(_, der)| Certificate::parse(der).ok())
        .collect();
    let mut copy = Copy::new();
    for (address, body) in bytes {
        match document(&address, body, &cas).filter(|kept| !has_ended(kept, now)) {
            Some(document) => drop(copy.insert(address, document)),
            None => {
                tracing::warn!(
                    address,
                    "a file of public.copy_dir is not served: it is not what it should be, or over"
                );
            }
        }
    }
    copy
}

/// Whether it is of no use any more.
#[must_use]
pub fn has_ended(document: &Document, now: Timestamp) -> bool {
    document.expires.is_some_and(|end| end <= now)
}

fn document(address: &str, body: Vec<u8>, cas: &[Certificate]) -> Option<Document> {
    let extension = Path::new(address).extension()?.to_str()?;
    let (kind, made, ends) = match extension {
        "crl" => {
            let (made, ends) = dates_of(&body, cas)?;
            (PKIX_CRL, Some(made), Some(ends))
        }
        "crt" => {
            let certificate = Certificate::parse(&body).ok()?;
            let (made, ends) = (certificate.not_before(), certificate.not_after());
            (PKIX_CERT, Some(made), Some(ends))
        }
        "pem" if address == FULL_SET => {
            let lists = pki::pem::read_crls(&body).ok()?;
            let ends: Option<Vec<_>> = lists
                .iter()
                .map(|der| dates_of(der, cas).map(|(_, ends)| ends))
                .collect();
            (PEM, None, Some(ends?.into_iter().min()?))
        }
        _ => return None,
    };
    Some(Document::new(body, kind, made, ends))
}

/// When a list was made and when it ends, where one of the CAs signed it.
fn dates_of(der: &[u8], cas: &[Certificate]) -> Option<(Timestamp, Timestamp)> {
    let crl = Crl::parse(der).ok()?;
    let signed = cas.iter().any(|ca| {
        ca.subject() == crl.issuer() && ca.public_key().is_ok_and(|key| crl.verify_by(&key).is_ok())
    });
    signed.then_some((crl.this_update(), crl.next_update()?))
}
