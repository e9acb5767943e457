//! Plain and administrative HTTP: what anyone may read, what the platform asks, and the server's status.

pub mod admin;
pub mod ops;
pub mod public;
pub mod standby;
