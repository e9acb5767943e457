//! Plain and administrative HTTP: what anyone may read, what the platform asks, and the administration API.

pub mod api;
pub mod ops;
pub mod public;
pub mod standby;
