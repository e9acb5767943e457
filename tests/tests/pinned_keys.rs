//! A cluster's pinned keys change while the server runs: what a key that is gone has signed is refused, and nothing else stops.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use serde_json::{Value, json};
use tests::fleet::{Fleet, Server};
use tests::process::run;
use tests::requests::{KeyAndRequest, create_certificate};
use tests::tokens::TokenAuthority;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";

/// Pins these keys, and no others, as an operator does.
fn pin(fleet: &Fleet, keys: &[&TokenAuthority]) {
    let keys: Vec<Value> = keys
        .iter()
        .flat_map(|authority| authority.jwks()["keys"].as_array().unwrap().clone())
        .collect();
    let set = json!({ "keys": keys });
    std::fs::write(fleet.path("jwks.json"), set.to_string()).unwrap();
    let definition = format!(
        "name = \"central\"\ntrust_domain = \"cluster.local\"\nmax_ttl = \"7d\"\n[[token_issuer]]\nissuer = \"{ISSUER}\"\njwks_file = \"jwks.json\"\n"
    );
    let file = fleet.path("cluster.toml");
    std::fs::write(&file, definition).unwrap();
    run(fleet.ca_server(&["cluster", "apply"]).arg(file));
}

/// Istio's call with this token, on a connection of its own.
async fn ask(server: &Server, token: &str) -> Result<(), Code> {
    let request = KeyAndRequest::for_uris(&[ME]);
    let mut istio = server.istio().await;
    let answer = create_certificate(&mut istio, token, "central", &request.pem(), 600).await;
    answer.map(drop).map_err(|status| status.code())
}

/// Asks until the answer is this one: a change is taken up a little after it was made.
async fn until(server: &Server, token: &str, expected: Result<(), Code>) {
    while ask(server, token).await != expected {
        tokio::task::yield_now().await;
    }
}

/// Istio's call with nothing but the connection's certificate.
async fn renew(connection: &Channel) -> Result<IstioCertificateResponse, Status> {
    let message = IstioCertificateRequest {
        csr: KeyAndRequest::for_uris(&[ME]).pem(),
        validity_duration: 600,
        metadata: None,
    };
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("clusterid", "central".parse().unwrap());
    let mut istio = IstioCertificateServiceClient::new(connection.clone());
    let answer = istio.create_certificate(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_longer_pinned_proves_nothing_and_certificates_renew_all_the_same() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let (old, new) = (TokenAuthority::new(ISSUER), TokenAuthority::new(ISSUER));
    // One token of each: a verdict that the server remembers must go with the key.
    let (by_old, by_new) = (old.token("foo", "bar"), new.token("foo", "bar"));
    pin(&fleet, &[&old]);
    let server = fleet.serve();
    assert_eq!(ask(&server, &by_old).await, Ok(()));
    assert_eq!(ask(&server, &by_new).await, Err(Code::Unauthenticated));

    let request = KeyAndRequest::for_uris(&[ME]);
    let mut istio = server.istio().await;
    let mut chain = create_certificate(&mut istio, &by_old, "central", &request.pem(), 3600)
        .await
        .unwrap()
        .cert_chain;
    chain.pop();
    let identity = (chain.concat(), request.key.serialize_pem());
    let connection = server.connect_as(Some((&identity.0, &identity.1))).await;
    let connection = connection.unwrap();
    renew(&connection).await.unwrap();

    let changes = async {
        // Both for a while, as an API server that rotates its key has it.
        pin(&fleet, &[&old, &new]);
        until(&server, &by_new, Ok(())).await;
        assert_eq!(ask(&server, &by_old).await, Ok(()));
        renew(&connection).await.unwrap();

        pin(&fleet, &[&new]);
        until(&server, &by_old, Err(Code::Unauthenticated)).await;
        assert_eq!(ask(&server, &by_new).await, Ok(()));
        assert_eq!(ask(&server, &by_old).await, Err(Code::Unauthenticated));
        let elsewhere = server.connect_as(Some((&identity.0, &identity.1))).await;
        for connection in [connection, elsewhere.unwrap()] {
            renew(&connection).await.unwrap();
        }

        // Pinned again: nothing remembers that it was gone.
        pin(&fleet, &[&old, &new]);
        until(&server, &by_old, Ok(())).await;
    };
    let patience = std::time::Duration::from_secs(60);
    let changed = tokio::time::timeout(patience, changes).await;
    changed.unwrap_or_else(|_| panic!("a change of keys is not taken up"));
}
