//! Who acts, as the audit trail tells it.

use pki::time::Timestamp;
use serde_json::Value;

use crate::store::model::NewAudit;

/// Where the command line and the server itself act from.
const LOCAL: &str = "local";

/// Who acts, from where, what allows it, and in which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The principal: `cert:<CN>`, `oidc:<issuer>#<sub>`, `cli:<unix user>`, or what the server does by itself, such as
    /// `reconciler`.
    pub name: String,
    /// The address that the call came from; `local` on the server's machine.
    pub remote: String,
    /// What allows it, such as a role binding; `local` for who has the server's machine.
    pub rule: String,
    /// The call's id in logs; empty where there is no call.
    pub request_id: String,
}

impl Actor {
    /// Someone on the server's machine.
    #[must_use]
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            remote: LOCAL.to_owned(),
            rule: LOCAL.to_owned(),
            request_id: String::new(),
        }
    }

    /// The server by itself, without anyone asking.
    #[must_use]
    pub fn itself(name: &str) -> Self {
        Self {
            rule: "itself".to_owned(),
            ..Self::local(name)
        }
    }

    /// The same in a call of this id.
    #[must_use]
    pub fn in_call(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = request_id.into();
        self
    }

    /// The entry that says that this actor did it.
    #[must_use]
    pub fn did(&self, at: Timestamp, kind: &str, detail: &Value) -> NewAudit {
        NewAudit {
            at,
            kind: kind.to_owned(),
            actor: self.name.clone(),
            remote: self.remote.clone(),
            rule: self.rule.clone(),
            request_id: self.request_id.clone(),
            detail: detail.to_string(),
        }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
