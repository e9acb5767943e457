//! Compiles the contracts without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    // What others promise is not held to what we promise.
    println!("cargo::rerun-if-changed=restated");
    let contracts = [
        "ca/v1/ca.proto",
        "istio/v1/auth/ca.proto",
        "opentelemetry/logs.proto",
    ];
    let files = protox::compile(contracts, ["proto", "restated"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_fds(files)?;
    Ok(())
}
