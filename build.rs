//! Compiles the contract in `proto/` without an installed protoc, and writes its descriptor set for reflection and a page for
//! people who read it.

#[path = "build/reference.rs"]
mod reference;

use std::{env, error::Error, fs, io, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/heedwell");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files =
        fs::read_dir("proto/heedwell/v1")?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    // Comments become rustdoc; reflection needs google/protobuf/* too.
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    let contract = compiler.file_descriptor_set();
    fs::write(out.join("reference.html"), reference::page(&contract))?;

    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .bytes(".")
        // A canonical request is the key of idempotency: a HashMap would encode its entries in random order.
        .btree_map(".")
        // Debug of a generated message prints patient data.
        .skip_debug(["."])
        .compile_fds(contract)?;
    Ok(())
}
