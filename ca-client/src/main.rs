//! The program `ca`: enrol, renew, inspect, follow the roots.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    ca_client::install_crypto_provider();
    cli::run(cli::Arguments::parse())
}
