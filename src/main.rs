//! The program `ifr`: runs the command line of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ifr::cli::run()
}
