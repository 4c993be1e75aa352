//! The command `egress-conformance`. Everything is in the library; this file only lets a re-executed copy of the
//! program become a supervisor or a part of the sandbox before anything else happens.

use std::process::ExitCode;

fn main() -> ExitCode {
    egress_conformance::run_if_child();
    egress_conformance::cli::main()
}
