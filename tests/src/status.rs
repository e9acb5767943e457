//! Certificates and the lists that tell of them, as scenarios need them.

use pki::certificate::Certificate;
use pki::crl::Crl;

use crate::fleet::{Fleet, Server};
use crate::http::get;
use crate::istio::wait_until;
use crate::requests::{KeyAndRequest, create_certificate};

/// Gets a workload's certificate, and writes leaf and issuer into the fleet's directory.
pub async fn issue(fleet: &Fleet, server: &Server, cluster: usize, account: &str) -> Certificate {
    let cluster = &fleet.clusters[cluster];
    let token = cluster.tokens.token("ns", account);
    let id = format!("spiffe://cluster.local/ns/ns/sa/{account}");
    let request = KeyAndRequest::for_uris(&[&id]);
    let mut client = server.istio().await;
    let answer = create_certificate(&mut client, &token, &cluster.name, &request.pem(), 3600)
        .await
        .unwrap();
    std::fs::write(fleet.path(&format!("{account}.pem")), &answer.cert_chain[0]).unwrap();
    std::fs::write(fleet.path("issuer.pem"), &answer.cert_chain[1]).unwrap();
    std::fs::write(
        fleet.path(&format!("{account}.chain.pem")),
        answer.cert_chain[..2].concat(),
    )
    .unwrap();
    std::fs::write(fleet.path("root.pem"), fleet.root_pem()).unwrap();
    Certificate::parse_pem(answer.cert_chain[0].as_bytes())
        .unwrap()
        .remove(0)
}

/// An authority's CRL, as it is served now.
pub fn crl(server: &Server, authority: &str) -> Crl {
    let answer = get(server.public, &format!("/crls/{authority}.crl")).unwrap();
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/pkix-crl")
    );
    Crl::parse(&answer.body).unwrap()
}

/// The CRL once it has a higher number.
pub fn crl_after(server: &Server, authority: &str, number: u64) -> Crl {
    wait_until("the next CRL", || {
        Some(crl(server, authority)).filter(|crl| crl.number() > Some(number))
    })
}
