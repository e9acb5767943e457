//! How a run ends: the codes, and the errors that have one of their own.

use std::process::ExitCode;

use ca_client::ClientError;
use ca_client::api::{ApiError, ApiFailure};
use ca_client::printable::printable_lines;

/// The codes, for `ca --help` and the manual.
pub(super) const CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message says what to do
  2  wrong usage, or a question that nobody is there to answer (--yes)
  3  there is no such thing (for enroll, renew and bundle: temporary, as 6)
  4  refused: who asks is not known, or may not
  5  conflict: it was changed meanwhile, or its state does not allow it
  6  temporary: the server is away or busy, or an answer was lost
  7  not done yet: it waits for a second person (`ca proposal list`)
  8  `ca audit verify` found faults";

/// How a run ends that did what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Done.
    Done = 0,
    /// What was asked does not fit what is there.
    Conflict = 5,
    /// It waits for a second person.
    Waiting = 7,
    /// A check found faults.
    Faults = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends with 2, as wrong arguments do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// The code and the next step for an error.
pub(super) fn report(error: &anyhow::Error) -> (ExitCode, String) {
    // A file's name and a server's words are other people's.
    let mut text = format!("error: {}", printable_lines(&format!("{error:#}")));
    let mut advice = |words: &str| {
        text.push_str("\nwhat to do: ");
        text.push_str(words);
    };
    let code = if let Some(error) = error.downcast_ref::<ClientError>() {
        if let Some(words) = error.advice() {
            advice(words);
        }
        match error {
            _ if error.is_temporary() => 3,
            _ if error.is_refusal() => 4,
            _ => 1,
        }
    } else if let Some(error) = error.downcast_ref::<ApiError>() {
        advice(&error.advice());
        code_of(error.failure())
    } else if error.is::<Usage>() {
        2
    } else {
        1
    };
    (ExitCode::from(code), text)
}

fn code_of(failure: ApiFailure) -> u8 {
    match failure {
        ApiFailure::Failed => 1,
        ApiFailure::NotFound => 3,
        ApiFailure::Refused => 4,
        ApiFailure::Conflict => 5,
        ApiFailure::Unavailable => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ca_client::api::Problem;
    use tonic::Code;

    fn ended(error: impl Into<anyhow::Error>) -> (String, String) {
        let (code, text) = report(&error.into());
        (format!("{code:?}"), text)
    }

    #[test]
    fn each_kind_of_failure_has_its_code_and_says_what_to_do() {
        for (status, code) in [
            (400, 1),
            (401, 4),
            (403, 4),
            (404, 3),
            (409, 5),
            (412, 5),
            (428, 5),
            (429, 6),
            (503, 6),
        ] {
            let problem = Problem {
                status,
                detail: "words".to_owned(),
                ..Problem::default()
            };
            let (got, text) = ended(ApiError::Problem(Box::new(problem)));
            assert_eq!(got, format!("{:?}", ExitCode::from(code)), "{status}");
            assert!(text.contains("\nwhat to do: "), "{text}");
            assert!(CODES.contains(&format!("\n  {code}  ")));
        }
        for (status, code) in [
            (Code::Unauthenticated, 4),
            (Code::PermissionDenied, 4),
            (Code::InvalidArgument, 1),
        ] {
            let message = "words".to_owned();
            let (got, _) = ended(ClientError::Refused {
                code: status,
                message,
            });
            assert_eq!(got, format!("{:?}", ExitCode::from(code)), "{status:?}");
        }
        let (code, _) = ended(Usage("x".to_owned()));
        assert_eq!(code, format!("{:?}", ExitCode::from(2)));
    }

    #[test]
    fn nothing_in_a_message_moves_the_cursor() {
        let (_, text) = ended(anyhow::anyhow!("a\u{1b}[2J\nb\u{202e}"));
        assert_eq!(text, "error: a\\u{1b}[2J\nb\\u{202e}");
    }
}
