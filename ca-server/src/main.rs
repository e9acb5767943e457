//! The program `ca-server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ca_server::cli::run()
}
