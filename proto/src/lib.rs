//! Generated code of the gRPC contracts that Signet speaks, and nothing else.
//!
//! The contracts themselves are the `.proto` files under `proto/proto/`.
#![allow(
    clippy::all,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// Signet's own contract.
pub mod ca {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("ca.v1");
    }
}

/// Istio's CA contract.
pub mod istio {
    /// Package `istio.v1.auth`.
    pub mod auth {
        tonic::include_proto!("istio.v1.auth");
    }
}

/// What of OTLP carries log records (package `opentelemetry.proto.collector.logs.v1`).
#[allow(missing_docs, reason = "OTLP's own words")]
pub mod otlp {
    tonic::include_proto!("opentelemetry.proto.collector.logs.v1");
}
