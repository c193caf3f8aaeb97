//! The generated code of the contract. Its types never leave this room.

#![expect(missing_debug_implementations, reason = "Debug of a message would print patient data")]
#![allow(unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated")]

tonic::include_proto!("heedwell.v1");

/// The descriptor set, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
