//! Trust bundles by gRPC: the roots as they stand, and on an open stream each time they change.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::time::Duration;

use pki::time::Ttl;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use proto::ca::v1::{
    GetTrustBundleRequest, TrustBundle, WatchTrustBundleRequest, WatchTrustBundleResponse,
};
use tests::attacks::Refusals;
use tests::fleet::{Fleet, Root};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(60);

type Client = CertificateServiceClient<Channel>;

async fn get(client: &mut Client, trust_domain: &str) -> Result<TrustBundle, Status> {
    let request = GetTrustBundleRequest {
        trust_domain: trust_domain.to_owned(),
    };
    let answer = client.get_trust_bundle(request).await?;
    Ok(answer.into_inner().bundle.unwrap())
}

async fn watch(
    client: &mut Client,
    trust_domain: &str,
) -> Result<Streaming<WatchTrustBundleResponse>, Status> {
    let request = WatchTrustBundleRequest {
        trust_domain: trust_domain.to_owned(),
    };
    let answer = client.watch_trust_bundle(request).await?;
    Ok(answer.into_inner())
}

async fn next(stream: &mut Streaming<WatchTrustBundleResponse>) -> TrustBundle {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    let message = message.unwrap_or_else(|_| panic!("nothing on the stream"));
    message.unwrap().unwrap().bundle.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_root_arrives_on_an_open_stream_with_a_higher_sequence() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let mut client = server.certificates().await;
    let first = get(&mut client, "cluster.local").await.unwrap();
    assert_eq!(first.trust_domain, "cluster.local");
    assert_eq!(first.roots, [fleet.root.certificate().der()]);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = watch(&mut client, "cluster.local").await.unwrap();
        assert_eq!(next(&mut stream).await, first, "as it stands, at once");
        streams.push(stream);
    }
    // A change that leaves the roots alone is none to who watches them: what comes next is the second root.
    fleet.apply(0, "default_ttl = \"1h\"");
    let second = Root::new("Second Root");
    fleet.add_authority_under(&second, "central", Ttl::days(365), &[]);
    let mut roots = [fleet.root.certificate().der(), second.certificate().der()];
    roots.sort_unstable();
    for stream in &mut streams {
        let mut changed = next(stream).await;
        assert_eq!(changed.sequence, first.sequence + 1);
        changed.roots.sort_unstable();
        assert_eq!(changed.roots, roots);
    }
    let now = get(&mut client, "cluster.local").await.unwrap();
    assert_eq!((now.sequence, now.roots.len()), (first.sequence + 1, 2));
    // A stop ends the streams, and is not held up by them.
    assert!(server.process().terminate());
    assert_eq!(server.log().count("cut off"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_that_is_not_ours_has_no_bundle() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let mut client = server.certificates().await;
    let mut refusals = Refusals::default();
    for (trust_domain, code) in [
        ("elsewhere.example", Code::NotFound),
        ("", Code::InvalidArgument),
        ("spiffe://cluster.local", Code::InvalidArgument),
        ("Cluster.Local", Code::InvalidArgument),
    ] {
        let got = get(&mut client, trust_domain).await;
        refusals.expect(trust_domain, got, code, "");
        let watched = watch(&mut client, trust_domain).await;
        refusals.expect(trust_domain, watched, code, "");
    }
    refusals.check_log(server.log());
}
