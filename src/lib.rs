//! Heedwell carries messages between medical practices and their patients.

pub mod auth;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod dispatch;
pub mod domain;
pub mod duties;
pub mod grpc;
pub mod http;
pub mod providers;
pub mod sandbox;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod wake;
