//! The REST API, `/v1` on the `admin` listener: JSON in and out, problem documents (RFC 9457) for refusals.
//!
//! A route is a handler and an [`Operation`]; the operation's rule says who may call it. There is no other way to add one.

mod audit;
mod authorities;
mod bundles;
mod certificates;
mod clusters;
mod crls;
mod enrolments;
mod extract;
mod fault;
mod front;
mod idempotency;
mod page;
mod patterns;
mod policy;
mod proposals;
mod reference;
mod revocations;
mod roles;
mod schema;
mod status;
mod token_issuers;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::app::App;
use crate::app::operations::Operation;
use front::Gate;

type Shared = Arc<App>;

/// The largest body that is read.
const MAX_BODY: usize = 128 * 1024;

/// What the description begins with.
#[derive(OpenApi)]
#[openapi(info(
    title = "Signet administration",
    description = "The API that the certificate authority is administered by.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Api;

/// The routes of the API, each behind the front door and its own gate.
pub fn router(app: &Shared) -> Router {
    let (router, _) = routes_of(&Gates(Some(app.clone()))).split_for_parts();
    router
        .fallback(front::nothing)
        .method_not_allowed_fallback(front::another_method)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(app.clone(), front::door))
        .layer(map_response(super::public::kept_only_if_it_says_so))
        .with_state(app.clone())
}

/// The API's description, OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    let (_, mut document) = routes_of(&Gates(None)).split_for_parts();
    reference::complete(&mut document);
    // Made of maps and texts alone.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    patterns::write(&mut document);
    document
}

/// What stands before routes; nothing where only their description is wanted.
struct Gates(Option<Shared>);

impl Gates {
    fn stand(
        &self,
        operation: Operation,
        (schemas, mut paths, methods): UtoipaMethodRouter<Shared>,
    ) -> UtoipaMethodRouter<Shared> {
        reference::name(&mut paths, operation);
        let methods = match &self.0 {
            Some(app) => {
                let gate = Gate {
                    app: app.clone(),
                    operation,
                };
                methods.layer(from_fn_with_state(gate, front::permit))
            }
            None => methods,
        };
        (schemas, paths, methods)
    }
}

macro_rules! endpoints {
    ($($operation:ident => $module:ident::$handler:ident,)*) => {
        /// Every operation has a route: one that lacks it does not compile.
        #[expect(dead_code, reason = "is there to be compiled")]
        const fn is_routed(operation: Operation) -> bool {
            match operation {
                $(Operation::$operation => true,)*
            }
        }

        fn routes_of(gates: &Gates) -> OpenApiRouter<Shared> {
            OpenApiRouter::with_openapi(Api::openapi())
                $(.routes(gates.stand(Operation::$operation, routes!($module::$handler))))*
        }
    };
}

endpoints! {
    Whoami => roles::whoami,
    WhoamiRenew => roles::renew,
    OpenapiShow => reference::openapi,
    ReferenceShow => reference::show,
    StatusShow => status::show,
    ProfileList => status::profiles,
    ProfileShow => status::show_profile,
    ClusterList => clusters::list,
    ClusterCreate => clusters::create,
    ClusterShow => clusters::show,
    ClusterUpdate => clusters::update,
    ClusterDelete => clusters::delete,
    TokenIssuerList => token_issuers::list,
    TokenIssuerSet => token_issuers::set,
    TokenIssuerRemove => token_issuers::remove,
    PolicyShow => policy::show,
    PolicySet => policy::set,
    PolicyDryRun => policy::dry_run,
    PolicyReplay => policy::replay,
    AuthorityList => authorities::list,
    AuthorityRequest => authorities::request,
    AuthorityShow => authorities::show,
    AuthorityRequestShow => authorities::show_request,
    AuthorityChainShow => authorities::show_chain,
    AuthorityImport => authorities::import,
    AuthoritySign => authorities::sign,
    AuthorityPublish => authorities::publish,
    AuthorityActivate => authorities::activate,
    AuthorityAbandon => authorities::abandon,
    AuthorityRetire => authorities::retire,
    AuthorityRevoke => authorities::revoke,
    CertificateList => certificates::list,
    CertificateSign => certificates::sign,
    CertificateShow => certificates::show,
    CertificateRevoke => revocations::revoke,
    CertificateHold => revocations::hold,
    CertificateLift => revocations::lift,
    RevocationCreate => revocations::many,
    EnrolmentList => enrolments::list,
    EnrolmentCreate => enrolments::create,
    EnrolmentShow => enrolments::show,
    EnrolmentRevoke => enrolments::revoke,
    CrlList => crls::list,
    CrlShow => crls::show,
    RootCrlImport => crls::import,
    RootCrlRequest => crls::request,
    BundleList => bundles::list,
    BundleShow => bundles::show,
    RootRemove => bundles::remove_root,
    AuditList => audit::list,
    AuditHeads => audit::heads,
    RoleList => roles::list,
    RoleBind => roles::create,
    RoleShow => roles::show,
    RoleUnbind => roles::delete,
    ProposalList => proposals::list,
    ProposalShow => proposals::show,
    ProposalApprove => proposals::approve,
    ProposalReject => proposals::reject,
    ProposalWithdraw => proposals::withdraw,
    ClockAccept => status::accept_clock,
}
