//! The main path: from a proven caller to a certificate on record.

use pki::certificate::{Certificate, Issuer};
use tests::fleet::Fleet;
use tests::requests::{KeyAndRequest, create_certificate};

#[tokio::test]
async fn a_sidecar_gets_its_chain_and_the_record_is_there() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let mut server = fleet.serve();
    let mut client = server.istio().await;
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
    for cluster in &fleet.clusters {
        let token = cluster.tokens.token("foo", "bar");
        let answer = create_certificate(&mut client, &token, &cluster.name, &request.pem(), 86_400)
            .await
            .unwrap();
        assert_eq!(answer.cert_chain.len(), 3, "leaf, intermediate, roots");
        assert!(
            answer
                .cert_chain
                .iter()
                .all(|element| element.ends_with("-----END CERTIFICATE-----\n"))
        );
        let chain: Vec<Certificate> = answer
            .cert_chain
            .iter()
            .flat_map(|pem| Certificate::parse_pem(pem.as_bytes()).unwrap())
            .collect();
        let [leaf, above @ ..] = chain.as_slice() else {
            panic!("no leaf")
        };
        let issuer = Issuer::from_chain(above).unwrap();
        leaf.verify_by(issuer.key()).unwrap();
        assert_eq!(
            leaf.spiffe_id().unwrap().as_str(),
            "spiffe://cluster.local/ns/foo/sa/bar"
        );
        assert_eq!(above.last().unwrap(), fleet.root.certificate());
        let records = fleet.records();
        let serial = leaf.serial().to_string();
        assert!(
            records
                .iter()
                .any(|line| line.starts_with(&serial) && line.contains(&cluster.name))
        );
    }
    // One cluster's token is no other's.
    let stranger = fleet.clusters[0].tokens.token("foo", "bar");
    let refused = create_certificate(&mut client, &stranger, "edge", &request.pem(), 60).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert!(server.process().terminate(), "a stop is clean");
}
