//! Having things signed.

use std::sync::Arc;
use std::time::Duration;

use hsm::{SignError, Signer};
use pki::artefact::{Artefact, Prepared};

use super::{Error, ErrorKind};

/// How long a signer outside this process may take.
const SIGN_DEADLINE: Duration = Duration::from_secs(5);

/// Signs and seals. A signer that does not block is called here and now (17 µs); one that may gets a thread and a
/// deadline, and what it signs after that is thrown away unsealed.
///
/// # Errors
/// When the signer fails, is late, or signed with another key than the issuer's.
pub async fn seal<T: Artefact + Send + 'static>(
    prepared: Prepared<T>,
    signer: &Arc<dyn Signer>,
) -> Result<T, Error> {
    if !signer.may_block() {
        let signature = signer.sign(prepared.to_be_signed()).map_err(failed)?;
        return prepared.seal(&signature).map_err(Error::internal);
    }
    let signer = Arc::clone(signer);
    let work = tokio::task::spawn_blocking(move || {
        let signature = signer.sign(prepared.to_be_signed()).map_err(failed)?;
        prepared.seal(&signature).map_err(Error::internal)
    });
    match tokio::time::timeout(SIGN_DEADLINE, work).await {
        Ok(joined) => joined.map_err(Error::internal)?,
        Err(_) => Err(Error::new(
            ErrorKind::Unavailable,
            "signer",
            "the signer is late, try again",
        )),
    }
}

fn failed(error: SignError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "signer",
        "the signer failed, try again",
    )
    .because(error)
}
