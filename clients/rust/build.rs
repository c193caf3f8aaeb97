//! Generates the client from the contract, without an installed protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto/heedwell");
    let contract = protox::compile(["heedwell/v1/notify_service.proto"], ["../../proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(contract)?;
    Ok(())
}
