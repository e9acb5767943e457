//! `ca inspect`.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pki::describe::{self, Description};

use super::{Output, now, print};

pub(super) const EXAMPLES: &str = "\
Examples:
  ca inspect /var/lib/identity/tls.crt
  openssl s_client -connect a.example:443 -showcerts </dev/null | ca inspect
  ca inspect --output json authority.crl

PEM or DER is told by looking; of a private key nothing is shown. Signatures are checked among the certificates of one chain, and of a request; a CRL's is
not, since its issuer is elsewhere.";

/// The largest file that is read: a CRL with a million entries has some 40 MB.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Arguments of `ca inspect`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File to read; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let file = &arguments.file;
    if file.is_dir() {
        bail!(
            "{0} is a directory: name a file in it, like {0}/tls.crt",
            file.display()
        );
    }
    let input = read(file).with_context(|| format!("cannot read {}", shown(file)))?;
    let said = describe::read(&input, now()).with_context(|| shown(file))?;
    print(arguments.output, &said, || {
        let blocks: Vec<String> = said.iter().map(Description::to_string).collect();
        blocks.join("\n")
    })
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut input = Vec::new();
    if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            tracing::info!("reading standard input");
        }
        std::io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut input)?;
    } else {
        File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut input)?;
    }
    let fits = u64::try_from(input.len()).is_ok_and(|length| length <= MAX_BYTES);
    anyhow::ensure!(fits, "it has more than {MAX_BYTES} bytes");
    Ok(input)
}
