//! One share: its text, which is a file or a sheet of paper, and reading it back whole or line by line.

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::shares::code::{self, LINE_BYTES, Line};

/// The longest text that is read.
pub const MAX_SHARE_BYTES: usize = 4096;
/// The longest name, of a root or a holder.
pub(super) const MAX_NAME_BYTES: usize = 500;
/// Lines after the first.
pub(super) const MAX_LINES: usize = 14;
/// The most holders of a set: their number has four bits.
pub(super) const MAX_HOLDERS: u8 = 16;
const VERSION: u8 = 1;
const BEGIN: &str = "-----BEGIN SIGNET SHARE-----";
const END: &str = "-----END SIGNET SHARE-----";
const CONTEXT: &[u8] = b"signet share holder v1\n";

/// One of the shares of a secret. Its `Debug` does not show what it holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Share {
    root: String,
    holder: String,
    head: Head,
    data: Zeroizing<Vec<u8>>,
}

/// What the first line of a share says: ten octets that hold nothing of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    lines: u8,
    pub(super) threshold: u8,
    pub(super) count: u8,
    pub(super) number: u8,
    pub(super) set: [u8; 4],
    /// Of the digest of the root's and the holder's names.
    who: [u8; 2],
}

impl Head {
    fn to_line(self) -> [u8; LINE_BYTES] {
        let [a, b, c, d] = self.set;
        let scheme = (self.threshold - 1) << 4 | (self.count - 1);
        let [w, x] = self.who;
        [VERSION, self.lines, scheme, self.number, a, b, c, d, w, x]
    }

    fn from_line(line: &[u8; LINE_BYTES]) -> Result<Self, ShareError> {
        let [version, lines, scheme, number, a, b, c, d, w, x] = *line;
        if version != VERSION {
            return Err(ShareError::Version);
        }
        let head = Self {
            lines,
            threshold: (scheme >> 4) + 1,
            count: (scheme & 15) + 1,
            number,
            set: [a, b, c, d],
            who: [w, x],
        };
        let sound = (1..=MAX_LINES).contains(&usize::from(lines))
            && (2..=head.count).contains(&head.threshold)
            && (1..=head.count).contains(&number);
        sound.then_some(head).ok_or(ShareError::NotAShare)
    }

    /// What stands beside the lines, for people.
    fn words(&self) -> String {
        let Self {
            number,
            count,
            threshold,
            set,
            ..
        } = self;
        let set = pki::crypto::hex(set);
        format!("{number} of {count}; any {threshold} open the key; set {set}")
    }
}

impl Share {
    /// A share; `data` is a multiple of a line long, and the numbers are sound.
    pub(super) fn new(
        root: &str,
        holder: &str,
        (threshold, count, number): (u8, u8, u8),
        set: [u8; 4],
        data: Zeroizing<Vec<u8>>,
    ) -> Result<Self, ShareError> {
        let head = Head {
            lines: u8::try_from(data.len() / LINE_BYTES).map_err(|_| ShareError::NotAShare)?,
            threshold,
            count,
            number,
            set,
            who: who(root, holder),
        };
        // The way back has to be there before anybody writes it down.
        Head::from_line(&head.to_line())?;
        Ok(Self {
            root: root.to_owned(),
            holder: holder.to_owned(),
            head,
            data,
        })
    }

    /// Reads the text of a share.
    ///
    /// # Errors
    /// When it is not one, a line's check does not fit, or a name is not the one that it was made with.
    pub fn parse(text: &[u8]) -> Result<Self, ShareError> {
        if text.len() > MAX_SHARE_BYTES {
            return Err(ShareError::TooLarge);
        }
        let text = std::str::from_utf8(text).map_err(|_| ShareError::NotAShare)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut next = || lines.next().ok_or(ShareError::NotAShare);
        if next()? != BEGIN {
            return Err(ShareError::NotAShare);
        }
        let root = named(next()?, "root:")?;
        let holder = named(next()?, "holder:")?;
        let words = named(next()?, "share:")?;
        let mut typing = Typing::default();
        loop {
            let line = next()?;
            if line == END {
                break;
            }
            typing.line(line)?;
        }
        if next().is_ok() {
            return Err(ShareError::NotAShare);
        }
        let share = typing.finish(root, holder)?;
        if share.head.words() == words {
            Ok(share)
        } else {
            Err(ShareError::Words)
        }
    }

