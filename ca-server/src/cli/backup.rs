//! `ca-server backup` and `ca-server restore`.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::app::backup::age::Passphrase;
use crate::app::backup::{self, Backup, Restored, Summary, Target};
use crate::app::status::watermark::{self, Marks};
use crate::app::tokens::Tokens;
use crate::config::Config;
use crate::store::{Store, StoreUrl};

/// No passphrase is longer, and what is longer is not read: the path may be `/dev/zero`.
const PASSPHRASE_FILE_MAX: u64 = 4096;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct BackupArguments {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    #[command(flatten)]
    new: Option<New>,
}

#[derive(Args, Debug)]
struct New {
    /// Where it is written: a file that is not there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What it is encrypted with: a passphrase of its own, in a file. Without it nobody restores.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Read a backup to its end, check all of it, and tell what it has.
    Verify(Existing),
}

/// A backup that is there.
#[derive(Args, Debug)]
pub(super) struct Existing {
    /// The backup.
    file: PathBuf,
    /// What it is encrypted with.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

pub(super) async fn run(arguments: BackupArguments, config: Result<Config>) -> Result<()> {
    match (arguments.command, arguments.new) {
        (Some(BackupCommand::Verify(existing)), _) => verify(&existing),
        (None, Some(new)) => take(&new, &config?).await,
        (None, None) => bail!("say where to: --out FILE --passphrase-file FILE"),
    }
}

fn passphrase(file: &Path) -> Result<Passphrase> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    File::open(file)
        .and_then(|file| file.take(PASSPHRASE_FILE_MAX).read_to_end(&mut bytes))
        .with_context(|| format!("--passphrase-file {}", file.display()))?;
    Passphrase::new(&bytes).with_context(|| format!("--passphrase-file {}", file.display()))
}

fn told(rows: u64) {
    eprintln!("{rows} rows");
}

fn tell(summary: &Summary) {
    for line in summary.lines() {
        say!("{line}");
    }
}

async fn take(new: &New, config: &Config) -> Result<()> {
    let passphrase = passphrase(&new.passphrase_file)?;
    if new.out.exists() {
        bail!(
            "{} is there already: nothing is overwritten",
            new.out.display()
        );
    }
    let store = super::open_store(config).await?;
    let staged = Staged::create(&new.out)?;
    let now = super::system_now();
    let out = BufWriter::with_capacity(256 * 1024, staged.file()?);
    let (out, summary) = backup::take(&store, out, &passphrase, now, told).await?;
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    let bytes = file.metadata()?.len();
    staged.keep(&file)?;
    say!(
        "backup of {now}: {}, {} rows, {} MiB",
        new.out.display(),
        summary.all_rows(),
        bytes.div_ceil(1 << 20)
    );
    tell(&summary);
    Ok(())
}

/// A file that gets its name when it is whole.
struct Staged<'a> {
    out: &'a Path,
    partial: PathBuf,
    kept: bool,
}

impl<'a> Staged<'a> {
    fn create(out: &'a Path) -> Result<Self> {
        let mut partial = out.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| {
                let what = "cannot be made: another backup is being written, or one was cut off and left it";
                format!("{} {what}", partial.display())
            })?;
        Ok(Self {
            out,
            partial,
            kept: false,
        })
    }

    fn file(&self) -> Result<File> {
        Ok(OpenOptions::new().write(true).open(&self.partial)?)
    }

    /// Onto the disk, and then under its name, unless somebody has taken that meanwhile.
    fn keep(mut self, file: &File) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        file.sync_all()?;
        renameat_with(CWD, &self.partial, CWD, self.out, RenameFlags::NOREPLACE)
            .with_context(|| self.out.display().to_string())?;
        self.kept = true;
        let folder = self.out.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn open(existing: &Existing) -> Result<Backup<BufReader<File>>> {
    let passphrase = passphrase(&existing.passphrase_file)?;
    let file = File::open(&existing.file).with_context(|| existing.file.display().to_string())?;
    let input = BufReader::with_capacity(256 * 1024, file);
    Backup::open(input, &passphrase).with_context(|| existing.file.display().to_string())
}

fn verify(existing: &Existing) -> Result<()> {
    let backup = open(existing)?;
    let about = backup.about().clone();
    let summary = backup
        .verify()
        .with_context(|| existing.file.display().to_string())?;
    say!(
        "backup of {} from {} by release {}: whole, {} rows",
        about.taken_at(),
        about.engine,
        about.program,
        summary.all_rows()
    );
    tell(&summary);
    Ok(())
}

pub(super) async fn restore(existing: &Existing, config: &Config) -> Result<()> {
    super::lock_memory(config)?;
    let backup = open(existing)?;
    let about = backup.about().clone();
    let marks = match &config.watermark_file {
        Some(file) => watermark::read(file)?,
        None => Marks::default(),
    };
    let url = StoreUrl::parse(config.store_url.expose_secret())?;
    let is_new = url.path().is_some_and(|path| !path.exists());
    let store = Store::open(&url).await?;
    let target = Target {
        store: &store,
        keys: &config.keys,
        tokens: &Tokens::new(&config.tokens, config.keys.require_confined),
        marks: &marks,
        actor: &super::actor(),
        replica: &config.replica,
        now: super::system_now(),
    };
    let restored = backup::restore(backup, &target, told).await;
    store.close().await;
    if let (Err(_), true, Some(path)) = (&restored, is_new, url.path()) {
        // An empty store would be taken for a new installation.
        let _ = std::fs::remove_file(path);
    }
    let Restored { summary, ahead } = restored?;
    say!(
        "restored {} rows of a backup of {}",
        summary.all_rows(),
        about.taken_at()
    );
    tell(&summary);
    say!(
        "numbers of CRLs, of bundles and of changes go on {ahead} further on: none is given out twice"
    );
    say!(
        "what was issued and revoked after {} is lost and nothing here knows it: OCSP answers unknown for such a certificate, \
         and one that was revoked since counts as good again; roles and enrolments that were taken away since are there again. \
         Serial numbers have 128 random bits: none comes twice",
        about.taken_at()
    );
    report_lost(&summary, &marks);
    say!(
        "next: import root CRLs that are newer than the backup (`ca-server crl import`), and start the servers"
    );
    Ok(())
}

/// What the watermark remembers and the backup has not.
fn report_lost(summary: &Summary, marks: &Marks) {
    let mut has_lost = false;
    for (id, mark) in &marks.authorities {
        let position = summary.authorities.get(id).copied().unwrap_or_default();
        let (size, number) = (position.log_size, position.crl_number.unwrap_or(0));
        let entries = i64::try_from(mark.log_size).unwrap_or(i64::MAX) - size;
        let last = i64::try_from(mark.crl_number).unwrap_or(i64::MAX);
        if entries > 0 || last > number {
            has_lost = true;
            say!(
                "lost of {id:<16} {} log entries ({size} of {}), {}",
                entries.max(0),
                mark.log_size,
                if last > number {
                    format!("CRL numbers {} to {last}", number + 1)
                } else {
                    "no CRL".to_owned()
                }
            );
        }
    }
    for (replica, mark) in &marks.chains {
        let last = summary.audit_heads.get(replica);
        let last = last.map_or(-1, |head| head.position);
        let lost = i64::try_from(mark.position).unwrap_or(i64::MAX) - last;
        if lost > 0 {
            has_lost = true;
            say!(
                "lost of the audit of {replica}: {lost} entries, up to position {} ({})",
                mark.position,
                mark.hash
            );
        }
    }
    if has_lost {
        say!("a server refuses to start on it (rollback) until you say `ca-server store accept`");
    }
}
