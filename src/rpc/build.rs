//! Compiles the two proto files without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::var("CARGO_MANIFEST_DIR")?;
    let files = protox::compile(["medusa.proto", "stheno.proto"], [dir.as_str()])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo:rerun-if-changed=medusa.proto");
    println!("cargo:rerun-if-changed=stheno.proto");
    Ok(())
}
