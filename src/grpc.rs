//! gRPC.

pub mod proto;
