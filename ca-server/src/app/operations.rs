//! What can be done through the API, and what each of it takes. Every route names its operation, and every operation has its
//! rule here: one without the other does not compile.

use super::roles::Role;

/// How far a role has to reach for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any proven principal may, for itself.
    Oneself,
    /// The role in the cluster that it is about; a list shows the clusters where the role holds.
    Cluster,
    /// The role in the whole installation.
    Installation,
}

/// What an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The least role.
    pub role: Role,
    /// Where it has to hold.
    pub reach: Reach,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $role:ident, $reach:ident;)*) => {
        /// What a route of the API does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in refusals, logs and the reference.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it takes.
            #[must_use]
            pub const fn requirement(self) -> Requirement {
                match self {
                    $(Self::$name => Requirement { role: Role::$role, reach: Reach::$reach },)*
                }
            }
        }
    };
}

operations! {
    /// Who the caller is, and what it may do.
    Whoami: "whoami.show", Viewer, Oneself;
    /// A new certificate for the administrator who asks, and still has a role.
    WhoamiRenew: "whoami.renew", Viewer, Cluster;
    /// The API's description.
    OpenapiShow: "openapi.show", Viewer, Oneself;
    /// The API's reference for people.
    ReferenceShow: "reference.show", Viewer, Oneself;
    /// How the server and its store are.
    StatusShow: "status.show", Viewer, Cluster;
    /// The profiles.
    ProfileList: "profile.list", Viewer, Cluster;
    /// One profile.
    ProfileShow: "profile.show", Viewer, Cluster;

    /// The clusters.
    ClusterList: "cluster.list", Viewer, Cluster;
    /// A new cluster.
    ClusterCreate: "cluster.create", SecurityOfficer, Installation;
    /// One cluster.
    ClusterShow: "cluster.show", Viewer, Cluster;
    /// A cluster's whole definition.
    ClusterUpdate: "cluster.update", SecurityOfficer, Cluster;
    /// A cluster goes.
    ClusterDelete: "cluster.delete", SecurityOfficer, Installation;
    /// A cluster's token issuers.
    TokenIssuerList: "token-issuer.list", Viewer, Cluster;
    /// A token issuer, new or changed: whom the cluster's callers are proven by.
    TokenIssuerSet: "token-issuer.set", SecurityOfficer, Cluster;
    /// A token issuer goes.
    TokenIssuerRemove: "token-issuer.remove", Operator, Cluster;
    /// A cluster's policy.
    PolicyShow: "policy.show", Viewer, Cluster;
    /// Another policy. What gives more than before takes a security officer.
    PolicySet: "policy.set", Operator, Cluster;
    /// What a policy would decide.
    PolicyDryRun: "policy.dry-run", Viewer, Cluster;
    /// What another policy would have decided.
    PolicyReplay: "policy.replay", Viewer, Cluster;

    /// The authorities.
    AuthorityList: "authority.list", Viewer, Cluster;
    /// A new authority's key and request.
    AuthorityRequest: "authority.request", Operator, Cluster;
    /// One authority.
    AuthorityShow: "authority.show", Viewer, Cluster;
    /// An authority's request, to be carried to who signs it.
    AuthorityRequestShow: "authority.request.show", Viewer, Cluster;
    /// An authority's certificate and those above it.
    AuthorityChainShow: "authority.chain.show", Viewer, Cluster;
    /// A signed authority comes back.
    AuthorityImport: "authority.import", SecurityOfficer, Cluster;
    /// The fleet's authority signs a requested one, which comes in at once.
    AuthoritySign: "authority.sign", SecurityOfficer, Installation;
    /// An authority comes into everyone's bundles.
    AuthorityPublish: "authority.publish", Operator, Cluster;
    /// An authority begins to sign.
    AuthorityActivate: "authority.activate", Operator, Cluster;
    /// A request is given up.
    AuthorityAbandon: "authority.abandon", Operator, Cluster;
    /// An authority that never signed goes.
    AuthorityRetire: "authority.retire", Operator, Cluster;
    /// An authority and all that it issued are revoked.
    AuthorityRevoke: "authority.revoke", SecurityOfficer, Cluster;

    /// The certificates on record.
    CertificateList: "certificate.list", Viewer, Cluster;
    /// A certificate for a request.
    CertificateSign: "certificate.sign", Operator, Cluster;
    /// One certificate.
    CertificateShow: "certificate.show", Viewer, Cluster;
    /// A certificate is revoked.
    CertificateRevoke: "certificate.revoke", Operator, Cluster;
    /// A certificate is put on hold.
    CertificateHold: "certificate.hold", Operator, Cluster;
    /// A hold is lifted.
    CertificateLift: "certificate.lift", Operator, Cluster;
    /// Many certificates are revoked, put on hold, or released.
    RevocationCreate: "revocation.create", Operator, Cluster;

    /// The enrolments.
    EnrolmentList: "enrolment.list", Viewer, Cluster;
    /// A new enrolment token.
    EnrolmentCreate: "enrolment.create", Operator, Cluster;
    /// One enrolment.
    EnrolmentShow: "enrolment.show", Viewer, Cluster;
    /// An enrolment is withdrawn.
    EnrolmentRevoke: "enrolment.revoke", Operator, Cluster;

    /// The CRLs.
    CrlList: "crl.list", Viewer, Cluster;
    /// One authority's CRL.
    CrlShow: "crl.show", Viewer, Cluster;
    /// An offline CA's CRL comes back.
    RootCrlImport: "root-crl.import", SecurityOfficer, Installation;
    /// What the ceremony of an offline CA's next CRL needs.
    RootCrlRequest: "root-crl.request", Viewer, Installation;
    /// The bundles.
    BundleList: "bundle.list", Viewer, Cluster;
    /// One bundle.
    BundleShow: "bundle.show", Viewer, Cluster;
    /// A root goes out of a bundle.
    RootRemove: "root.remove", SecurityOfficer, Installation;

    /// The audit trail.
    AuditList: "audit.list", Viewer, Installation;
    /// How far each chain of the audit trail has come.
    AuditHeads: "audit.heads", Viewer, Installation;

    /// The role bindings.
    RoleList: "role.list", Viewer, Installation;
    /// A role is given.
    RoleBind: "role.bind", SecurityOfficer, Installation;
    /// One role binding.
    RoleShow: "role.show", Viewer, Installation;
    /// A role is taken.
    RoleUnbind: "role.unbind", SecurityOfficer, Installation;

    /// What waits for a second person, and what became of it.
    ProposalList: "proposal.list", Viewer, Cluster;
    /// One proposal.
    ProposalShow: "proposal.show", Viewer, Cluster;
    /// The second person agrees: the act is carried out.
    ProposalApprove: "proposal.approve", SecurityOfficer, Cluster;
    /// Somebody disagrees.
    ProposalReject: "proposal.reject", SecurityOfficer, Cluster;
    /// Who proposed takes it back.
    ProposalWithdraw: "proposal.withdraw", Operator, Cluster;

    /// The clock is believed again.
    ClockAccept: "clock.accept", SecurityOfficer, Installation;
}
