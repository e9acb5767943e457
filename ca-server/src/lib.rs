//! Signet's online certificate authority.
//!
//! `grpc`, `http` → [`app`] → {`pki`, [`store`], signing}: transports translate, [`app`] holds the use cases, [`store`] is
//! the only SQL. [`cli::run`] is the program.

pub mod app;
pub mod authn;
pub mod cli;
pub mod clock;
pub mod config;
pub mod embedded;
pub mod entropy;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod serve;
pub mod server;
pub mod store;
pub mod tasks;
