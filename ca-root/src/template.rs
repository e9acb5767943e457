//! Plans to fill in.

/// A ceremony to print a plan for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Template {
    /// Make a root: key, certificate, first CRL.
    CreateRoot,
    /// Sign intermediates' requests.
    SignIntermediate,
    /// Sign the root's next CRL.
    IssueCrl,
}

impl Template {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::CreateRoot => CREATE_ROOT,
            Self::SignIntermediate => SIGN_INTERMEDIATE,
            Self::IssueCrl => ISSUE_CRL,
        }
    }
}

const CREATE_ROOT: &str = r#"# A ceremony that makes a root. Files are plain names in this plan's folder, and none may exist yet.
version = 1
ceremony = "create-root"

[root]
name = "Example Mesh Root 1"  # common name; each generation has its own
organization = "Example"      # may be left out
algorithm = "P-256"           # or P-384
life = "10y"                  # up to 25y; units: s, m, h, d, y (365 days)

[outputs]
certificate = "root.pem"
key = "root.key"              # encrypted under a passphrase of 12 to 1024 bytes
crl = "root.crl.pem"          # the first CRL, number 1, revokes nothing
crl_life = "400d"             # up to 800d
"#;

const SIGN_INTERMEDIATE: &str = r#"# A ceremony that signs intermediates. Files are plain names in this plan's folder.
version = 1
ceremony = "sign-intermediate"
# Certificates of other authorities: nobody gets a key or a name of theirs again. See also --known.
known = []

[root]
certificate = "root.pem"
key = "root.key"
# Where readers find the root's CRL and certificate; may be left out.
# crl_url = "http://pki.example/root.crl"
# issuer_url = "http://pki.example/root.crt"

[[intermediate]]              # one or more
request = "cluster-1.csr"
profile = "cluster-intermediate"  # or fleet-intermediate, subordinate-ca
name = "Example Cluster 1 G1" # common name; the request's own when left out
organization = "Example"      # may be left out
# key_sha256 = ""             # the key's digest as its owner read it out; another key is then refused
life = "1y"
path_len = 0                  # CAs below it: cluster 0, fleet 1 or 2, subordinate 0 to 2
out = "cluster-1.pem"
"#;

const ISSUE_CRL: &str = r#"# A ceremony that signs the root's next CRL. Files are plain names in this plan's folder.
version = 1
ceremony = "issue-crl"

[root]
certificate = "root.pem"
key = "root.key"

[crl]
number = "next"               # one more than the previous CRL's; or a number
previous = "root.crl.pem"     # everything that it revokes has to be listed again, until it has expired
life = "400d"                 # up to 800d
out = "root-2.crl.pem"

# [[revoke]]                  # none or more
# certificate = "cluster-1.pem"  # or: serial = "01..."
# reason = "superseded"       # unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
#                             # cessationOfOperation, privilegeWithdrawn
# at = "2026-11-24T00:00:00Z" # now when left out
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use pki::ceremony::Plan;

    #[test]
    fn every_template_is_a_plan_with_its_comments_taken_up_as_well() {
        for template in Template::value_variants() {
            let text = template.text();
            let plan = Plan::parse(text).unwrap();
            let name = template.to_possible_value().unwrap();
            assert_eq!(plan.kind(), name.get_name());
        }
        let text = ISSUE_CRL
            .replace("# [[", "[[")
            .replace("\n# certificate", "\ncertificate");
        let text = text
            .replace("\n# reason", "\nreason")
            .replace("\n# at", "\nat");
        Plan::parse(&text).unwrap();
        let text = SIGN_INTERMEDIATE.replace("# crl_url", "crl_url");
        Plan::parse(&text.replace("# issuer_url", "issuer_url")).unwrap();
    }
}
