//! Makes the messages and the service of gRPC from `proto/inference.proto`.

use std::error::Error;

// How a build script speaks to Cargo.
#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["inference.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(false).build_transport(false).bytes(".").compile_fds(files)?;
    Ok(())
}
