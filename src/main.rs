//! Arguments to command, and the command's outcome to an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    hushgate::cli::run()
}
