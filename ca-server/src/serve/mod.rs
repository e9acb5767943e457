//! The acceptor: one for all four listeners. TLS settings are swapped whole while it runs, handshakes have a deadline,
//! connections a maximum age, and a stop lets requests under way finish.

mod allowance;
mod bounds;
pub(crate) mod problem;
mod request;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use tls::{ServingIdentity, TlsError, TlsSettings};

use crate::app::App;
use crate::authn::PeerCertificate;
use crate::config::{Config, Listeners};
use crate::grpc::ConnectionInfo;
use allowance::{Allowance, Metered};
use bounds::Bounds;
use request::Reading;

/// How long calls under way may take once their connection is to end: longer than any call's deadline.
const LAST_CALLS: Duration = Duration::from_secs(15);

/// A listener, bound.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
    tls: Option<Arc<TlsSettings>>,
    router: axum::Router,
    bounds: Bounds,
    reading: Arc<Reading>,
    handshake_timeout: Duration,
    max_age: Duration,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<Arc<TlsSettings>>,
        router: axum::Router,
        settings: &Listeners,
    ) -> Result<Self, std::io::Error> {
        let socket = TcpListener::bind(address).await.map_err(|error| {
            std::io::Error::new(
                error.kind(),
                format!("listeners.{name}: {address}: {error}"),
            )
        })?;
        tracing::info!(listener = name, address = %socket.local_addr()?, "listening");
        Ok(Self {
            name,
            socket,
            tls,
            router,
            bounds: Bounds::new(
                settings.max_connections,
                settings.max_connections_per_address,
            ),
            reading: Arc::new(Reading::new()),
            handshake_timeout: settings.handshake_timeout,
            max_age: settings.connection_max_age,
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Puts the configured bounds in force whenever they change.
    pub(crate) fn follow(
        &self,
        mut config: watch::Receiver<Config>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let bounds = self.bounds.clone();
        async move {
            while tokio::select! {
                changed = config.changed() => changed.is_ok(),
                () = stop.cancelled() => false,
            } {
                let listeners = config.borrow_and_update().listeners;
                bounds.set(
                    listeners.max_connections,
                    listeners.max_connections_per_address,
                );
            }
        }
    }

    /// Accepts until `stop`; connections go on as tasks of `tracker`. Without an `app` nobody is known: for plain HTTP.
    pub async fn run(self, app: Option<Arc<App>>, stop: CancellationToken, tracker: TaskTracker) {
        let this = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = this.socket.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: others may close theirs meanwhile.
                    tracing::warn!(listener = this.name, %error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = this.bounds.enter(remote.ip()) else {
                continue;
            };
            let (this, app, stop) = (this.clone(), app.clone(), stop.clone());
            tracker.spawn(async move {
                let _place = place;
                this.connection(stream, remote, app.as_deref(), stop).await;
            });
        }
    }

    async fn connection(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        app: Option<&App>,
        stop: CancellationToken,
    ) {
        // Answers are small and written whole.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.serve(stream, remote, None, stop).await;
        };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let peer = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .and_then(|chain| PeerCertificate::read(chain.first()?, &app?.snapshot()))
                    .map(Arc::new);
                self.serve(stream, remote, peer, stop).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(listener = self.name, %remote, %error, "handshake failed");
            }
            Err(_) => tracing::debug!(listener = self.name, %remote, "handshake too slow"),
        }
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        remote: SocketAddr,
        peer: Option<Arc<PeerCertificate>>,
        stop: CancellationToken,
    ) {
        let closing = CancellationToken::new();
        let info = ConnectionInfo {
            remote,
            peer,
            closing: closing.clone(),
        };
        let (name, reading, router) = (self.name, self.reading.clone(), self.router.clone());
        let allowance = Allowance::new();
        let stream = TokioIo::new(Metered::new(stream, allowance.clone()));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            allowance.request();
            let (reading, router, info) = (reading.clone(), router.clone(), info.clone());
            async move {
                let mut request = match reading.whole(name, request, info.remote).await {
                    Ok(request) => request,
                    Err(answer) => return Ok::<_, Infallible>(answer),
                };
                request.extensions_mut().insert(info);
                router.oneshot(request).await
            }
        });
        let builder = http_builder();
        let connection = builder.serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
            () = tokio::time::sleep(self.max_age) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                closing.cancel();
                connection.as_mut().graceful_shutdown();
                // Calls have their own deadlines; a peer that does not take the answer must not keep the connection.
                match tokio::time::timeout(LAST_CALLS, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(listener = self.name, %error, "connection ended");
        }
    }
}

/// Bounds against floods: of streams, headers, resets and slow headers. Pings every 30 s, as Istio's agents send them,
/// are welcome.
fn http_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