    /// Its text. A share's data: whoever keeps this has to zeroize it too.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // One allocation that never grows: no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_SHARE_BYTES));
        for part in [
            BEGIN,
            "\nroot:   ",
            &self.root,
            "\nholder: ",
            &self.holder,
            "\nshare:  ",
            &self.head.words(),
            "\n\n",
        ] {
            text.push_str(part);
        }
        let head = self.head.to_line();
        let first = code::encode(&head, 1, &[]);
        text.push_str(" 1: ");
        text.push_str(&first);
        for (i, octets) in self.data.chunks(LINE_BYTES).enumerate() {
            let mut line = Line::default();
            line.copy_from_slice(octets);
            text.push_str(&format!("\n{:2}: ", i + 2));
            text.push_str(&code::encode(&line, i + 2, &head));
        }
        text.push_str("\n\n");
        text.push_str(END);
        text.push('\n');
        text
    }

    /// The name of the root whose key it helps to open.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The name of the person who keeps it.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Which one it is, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.head.number
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.head.count
    }

    /// How many it takes.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.head.threshold
    }

    /// The set that it belongs to, as hexadecimal digits: shares of different sets do not go together.
    #[must_use]
    pub fn set(&self) -> String {
        pki::crypto::hex(&self.head.set)
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { head, holder, .. } = self;
        write!(f, "Share({holder:?}, {})", head.words())
    }
}

/// A share that is typed line by line; each line is checked when it comes.
#[derive(Default)]
pub struct Typing {
    head: Option<Head>,
    data: Zeroizing<Vec<u8>>,
}

impl Typing {
    /// The number of the line that comes next, and how many there are, once the first one has said so.
    #[must_use]
    pub fn next(&self) -> (usize, Option<usize>) {
        match &self.head {
            None => (1, None),
            Some(head) => {
                let total = usize::from(head.lines) + 1;
                (self.data.len() / LINE_BYTES + 2, Some(total))
            }
        }
    }

    /// Whether every line is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.next(), (next, Some(total)) if next > total)
    }

    /// Takes the next line, with or without its number before it.
    ///
    /// # Errors
    /// When its check does not fit, or there are enough already. The line can then be typed again.
    pub fn line(&mut self, text: &str) -> Result<(), ShareError> {
        let (at, _) = self.next();
        let code = match text.split_once(':') {
            Some((number, code)) if number.trim() == at.to_string() => code,
            Some(_) => return Err(ShareError::Line { line: at }),
            None => text,
        };
        let Some(head) = &self.head else {
            let line = code::decode(code, at, &[]).ok_or(ShareError::Line { line: at })?;
            let head = Head::from_line(&line)?;
            // Room for all of it: growing would leave a copy behind.
            self.data = Zeroizing::new(Vec::with_capacity(usize::from(head.lines) * LINE_BYTES));
            self.head = Some(head);
            return Ok(());
        };
        if self.is_complete() {
            return Err(ShareError::NotAShare);
        }
        let line = code::decode(code, at, &head.to_line());
        self.data
            .extend_from_slice(&*line.ok_or(ShareError::Line { line: at })?);
        Ok(())
    }

    /// Whether it was made for this holder; not before its first line has come.
    #[must_use]
    pub fn is_for(&self, root: &str, holder: &str) -> bool {
        self.head
            .is_some_and(|head| is_name(root) && is_name(holder) && head.who == who(root, holder))
    }

    /// The share of `holder`.
    ///
    /// # Errors
    /// When lines are missing, or it was made for somebody else or for another root.
    pub fn finish(self, root: &str, holder: &str) -> Result<Share, ShareError> {
        let (line, _) = self.next();
        let complete = self.is_complete();
        let head = self.head.filter(|_| complete);
        let head = head.ok_or(ShareError::Missing { line })?;
        if !self.is_for(root, holder) {
            return Err(ShareError::Name);
        }
        Ok(Share {
            root: root.to_owned(),
            holder: holder.to_owned(),
            head,
            data: self.data,
        })
    }
}

/// Whether a name can stand in a line of its own.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

fn named<'a>(line: &'a str, name: &str) -> Result<&'a str, ShareError> {
    line.strip_prefix(name)
        .map(str::trim)
        .ok_or(ShareError::NotAShare)
}

fn who(root: &str, holder: &str) -> [u8; 2] {
    let mut context = Context::new(&SHA256);
    for part in [CONTEXT, root.as_bytes(), b"\n", holder.as_bytes()] {
        context.update(part);
    }
    let digest = context.finish();
    [digest.as_ref()[0], digest.as_ref()[1]]
}

/// What is wrong with one share. Nothing of its data is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A line was mistyped or changed.
    #[error(
        "line {line} of the share: its last group does not fit the others: mistyped, or changed"
    )]
    Line {
        /// Which one, from 1.
        line: usize,
    },
    /// Lines are missing.
    #[error("line {line} of the share is missing")]
    Missing {
        /// The first of them.
        line: usize,
    },
    /// Another holder's, or another root's.
    #[error("the share was made for another holder or another root than it names")]
    Name,
    /// Not a share's text.
    #[error("not the text of a share, from its BEGIN to its END")]
    NotAShare,
    /// More bytes than are read.
    #[error("the share has more than {MAX_SHARE_BYTES} bytes")]
    TooLarge,
    /// Another version.
    #[error("the share is not of version {VERSION}")]
    Version,
    /// What stands beside the lines was changed.
    #[error("the share's line \"share:\" does not say what its coded lines say: it was changed")]
    Words,
}
