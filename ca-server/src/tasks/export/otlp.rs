//! An OpenTelemetry collector: each entry is a log record whose body is its line. One server at a time hands on all chains;
//! how far is remembered in the store, so that any other goes on from there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pki::audit::Mark;
use proto::otlp::any_value::Value;
use proto::otlp::logs_service_client::LogsServiceClient;
use proto::otlp::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, Resource, ResourceLogs, Scope,
    ScopeLogs,
};
use tonic::transport::{Channel, Endpoint};

use crate::app::{App, Context, Error, ErrorKind};
use crate::config::CollectorUrl;
use crate::store::model::AuditRow;

/// How long a collector may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// For how long a server that does not come back keeps its turn.
const TURN_SECONDS: u32 = 15;
/// How often the turn is asked for, or kept: each time is a write.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// SeverityNumber: INFO and WARN.
const INFO: i32 = 9;
const WARN: i32 = 13;

pub(in crate::tasks) struct OtlpSink {
    url: CollectorUrl,
    /// What the turn and the positions are kept under.
    name: String,
    holder: String,
    replica: String,
    client: Option<LogsServiceClient<Channel>>,
    /// Whether it is this server's turn, and when that was asked.
    turn: Option<(bool, Instant)>,
}

impl OtlpSink {
    pub(super) fn new(context: &Context, url: &CollectorUrl) -> Self {
        let replica = context
            .store
            .auditor()
            .map(|auditor| auditor.replica().to_string());
        Self {
            name: format!("audit-otlp {}", url.as_str()),
            url: url.clone(),
            holder: context.instance.clone(),
            replica: replica.unwrap_or_default(),
            client: None,
            turn: None,
        }
    }

    pub(super) async fn is_ours(&mut self, app: &App) -> Result<bool, Error> {
        if let Some((ours, asked)) = self.turn
            && asked.elapsed() < ASK_EVERY
        {
            return Ok(ours);
        }
        let store = &app.context().store;
        let asked = Instant::now();
        let ours = store
            .try_lease(&self.name, &self.holder, TURN_SECONDS)
            .await?;
        self.turn = Some((ours, asked));
        Ok(ours)
    }

    pub(super) async fn positions(&self, app: &App) -> Result<BTreeMap<String, Mark>, Error> {
        let marks = app.context().store.audit_exported(&self.name).await?;
        let by_replica = marks.into_iter().map(|mark| (mark.replica.clone(), mark));
        Ok(by_replica.collect())
    }

    pub(super) async fn remember(&self, app: &App, mark: &Mark) -> Result<(), Error> {
        let store = &app.context().store;
        Ok(store.note_audit_exported(&self.name, mark).await?)
    }

    pub(super) async fn write(&mut self, app: &App, rows: &[AuditRow]) -> Result<(), Error> {
        let request = self.request(rows)?;
        let client = self.client()?;
        let answered = tokio::time::timeout(DEADLINE, client.export(request)).await;
        let answer = match answered {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(self.failed(status)),
            Err(late) => return Err(self.failed(late)),
        };
        // The protocol forbids to send again what was taken in part; the store has it.
        if let Some(part) = answer.partial_success
            && part.rejected_log_records > 0
        {
            let rejected = u64::try_from(part.rejected_log_records).unwrap_or(0);
            app.metrics().audit_rejected(rejected);
            tracing::error!(
                rejected, error = %crate::app::printable(&part.error_message),
                "the collector did not take all entries of the audit trail"
            );
        }
        Ok(())
    }

    /// Connects at the first call, and again by itself whenever it has to.
    fn client(&mut self) -> Result<&mut LogsServiceClient<Channel>, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let endpoint = Endpoint::from_shared(self.url.as_str().to_owned())
                    .map_err(Error::internal)?
                    .connect_timeout(DEADLINE);
                LogsServiceClient::new(endpoint.connect_lazy())
            }
        };
        Ok(self.client.insert(client))
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        let text = format!("audit.otlp {} takes nothing", self.url.as_str());
        Error::new(ErrorKind::Unavailable, "audit-otlp", text).because(error)
    }

    fn request(&self, rows: &[AuditRow]) -> Result<ExportLogsServiceRequest, Error> {
        let records: Result<Vec<_>, Error> = rows.iter().map(record).collect();
        let version = env!("CARGO_PKG_VERSION");
        let scope = Scope {
            name: "signet.audit".to_owned(),
            version: version.to_owned(),
        };
        Ok(ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes: vec![
                        text("service.name", "signet-ca-server"),
                        text("service.version", version),
                        text("service.instance.id", &self.replica),
                    ],
                }),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope),
                    log_records: records?,
                }],
            }],
        })
    }
}

fn record(row: &AuditRow) -> Result<LogRecord, Error> {
    let nanoseconds = u64::try_from(row.at.unix()).unwrap_or(0) * 1_000_000_000;
    let (severity, word) = if row.kind.starts_with("refusal.") {
        (WARN, "WARN")
    } else {
        (INFO, "INFO")
    };
    let position = i64::try_from(row.position).unwrap_or(i64::MAX);
    Ok(LogRecord {
        time_unix_nano: nanoseconds,
        observed_time_unix_nano: nanoseconds,
        severity_number: severity,
        severity_text: word.to_owned(),
        event_name: row.kind.clone(),
        body: value(Value::StringValue(
            serde_json::to_string(row).map_err(Error::internal)?,
        )),
        attributes: vec![
            text("audit.replica", &row.replica),
            KeyValue {
                key: "audit.position".to_owned(),
                value: value(Value::IntValue(position)),
            },
            text("audit.kind", &row.kind),
            text("audit.actor", &row.actor),
            text("audit.remote", &row.remote),
            text("audit.rule", &row.rule),
            text("audit.request_id", &row.request_id),
            text("audit.hash", &pki::crypto::hex(&row.hash)),
        ],
    })
}

fn text(key: &str, text: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: value(Value::StringValue(text.to_owned())),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a message's field takes")]
fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}
