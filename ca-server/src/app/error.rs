//! The one error of every use case; transports map it, exhaustively, once each.

use std::borrow::Cow;

use super::Asker;

/// What kind of failure it is, as far as a caller has to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The state does not allow it now; reading it again and deciding anew may.
    Conflict,
    /// The caller is known and may not.
    Denied,
    /// Too much at a time; later it may work.
    Exhausted,
    /// A fault of ours; the text is not for callers.
    Internal,
    /// The request is not acceptable and never will be.
    Malformed,
    /// There is no such thing.
    NotFound,
    /// The caller is not known.
    Unauthenticated,
    /// Something that is needed is away; later it may work.
    Unavailable,
}

/// Why a use case failed: a text for the caller, and a cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{public}")]
pub struct Error {
    kind: ErrorKind,
    reason: &'static str,
    public: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    asker: Option<Box<Asker>>,
}

impl Error {
    /// An error whose whole text may be told to the caller. `reason` is a stable word for logs and metrics.
    pub fn new(
        kind: ErrorKind,
        reason: &'static str,
        public: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            reason,
            public: public.into(),
            source: None,
            asker: None,
        }
    }

    /// Adds the cause, which goes to the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A request that is not acceptable, for the reason that `source` tells; its text goes to the caller.
    pub fn malformed(
        reason: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::new(ErrorKind::Malformed, reason, chain(&source))
    }

    /// What is on record may not be all that there was: nothing is built upon it.
    #[must_use]
    pub fn gone_back() -> Self {
        let text = "the store has gone back, an operator has to look at it";
        Self::new(ErrorKind::Unavailable, "rollback", text)
    }

    /// A fault of ours.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "internal", "internal error").because(source)
    }

    /// Says who asked for what; who has been named already stays.
    #[must_use]
    pub fn asked_by(mut self, asker: impl FnOnce() -> Asker) -> Self {
        if self.asker.is_none() {
            self.asker = Some(Box::new(asker()));
        }
        self
    }

    /// Who asked for what, where that was proven.
    #[must_use]
    pub fn asker(&self) -> Option<&Asker> {
        self.asker.as_deref()
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The text for the caller, and every cause, for the log.
    #[must_use]
    pub fn detail(&self) -> String {
        chain(self)
    }
}

/// An error and its causes, in one line: what strangers sent and an error quotes cannot begin another line of a log.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // Some say their cause themselves.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    printable(text.trim_end())
}

/// The text without what would steer a terminal or begin another line.
#[must_use]
pub fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError as E;
        match &error {
            E::Unavailable { .. } => Self::new(
                ErrorKind::Unavailable,
                "store",
                "the store is away, try again",
            )
            .because(error),
            E::Audit(_) => Self::new(
                ErrorKind::Internal,
                "audit",
                "nothing was done, because it could not be audited (`ca-server audit verify` tells why)",
            )
            .because(error),
            E::Conflict(what) => Self::new(ErrorKind::Conflict, "conflict", *what),
            _ => Self::internal(error),
        }
    }
}

impl From<crate::clock::ClockStepped> for Error {
    fn from(error: crate::clock::ClockStepped) -> Self {
        Self::new(
            ErrorKind::Unavailable,
            "clock",
            "issuance is stopped: the server's clock has stepped",
        )
        .because(error)
    }
}

impl From<crate::entropy::NoEntropy> for Error {
    fn from(error: crate::entropy::NoEntropy) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_newline_begins_no_line_of_the_log() {
        let error = Error::new(ErrorKind::Malformed, "x", "asked for a\nINFO forged");
        assert_eq!(error.detail(), "asked for a\\nINFO forged");
    }
}
