//! Compiles the .proto files with protox, so that building needs no `protoc`.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/journal.proto", "proto/raft.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&path, descriptors.encode_to_vec())?;
    tonic_build::configure()
        .file_descriptor_set_path(&path)
        .skip_protoc_run()
        .bytes(["."])
        .disable_comments(".")
        .compile_protos(&files, &["proto"])?;
    Ok(())
}
