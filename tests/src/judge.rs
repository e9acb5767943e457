//! The verifiers of a mesh's peers, each behind the same question: is this chain good for that?

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::time::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::parts;

/// What a chain is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To be a CA, or anything: no purpose is asked.
    Any,
    /// clientAuth.
    Client,
    /// OCSPSigning.
    OcspSigning,
    /// serverAuth.
    Server,
}

/// A chain with its root, as files too, because that is how the programs take them.
#[derive(Debug)]
pub struct Chain {
    /// What is in it, for messages and for the list of exceptions.
    pub label: String,
    /// The leaf first; without the root.
    pub certificates: Vec<Certificate>,
    /// The root.
    pub root: Certificate,
    /// When it is looked at.
    pub at: Timestamp,
    chain_file: PathBuf,
    root_file: PathBuf,
}

impl Chain {
    /// Writes the chain into `folder`. `certificates` begins with the leaf and ends with the root.
    ///
    /// # Errors
    /// When there are fewer than two, or a file cannot be written.
    pub fn write(
        folder: &Path,
        label: &str,
        certificates: &[Certificate],
        at: Timestamp,
    ) -> Result<Self> {
        let Some((root, chain @ [_, ..])) = certificates.split_last() else {
            bail!("{label}: a leaf and a root at least");
        };
        let chain_file = folder.join(format!("{label}.chain.pem"));
        let root_file = folder.join(format!("{label}.root.pem"));
        let pem: String = chain.iter().map(Certificate::to_pem).collect();
        std::fs::write(&chain_file, pem)?;
        std::fs::write(&root_file, root.to_pem())?;
        Ok(Self {
            label: label.to_owned(),
            certificates: chain.to_vec(),
            root: root.clone(),
            at,
            chain_file,
            root_file,
        })
    }

    /// The same chain, looked at another time.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Self {
        Self {
            label: format!("{} at {at}", self.label),
            certificates: self.certificates.clone(),
            root: self.root.clone(),
            at,
            chain_file: self.chain_file.clone(),
            root_file: self.root_file.clone(),
        }
    }

    /// PEM of the chain, leaf first, without the root.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.chain_file
    }

    /// PEM of the root.
    #[must_use]
    pub fn root_file(&self) -> &Path {
        &self.root_file
    }
}

/// A verifier.
#[derive(Clone, Debug)]
pub enum Judge {
    /// Go's crypto/x509: `goverify`.
    Go(PathBuf),
    /// Java's PKIX validator: the folder of `PkixVerify.class`.
    Java(PathBuf),
    /// OpenSSL's `verify -x509_strict`.
    OpenSsl,
    /// rustls-webpki, in this process.
    Webpki,
}

/// What a verifier says: yes, or why not.
pub type Verdict = std::result::Result<(), String>;

impl Judge {
    /// Whether it has a word about the question. Java's validator knows neither purposes nor names, rustls-webpki no
    /// chain that ends in a CA. OCSPSigning is rustls-webpki's alone: OpenSSL's `ocsphelper` takes anything. goverify
    /// takes a name where it is a server's, and there alone.
    #[must_use]
    pub fn knows(&self, usage: Use, name: Option<&str>) -> bool {
        match self {
            Self::Go(_) => usage != Use::OcspSigning && (usage == Use::Server) == name.is_some(),
            Self::Java(_) => usage == Use::Any && name.is_none(),
            Self::OpenSsl => usage != Use::OcspSigning,
            Self::Webpki => usage != Use::Any,
        }
    }

    /// Whether `chain` is good for `usage`, and for the host `name` where one is given.
    ///
    /// # Errors
    /// When the verifier cannot be asked; its no is a [`Verdict`].
    pub fn verify(&self, chain: &Chain, usage: Use, name: Option<&str>) -> Result<Verdict> {
        match self {
            Self::Go(program) => go(program, chain, usage, name),
            Self::Java(classes) => ask(Command::new("java")
                .args(["-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"])
                .arg(classes)
                .args(["PkixVerify", "-at", &chain.at.to_string()])
                .arg(&chain.root_file)
                .arg(&chain.chain_file)),
            Self::OpenSsl => openssl(chain, usage, name),
            Self::Webpki => Ok(webpki(chain, usage, name)),
        }
    }
}

/// Runs a program that says no by exit status 1.
fn ask(command: &mut Command) -> Result<Verdict> {
    let output = parts::output(command)?;
    let text = || {
        [&output.stdout[..], &output.stderr[..]]
            .map(String::from_utf8_lossy)
            .concat()
    };
    match output.status.code() {
        Some(0) => Ok(Ok(())),
        Some(1) => Ok(Err(text())),
        _ => bail!("{command:?} ended with {}: {}", output.status, text()),
    }
}

