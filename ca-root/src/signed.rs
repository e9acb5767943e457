//! From what was prepared to what is written.

use hsm::Signer;
use pki::artefact::{Artefact, Prepared};
use pki::ceremony::{FileName, Output, Task, Work};
use pki::certificate::Certificate;
use pki::serial::SERIAL_ENTROPY;
use ring::rand::{SecureRandom, SystemRandom};

/// A file that was signed and waits to be written.
pub(crate) struct Finished {
    pub(crate) name: FileName,
    pub(crate) pem: String,
    pub(crate) record: Output,
}

impl Finished {
    /// A sealed certificate.
    pub(crate) fn certificate(name: FileName, certificate: &Certificate) -> Self {
        let pem = certificate.to_pem();
        Self {
            record: Output::certificate(&name, pem.as_bytes(), certificate),
            name,
            pem,
        }
    }
}

/// Signs a task.
pub(crate) fn finish(signer: &dyn Signer, task: Task) -> anyhow::Result<Finished> {
    match task.work {
        Work::Certificate(prepared) => {
            Ok(Finished::certificate(task.output, &sign(signer, prepared)?))
        }
        Work::Crl(prepared) => {
            let crl = sign(signer, prepared)?;
            let pem = crl.to_pem();
            Ok(Finished {
                record: Output::crl(&task.output, pem.as_bytes(), &crl),
                name: task.output,
                pem,
            })
        }
    }
}

/// Signs and seals: what comes out was read back and verifies.
pub(crate) fn sign<T: Artefact>(signer: &dyn Signer, prepared: Prepared<T>) -> anyhow::Result<T> {
    let signature = signer.sign(prepared.to_be_signed())?;
    Ok(prepared.seal(&signature)?)
}

/// Fresh octets for one serial number.
pub(crate) fn random_octets() -> anyhow::Result<[u8; SERIAL_ENTROPY]> {
    let mut octets = [0; SERIAL_ENTROPY];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| anyhow::anyhow!("the system gives no randomness"))?;
    Ok(octets)
}
