//! Asking the store whether certificates are on record, many at a time.
//!
//! Like the recorder, in the other direction: whatever is waiting goes into one question, with no timer, so that a lone
//! request is answered at once and a crowd shares the cost.

use std::collections::HashMap;
use std::sync::Arc;

use pki::name::AuthorityId;
use pki::serial::Serial;
use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{Error, ErrorKind};
use crate::store::{Store, StoreError};

/// Questions waiting at most; one more is told to come back.
const QUEUE_LENGTH: usize = 4096;
/// Questions asked at once.
const BATCH_MAX: usize = 256;
/// Certificates that are remembered to be on record: about 100 bytes each.
const REMEMBERED: usize = 200_000;

#[derive(Debug)]
struct Question {
    /// Of this authority; of whichever, where none is named.
    authority: Option<AuthorityId>,
    serial: Serial,
    answer: oneshot::Sender<Option<Answer>>,
}

/// Whose it is, where it is on record.
type Answer = Option<AuthorityId>;

/// The way to the store. A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Lookup {
    queue: mpsc::Sender<Question>,
    /// What is on record stays so, and whose it is: only a yes is kept.
    on_record: Arc<Cache<(AuthorityId, Serial), ()>>,
    issuers: Arc<Cache<Serial, AuthorityId>>,
}

impl Lookup {
    /// Starts asking, on `tasks`, until `stop`.
    #[must_use]
    pub fn start(store: Store, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ask(store, waiting) => {}
            }
        });
        Self {
            queue,
            on_record: Arc::new(Cache::new(REMEMBERED)),
            issuers: Arc::new(Cache::new(REMEMBERED)),
        }
    }

    /// Whether the authority has a certificate with this serial number on record.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store is away or too many ask.
    pub async fn is_on_record(
        &self,
        authority: &AuthorityId,
        serial: Serial,
    ) -> Result<bool, Error> {
        let key = (authority.clone(), serial);
        if self.on_record.get(&key).is_some() {
            return Ok(true);
        }
        let found = self.ask(Some(authority.clone()), serial).await?.is_some();
        if found {
            self.on_record.insert(key, ());
        }
        Ok(found)
    }

    /// Whose certificate has this serial number, where one on record does.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store is away or too many ask.
    pub async fn issuer_of(&self, serial: Serial) -> Result<Option<AuthorityId>, Error> {
        if let Some(known) = self.issuers.get(&serial) {
            return Ok(Some(known));
        }
        let found = self.ask(None, serial).await?;
        if let Some(authority) = &found {
            self.issuers.insert(serial, authority.clone());
            self.on_record.insert((authority.clone(), serial), ());
        }
        Ok(found)
    }

    async fn ask(&self, authority: Option<AuthorityId>, serial: Serial) -> Result<Answer, Error> {
        let unavailable = || {
            Error::new(
                ErrorKind::Unavailable,
                "store",
                "the store is away, try again",
            )
        };
        let (answer, answered) = oneshot::channel();
        let question = Question {
            authority,
            serial,
            answer,
        };
        self.queue.try_send(question).map_err(|_| unavailable())?;
        answered.await.ok().flatten().ok_or_else(unavailable)
    }
}

async fn ask(store: Store, mut queue: mpsc::Receiver<Question>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // A partition holds one day: each question to the store keeps to one.
        let mut groups: HashMap<(Option<AuthorityId>, u16), Vec<Question>> = HashMap::new();
        for question in batch.drain(..) {
            match question.serial.expires_day() {
                Some(day) => groups
                    .entry((question.authority.clone(), day))
                    .or_default()
                    .push(question),
                // Not of our layout, and therefore none of ours. Whoever asked may have gone.
                None => drop(question.answer.send(Some(None))),
            }
        }
        for ((authority, day), questions) in groups {
            let serials: Vec<_> = questions.iter().map(|question| question.serial).collect();
            let found = whose(&store, authority, day, &serials).await;
            if let Err(error) = &found {
                tracing::debug!(error = %crate::app::chain(error), "the store does not say what is on record");
            }
            for question in questions {
                let answer = found
                    .as_ref()
                    .ok()
                    .map(|found| found.get(&question.serial).cloned());
                let _ = question.answer.send(answer);
            }
        }
    }
}

async fn whose(
    store: &Store,
    authority: Option<AuthorityId>,
    day: u16,
    serials: &[Serial],
) -> Result<HashMap<Serial, AuthorityId>, StoreError> {
    let Some(authority) = authority else {
        let found = store.issuers_of(day, serials).await?;
        return Ok(found.into_iter().collect());
    };
    let found = store.on_record(&authority, day, serials).await?;
    let pairs = found.into_iter().map(|serial| (serial, authority.clone()));
    Ok(pairs.collect())
}