fn go(program: &Path, chain: &Chain, usage: Use, name: Option<&str>) -> Result<Verdict> {
    let mut command = Command::new(program);
    command.args(["-at", &chain.at.to_string(), "-root"]);
    command.arg(&chain.root_file);
    match (usage, name) {
        (Use::Server, Some(name)) => {
            command.args(["-server", name]);
        }
        (Use::Client, None) => {
            command.arg("-client");
        }
        (Use::Any, None) => {}
        _ => bail!("goverify cannot be asked for {usage:?} with name {name:?}"),
    }
    ask(command.arg(&chain.chain_file))
}

fn openssl(chain: &Chain, usage: Use, name: Option<&str>) -> Result<Verdict> {
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-check_ss_sig", "-no-CApath"]);
    command.args(["-no-CAstore", "-attime", &chain.at.unix().to_string()]);
    let purpose = match usage {
        Use::Any => "any",
        Use::Client => "sslclient",
        Use::OcspSigning => bail!("OpenSSL has no purpose that asks for OCSPSigning"),
        Use::Server => "sslserver",
    };
    command.args(["-purpose", purpose]);
    if let Some(name) = name {
        let option = match name.parse::<IpAddr>() {
            Ok(_) => "-verify_ip",
            Err(_) => "-verify_hostname",
        };
        command.args([option, name]);
    }
    command.arg("-CAfile").arg(&chain.root_file);
    // The file holds the leaf first: `verify` takes that one as the subject, and all of it as helpers.
    command.arg("-untrusted").arg(&chain.chain_file);
    let verdict = match parts::output(command.arg(&chain.chain_file))? {
        output if output.status.success() => Ok(()),
        output => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    };
    Ok(verdict)
}

/// id-kp-OCSPSigning.
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];

fn webpki(chain: &Chain, usage: Use, name: Option<&str>) -> Verdict {
    let der: Vec<CertificateDer<'_>> = chain
        .certificates
        .iter()
        .map(|certificate| CertificateDer::from(certificate.der()))
        .collect();
    let root = CertificateDer::from(chain.root.der());
    let key_usage = match usage {
        Use::Any => return Err("rustls-webpki wants a usage".to_owned()),
        Use::Client => webpki::KeyUsage::client_auth(),
        // Not `required`: that would want it in the intermediates too.
        Use::OcspSigning => webpki::KeyUsage::required_if_present(OCSP_SIGNING),
        Use::Server => webpki::KeyUsage::server_auth(),
    };
    let seconds = u64::try_from(chain.at.unix()).unwrap_or(0);
    let judge = || -> std::result::Result<(), webpki::Error> {
        let anchor = webpki::anchor_from_trusted_cert(&root)?;
        let leaf = webpki::EndEntityCert::try_from(&der[0])?;
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &der[1..],
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            key_usage,
            None,
            None,
        )?;
        match name.map(ServerName::try_from) {
            Some(Ok(name)) => leaf.verify_is_valid_for_subject_name(&name),
            Some(Err(_)) => Err(webpki::Error::MalformedDnsIdentifier),
            None => Ok(()),
        }
    };
    judge().map_err(|error| error.to_string())
}

/// Whether OpenSSL finds `crl`'s signature good under its issuer's certificate.
///
/// # Errors
/// When OpenSSL cannot be asked, or a file cannot be written.
pub fn openssl_crl(folder: &Path, crl: &Crl, issuer: &Certificate) -> Result<Verdict> {
    let (list, ca) = write_crl(folder, crl, issuer)?;
    let output = parts::output(
        Command::new("openssl")
            .args(["crl", "-noout", "-verify", "-in"])
            .arg(list)
            .arg("-CAfile")
            .arg(ca),
    )?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // OpenSSL 3.0 exits with 0 whatever it found.
    Ok(if text.contains("verify OK") {
        Ok(())
    } else {
        Err(text)
    })
}

/// Whether Go reads `crl` and finds its signature good.
///
/// # Errors
/// When goverify cannot be asked, or a file cannot be written.
pub fn go_crl(goverify: &Path, folder: &Path, crl: &Crl, issuer: &Certificate) -> Result<Verdict> {
    let (list, ca) = write_crl(folder, crl, issuer)?;
    ask(Command::new(goverify)
        .arg("-crl")
        .arg(list)
        .arg("-issuer")
        .arg(ca))
}

fn write_crl(folder: &Path, crl: &Crl, issuer: &Certificate) -> Result<(PathBuf, PathBuf)> {
    let (list, ca) = (folder.join("list.pem"), folder.join("issuer.pem"));
    std::fs::write(&list, crl.to_pem()).context("the list")?;
    std::fs::write(&ca, issuer.to_pem()).context("its issuer")?;
    Ok((list, ca))
}
