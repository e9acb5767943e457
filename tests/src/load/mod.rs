//! Load: Istio's calls made beforehand, clients that make them without a pause, and what the machine could do at best.

pub mod floor;
pub mod hammer;

use proto::istio::auth::IstioCertificateRequest;
use tonic::metadata::{Ascii, MetadataValue};

use crate::fleet::TestCluster;
use crate::requests::KeyAndRequest;

/// Istio's calls, ready to be sent: distinct keys, and each with the token of the account that it names.
pub struct Calls {
    cluster: MetadataValue<Ascii>,
    accounts: Vec<Account>,
    requests: Vec<Vec<u8>>,
    pems: Vec<String>,
}

struct Account {
    token: String,
    bearer: MetadataValue<Ascii>,
}

impl Calls {
    /// As many service accounts and requests as asked for; there are no fewer requests than accounts.
    pub fn prepare(cluster: &TestCluster, accounts: usize, requests: usize) -> Self {
        let name = |i: usize| format!("account-{i}");
        let account = |i| {
            let token = cluster.tokens.token("load", &name(i));
            let bearer = format!("Bearer {token}").parse().unwrap();
            Account { token, bearer }
        };
        let ders: Vec<Vec<u8>> = (0..requests.max(accounts))
            .map(|i| {
                let account = name(i % accounts);
                let uri = format!("spiffe://cluster.local/ns/load/sa/{account}");
                KeyAndRequest::for_uris(&[&uri]).der
            })
            .collect();
        Self {
            cluster: cluster.name.parse().unwrap(),
            accounts: (0..accounts).map(account).collect(),
            pems: ders.iter().map(|der| pki::pem::request(der)).collect(),
            requests: ders,
        }
    }

    /// The `n`th call, round and round.
    pub fn request(&self, n: usize) -> tonic::Request<IstioCertificateRequest> {
        let n = n % self.pems.len();
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: self.pems[n].clone(),
            validity_duration: 86_400,
            metadata: None,
        });
        let account = &self.accounts[n % self.accounts.len()];
        let metadata = request.metadata_mut();
        metadata.insert("authorization", account.bearer.clone());
        metadata.insert("clusterid", self.cluster.clone());
        request
    }

    /// DER of the `n`th call's request, and its token.
    fn parts(&self, n: usize) -> (&[u8], &str) {
        let n = n % self.requests.len();
        (
            &self.requests[n],
            &self.accounts[n % self.accounts.len()].token,
        )
    }
}
