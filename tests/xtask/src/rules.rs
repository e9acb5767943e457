//! The drawing, as tables. A new line here is a decision about the architecture, not a detail of a change.

use crate::graph::{Arrows, Unreachable};
use crate::source::Word;

/// Which packages of ours a package may depend on, but for its own tests. One that is not listed may depend on none.
pub(crate) const ARROWS: &[Arrows] = &[
    Arrows {
        from: "pki",
        to: Some(&[]),
    },
    Arrows {
        from: "proto",
        to: Some(&[]),
    },
    Arrows {
        from: "hsm",
        to: Some(&["pki"]),
    },
    Arrows {
        from: "ca-root",
        to: Some(&["hsm", "pki"]),
    },
    Arrows {
        from: "ca-server",
        to: Some(&["pki", "hsm", "proto"]),
    },
    Arrows {
        from: "ca-client",
        to: Some(&["pki", "proto"]),
    },
    Arrows {
        from: "demo",
        to: None,
    },
    Arrows {
        from: "tests",
        to: None,
    },
    Arrows {
        from: "xtask",
        to: Some(&[]),
    },
];

/// Runtimes, servers, clients, databases, sockets.
const NETWORK: &[&str] = &[
    "async-std",
    "axum",
    "curl",
    "h2",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "kube",
    "mio",
    "native-tls",
    "quinn",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "sqlx-core",
    "tokio",
    "tokio-rustls",
    "tonic",
    "tower",
    "tungstenite",
    "ureq",
];

/// What must not be reachable from a package through what is linked into it.
pub(crate) const UNREACHABLE: &[Unreachable] = &[
    Unreachable {
        from: "pki",
        crates: NETWORK,
    },
    Unreachable {
        from: "hsm",
        crates: NETWORK,
    },
    Unreachable {
        from: "ca-root",
        crates: NETWORK,
    },
];

/// Everything that is shipped. `tests` and `demo` may name what they like.
const SHIPPED: &[&str] = &[
    "pki/",
    "hsm/",
    "proto/",
    "ca-root/",
    "ca-server/",
    "ca-client/",
];

/// Which words stand where in the source.
pub(crate) const WORDS: &[Word] = &[
    Word {
        word: "sqlx",
        within: SHIPPED,
        except: &["ca-server/src/store/", "ca-server/src/store.rs"],
        reason: "the store module is the only SQL",
    },
    Word {
        word: "tonic",
        within: &[
            "ca-server/src/app/",
            "ca-server/src/app.rs",
            "ca-server/src/store/",
            "ca-server/src/store.rs",
        ],
        except: &[],
        reason: "the use cases and the store know no transport",
    },
    Word {
        word: "axum",
        within: &[
            "ca-server/src/app/",
            "ca-server/src/app.rs",
            "ca-server/src/store/",
            "ca-server/src/store.rs",
        ],
        except: &[],
        reason: "the use cases and the store know no transport",
    },
    Word {
        word: "ring",
        within: SHIPPED,
        except: &[
            "pki/src/crypto.rs",
            "hsm/src/",
            "ca-server/src/authn/",
            "ca-server/src/authn.rs",
            "ca-server/src/entropy.rs",
            // The format of backups, which is the age tool's.
            "ca-server/src/app/backup/age.rs",
            "ca-client/src/entropy.rs",
            // A test's authority.
            "ca-client/src/stand_in.rs",
            // The serial numbers' entropy.
            "ca-root/src/signed.rs",
        ],
        reason: "cryptography is called in a few files, so that another library could take its place",
    },
    Word {
        word: "TcpStream",
        within: &["pki/", "hsm/", "ca-root/"],
        except: &[],
        reason: "the offline root opens no socket",
    },
    Word {
        word: "TcpListener",
        within: &["pki/", "hsm/", "ca-root/"],
        except: &[],
        reason: "the offline root opens no socket",
    },
    Word {
        word: "UdpSocket",
        within: &["pki/", "hsm/", "ca-root/"],
        except: &[],
        reason: "the offline root opens no socket",
    },
];
