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
    /// Sign a new root by the old one.
    CrossSign,
    /// Sign intermediates again, for the keys and under the names that they have.
    ReissueIntermediate,
    /// Split what opens the root's key: the first time, or among other people.
    SplitKey,
}

impl Template {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::CreateRoot => CREATE_ROOT,
            Self::SignIntermediate => SIGN_INTERMEDIATE,
            Self::IssueCrl => ISSUE_CRL,
            Self::CrossSign => CROSS_SIGN,
            Self::ReissueIntermediate => REISSUE_INTERMEDIATE,
            Self::SplitKey => SPLIT_KEY,
        }
    }
}

const CREATE_ROOT: &str = r#"# A ceremony that makes a root. Files are plain names in this plan's folder, and none may exist yet.
version = 1
ceremony = "create-root"
witnesses = []                # names; each types what they saw before anything is signed

[root]
name = "Example Mesh Root 1"  # common name; each generation has its own
organization = "Example"      # may be left out
algorithm = "P-256"           # or P-384
life = "10y"                  # up to 25y; units: s, m, h, d, y (365 days)

[outputs]
certificate = "root.pem"
key = "root.key"              # encrypted under a passphrase of 12 to 1024 bytes; or "pkcs11:token=ca;object=root"
crl = "root.crl.pem"          # the first CRL, number 1, revokes nothing
crl_life = "400d"             # up to 800d

# [shares]                    # nobody's passphrase: a fresh secret (or the token's PIN) in several hands
# threshold = 3               # any three of them open the key
# holders = ["Ada Lovelace", "Bert Brecht", "Cleo Day", "Dora Maar", "Emil Nolde"]
# prefix = "share"            # share-1.txt and so on, for each one's eyes alone
# show = false                # true: no files, each holder copies their share from the terminal

# [token]                     # beside a key = "pkcs11:..."
# module = "/usr/lib/softhsm/libsofthsm2.so"
# confined = true             # only a key that was made in the token and cannot leave it
"#;

const SIGN_INTERMEDIATE: &str = r#"# A ceremony that signs intermediates. Files are plain names in this plan's folder.
version = 1
ceremony = "sign-intermediate"
witnesses = []                # names; each types what they saw before anything is signed
# Certificates of other authorities: nobody gets a key or a name of theirs again. See also --known.
known = []

[root]
certificate = "root.pem"
key = "root.key"              # or "pkcs11:token=ca;object=root", with [token] module = "..." below
# opened_by = ["Ada Lovelace", "Bert Brecht", "Cleo Day"]  # the key is opened by these people's shares alone
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
witnesses = []

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

const CROSS_SIGN: &str = r#"# A ceremony in which the old root signs the new one: whoever believes in the old one then believes in both.
version = 1
ceremony = "cross-sign"
witnesses = []

[root]                        # the old one, which signs
certificate = "root.pem"
key = "root.key"

[cross]
certificate = "root-2.pem"    # the new one's own certificate; its name and its key stay as they are
# key_sha256 = ""             # the new key's digest as its owner read it out; another key is then refused
life = "3y"                   # up to 10y, and to the end of either root
path_len = 2                  # CAs below it: 0 to 3; 2 is a fleet and its clusters
out = "root-2-by-1.pem"
"#;

const REISSUE_INTERMEDIATE: &str = r#"# A ceremony that signs intermediates again: the same key, the same name, a new serial number and end.
version = 1
ceremony = "reissue-intermediate"
witnesses = []

[root]
certificate = "root.pem"
key = "root.key"
# crl = "root.crl.pem"        # the root's newest CRL: what it revokes is not signed again

[[reissue]]                   # one or more
certificate = "cluster-1.pem" # as this root signed it
# request = "cluster-1.csr"   # shows that the key is still there; another key is refused
# key_sha256 = ""             # the key's digest as its owner read it out
profile = "cluster-intermediate"
life = "1y"
out = "cluster-1-b.pem"
"#;

const SPLIT_KEY: &str = r#"# A ceremony that splits what opens the root's key: the first time, or among other people. The old key file and the
# old shares go on opening each other: destroy them.
version = 1
ceremony = "split-key"
witnesses = []

[root]
certificate = "root.pem"
key = "root.key"              # or a token's key, whose PIN is split; then without [outputs]
# opened_by = ["Ada Lovelace", "Bert Brecht", "Cleo Day"]  # where it was split before

[shares]
threshold = 3
holders = ["Ada Lovelace", "Bert Brecht", "Cleo Day", "Dora Maar", "Emil Nolde"]
prefix = "share"              # share-1.txt and so on, for each one's eyes alone
show = false                  # true: no files, each holder copies their share from the terminal

[outputs]
key = "root-b.key"            # the same key, under the fresh secret that is split
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
        let text = CREATE_ROOT.split("# [token]").next().unwrap();
        let shares = [
            "# [shares]",
            "# threshold",
            "# holders",
            "# prefix",
            "# show",
        ];
        let text = shares.iter().fold(text.to_owned(), |text, line| {
            text.replace(line, line.trim_start_matches("# "))
        });
        assert_eq!(Plan::parse(&text).unwrap().share_files().len(), 5);
        let text = SIGN_INTERMEDIATE.replace("# crl_url", "crl_url");
        let text = text.replace("# opened_by", "opened_by");
        Plan::parse(&text.replace("# issuer_url", "issuer_url")).unwrap();
    }
}
