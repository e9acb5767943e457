//! Ceremonies: what the offline root does, from a plan to a transcript that a second person can check.
//!
//! [`Plan::parse`] reads the plan; [`prepare()`] checks it against its files and prepares what is to be signed, with the
//! words that say so; whoever holds the root's key signs; [`Transcript`] says what was done, signed by the root as
//! well; [`verify()`] does the whole of it again, without the key, and compares.
//!
//! Nothing here reads a file, a clock or randomness: a ceremony's files come in as bytes that were read once, so that
//! what is shown is what is signed.

mod fault;
mod file_name;
mod list;
mod plan;
mod prepare;
mod read;
mod transcript;
mod verify;
mod words;

pub use fault::{Fault, Faults};
pub use file_name::{FileName, FileNameError};
pub use plan::{Ceremony, CreateRoot, IssueCrl, MAX_PLAN_BYTES, Plan, RootFiles, SignIntermediate};
pub use prepare::{
    Entropy, Files, Known, Materials, Task, Work, prepare, prepare_first_crl, prepare_root,
};
pub use transcript::{
    Confirmation, Input, Output, OutputKind, PlanRecord, SignedTranscript, Transcript,
    TranscriptError,
};
pub use verify::verify;
pub use words::{describe_certificate, describe_crl, describe_request, digest_words, name_words};
