//! A connection to the `admin` listener: HTTP/1.1 over TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::error::ApiError;
use crate::endpoint::Endpoint;
use crate::error::ClientError;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that stands; what drives it ends when it is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(super) async fn open(
        endpoint: &Endpoint,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ApiError> {
        let opening = tokio::time::timeout(CONNECT_TIMEOUT, Self::shake_hands(endpoint, tls));
        match opening.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(endpoint.with_chain_seen(error).await.into()),
            Err(_) => Err(ClientError::Unreachable {
                address: endpoint.address().to_owned(),
                reason: "no answer in time".to_owned(),
            }
            .into()),
        }
    }

    async fn shake_hands(endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            ClientError::from_connecting(endpoint.address(), error)
        };
        let (host, port, name) = endpoint.target();
        let name = ServerName::try_from(name.to_owned()).map_err(|error| failed(&error))?;
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| failed(&error))?;
        let stream = TlsConnector::from(tls)
            .connect(name, tcp)
            .await
            .map_err(|error| failed(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error reaches whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }

    /// Whether another request can go over it.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<hyper::body::Incoming>, hyper::Error> {
        self.sender.send_request(request).await
    }
}
