//! Ceremonies: what the offline root does, from a plan to a transcript that a second person can check.
//!
//! [`Plan::parse`] reads the plan; [`prepare()`] checks it against its files and prepares what is to be signed, with the
//! words that say so; whoever holds the root's key signs; [`Transcript`] says what was done, signed by the root as
//! well; [`verify()`] does the whole of it again, without the key, and compares.
//!
//! [`script()`] is the plan on paper, for the people in the room.
//!
//! Nothing here reads a file, a clock or randomness: a ceremony's files come in as bytes that were read once, so that
//! what is shown is what is signed.

mod again;
mod fault;
mod file_name;
mod key_place;
mod list;
mod people;
mod plan;
mod prepare;
mod read;
mod record;
mod script;
mod transcript;
mod verify;
mod verify_people;
mod words;

pub use fault::{Fault, Faults};
pub use file_name::{FileName, FileNameError};
pub use key_place::{KeyPlace, TokenKey};
pub use people::{Person, PersonError, Sharing};
pub use plan::{
    Ceremony, CreateRoot, CrossSign, IssueCrl, MAX_PLAN_BYTES, Plan, ReissueIntermediate,
    RootFiles, SignIntermediate, SplitKey,
};
pub use prepare::{
    Entropy, Files, Known, Materials, Task, Work, prepare, prepare_first_crl, prepare_root,
};
pub use record::{
    Confirmation, Input, KeyOrigin, Opened, Output, OutputKind, PlanRecord, ShareRecord, Split,
    WITNESSED_DIGITS, Witness,
};
pub use script::script;
pub use transcript::{SignedTranscript, Transcript, TranscriptError};
pub use verify::verify;
pub use words::{describe_certificate, describe_crl, describe_request, digest_words, name_words};
