//! Shares: gathered from their holders, one by one, and handed out to them.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use hsm::shares::{Gathered, Share, Typing, split};
use pki::ceremony::{Opened, Person, ShareRecord, Sharing, Split};
use zeroize::Zeroizing;

use crate::folder;
use crate::secret::warn_of_mode;
use crate::terminal::Terminal;

/// Mistyped lines of one share before something else must be wrong.
const MAX_MISTAKES: usize = 20;

/// Where shares come from, and which ones are taken.
pub(crate) struct From<'a> {
    pub(crate) files: &'a [PathBuf],
    /// Whether those that are missing are asked for.
    pub(crate) ask: bool,
    /// The root that they have to be of, where it is known.
    pub(crate) root: Option<&'a str>,
    /// Whose they have to be; anybody's when empty.
    pub(crate) opened_by: &'a [Person],
}

/// The secret, and whose shares gave it.
pub(crate) fn secret(from: &From<'_>) -> anyhow::Result<(Zeroizing<Vec<u8>>, Opened)> {
    let mut gathered = Gathered::default();
    for path in from.files {
        let share = from_file(path)?;
        from.take(&mut gathered, share)
            .with_context(|| format!("{}", path.display()))?;
    }
    if from.ask && gathered.missing() != Some(0) {
        ask(from, &mut gathered)?;
    }
    let secret = gathered
        .combine()
        .context("the key stays closed, nothing was signed")?;
    let shares = gathered.shares();
    let first = shares.first().context("no share was given")?;
    let opened = Opened {
        set: first.set(),
        threshold: first.threshold(),
        shares: shares.iter().map(record).collect::<anyhow::Result<_>>()?,
    };
    Ok((secret, opened))
}

fn record(share: &Share) -> anyhow::Result<ShareRecord> {
    Ok(ShareRecord {
        number: share.number(),
        holder: Person::parse(share.holder())?,
    })
}

impl From<'_> {
    fn take(&self, gathered: &mut Gathered, share: Share) -> anyhow::Result<()> {
        if let Some(root) = self.root.filter(|root| *root != share.root()) {
            bail!("a share of {}, and the root is {root}", share.root());
        }
        self.check_holder(share.holder())?;
        gathered.add(share)?;
        Ok(())
    }

    fn check_holder(&self, holder: &str) -> anyhow::Result<()> {
        let named = self.opened_by.iter().any(|known| known.as_str() == holder);
        if !self.opened_by.is_empty() && !named {
            bail!("a share of {holder}, whom the plan does not name");
        }
        Ok(())
    }
}

fn from_file(path: &Path) -> anyhow::Result<Share> {
    if let Ok(file) = File::open(path) {
        warn_of_mode(&file, path);
    }
    let text = Zeroizing::new(folder::read_existing(path)?);
    Share::parse(&text).with_context(|| format!("{}", path.display()))
}

/// Has shares typed until there are enough.
fn ask(from: &From<'_>, gathered: &mut Gathered) -> anyhow::Result<()> {
    let root = from
        .root
        .context("which root's shares are to be typed is not known: give --certificate")?;
    let mut terminal = Terminal::open("--share")?;
    terminal.say(&format!(
        "shares of {root}\none holder after the other comes to the keyboard; what is typed is not seen\n"
    ))?;
    while gathered.missing() != Some(0) {
        let wanted = match gathered.missing() {
            None => "the first share".to_owned(),
            Some(1) => "the last share that it takes".to_owned(),
            Some(missing) => format!("the next share, of {missing} that it still takes"),
        };
        // Not seen either, and never said again: a line of the share may be what comes.
        let holder =
            terminal.ask_hidden(&format!("{wanted}: its holder's name (empty to stop): "))?;
        let holder = std::str::from_utf8(&holder)
            .context("what was typed is not UTF-8")?
            .trim();
        if holder.is_empty() {
            break;
        }
        let taken = from
            .check_holder(holder)
            .map_err(|_| anyhow!("the plan names no holder of what was typed; it takes the name exactly as it stands there"))
            .and_then(|()| typed(&mut terminal, root, holder))
            .and_then(|share| {
                let number = share.number();
                from.take(gathered, share)?;
                Ok(number)
            });
        match taken {
            Ok(number) => terminal.say(&format!("share {number} of {holder} is taken\n"))?,
            Err(error) => terminal.say(&format!("not taken: {error:#}\n"))?,
        }
    }
    Ok(())
}

fn typed(terminal: &mut Terminal, root: &str, holder: &str) -> anyhow::Result<Share> {
    let mut typing = Typing::default();
    let mut mistakes = 0;
    while !typing.is_complete() {
        let (line, total) = typing.next();
        let of = total.map_or(String::new(), |total| format!(" of {total}"));
        let text = terminal.ask_hidden(&format!("  line {line}{of}: "))?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        if text.trim().is_empty() {
            bail!("stopped at line {line}");
        }
        if let Err(error) = typing.line(text) {
            mistakes += 1;
            if mistakes == MAX_MISTAKES {
                bail!("mistyped {mistakes} times");
            }
            terminal.say(&format!("  {error}; again\n"))?;
        } else if !typing.is_for(root, holder) {
            bail!("it is not the share of {holder} for this root");
        }
    }
    Ok(typing.finish(root, holder)?)
}

/// Splits a secret as the plan says, and sees that it comes back.
pub(crate) fn deal(
    secret: &[u8],
    root: &str,
    sharing: &Sharing,
) -> anyhow::Result<(Vec<Share>, Split)> {
    let holders: Vec<&str> = sharing.holders().iter().map(Person::as_str).collect();
    let shares =
        split(secret, root, sharing.threshold(), &holders).context("nothing was signed")?;
    // As they will be read from paper; what does not come back now would be found out at the next ceremony: too late.
    for some in shares.windows(usize::from(sharing.threshold())) {
        let mut gathered = Gathered::default();
        for share in some {
            gathered.add(Share::parse(share.to_text().as_bytes())?)?;
        }
        if *gathered.combine()? != *secret {
            bail!("the shares do not give the secret back; nothing was signed");
        }
    }
    let split = Split {
        set: shares.first().map(Share::set).unwrap_or_default(),
        threshold: sharing.threshold(),
        shares: shares.iter().map(record).collect::<anyhow::Result<_>>()?,
    };
    Ok((shares, split))
}

/// Shows each holder their share.
pub(crate) fn show(shares: &[Share]) -> anyhow::Result<()> {
    let mut terminal = Terminal::open("shares.show = false in the plan")?;
    for share in shares {
        let (holder, number, count) = (share.holder(), share.number(), share.count());
        let before = format!("share {number} of {count}: {holder} comes to the screen");
        terminal.show_alone(&before, &share.to_text())?;
    }
    Ok(())
}
