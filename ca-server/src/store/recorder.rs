//! Group commit: certificates are recorded in batches, and each caller waits for its own.
//!
//! The writer takes whatever is waiting, with no timer: alone, a record goes at once; under load, a batch is what came
//! while the last one was written. What holds when the process dies:
//!
//! - in the queue, or before the database's commit: not recorded, and never handed out, for the caller has no answer;
//! - after the commit, before the answer: recorded, and not handed out: an entry that nobody uses, which expires;
//! - after the answer: recorded, durably.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::model::NewRecord;
use super::{RecordError, Store};

/// The way into the record. A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Waiting>,
    writes: Arc<AtomicBool>,
}

/// Records waiting at most; one more waits for a place, for [`QUEUE_WAIT`] at most.
const QUEUE_LENGTH: usize = 4096;
/// Records in one statement at most.
const BATCH_MAX: usize = 512;
/// How long a full queue is waited for.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
#[derive(Debug)]
struct Waiting {
    record: NewRecord,
    /// Dropped by a caller that went away, which cancels nothing.
    answer: oneshot::Sender<Result<u64, RecordError>>,
}

impl Recorder {
    /// Starts the writer, on `tasks`. When `shutdown` is cancelled the queue takes no more; what is in it is still written
    /// before the task ends.
    #[must_use]
    pub fn start(store: Store, tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let writes = Arc::new(AtomicBool::new(true));
        tasks.spawn(write(
            store,
            tasks.clone(),
            shutdown,
            waiting,
            writes.clone(),
        ));
        Self { queue, writes }
    }

    /// Whether the store took what was last written to it.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn note_write(&self, taken: bool) {
        self.writes.store(taken, Ordering::Relaxed);
    }

    /// Records a certificate and tells its index in its authority's log. Once the record is in the queue, dropping this
    /// future does not take it out.
    ///
    /// # Errors
    /// [`RecordError::Unavailable`] when the store fails, the queue stays full for 2 s or the server shuts down, and as any
    /// record.
    pub async fn record(&self, record: NewRecord) -> Result<u64, RecordError> {
        let unavailable = |reason| RecordError::Unavailable {
            reason,
            source: None,
        };
        let place = tokio::time::timeout(QUEUE_WAIT, self.queue.reserve())
            .await
            .map_err(|_| unavailable("the queue of records is full"))?
            .map_err(|_| unavailable("the server shuts down"))?;
        let (answer, answered) = oneshot::channel();
        place.send(Waiting { record, answer });
        answered
            .await
            .map_err(|_| unavailable("the writer of records died"))?
    }
}

/// The writer's task: one batch at a time, until the queue is closed and empty. A second writer would wait for the first
/// one's lock on the authority's log: measured, it halves the batches, doubles the database's work and records no more.
async fn write(
    store: Store,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    mut queue: mpsc::Receiver<Waiting>,
    writes: Arc<AtomicBool>,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
            taken = queue.recv_many(&mut batch, BATCH_MAX) => if taken == 0 {
                return;
            }
        }
        // A task of its own: a panic in it ends this batch, whose callers then hear of it, and not the writer.
        let _ = tasks
            .spawn(write_batch(store.clone(), batch, writes.clone()))
            .await;
    }
}

async fn write_batch(store: Store, batch: Vec<Waiting>, writes: Arc<AtomicBool>) {
    let (records, answers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.record, waiting.answer))
        .unzip();
    let written = store.record_batch(&records).await;
    writes.store(written.is_ok(), Ordering::Relaxed);
    let results = match written {
        Ok(results) => results,
        Err(error) => {
            let error = RecordError::unavailable(error);
            records.iter().map(|_| Err(error.clone())).collect()
        }
    };
    for (answer, result) in answers.into_iter().zip(results) {
        // A caller that went away does not want to know.
        let _ = answer.send(result);
    }
}
