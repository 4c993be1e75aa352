//! The process that plays the external servers, in the outside namespace: this program again,
//! which steps into that namespace and then is `external-server`. Start at [`spec`].

use std::ffi::OsString;
use std::path::Path;

use crate::component::Spec;
use crate::network;

/// Hidden first argument of that process.
pub(crate) const WORLD: &str = "__egress-sandbox-world";

/// How to run it, with its control socket at `socket`.
pub(crate) fn spec(namespace: &Path, socket: &Path) -> Spec {
    Spec {
        name: "external-server",
        program: "/proc/self/exe".into(),
        arguments: vec![
            WORLD.to_owned(),
            namespace.display().to_string(),
            "--control".to_owned(),
            format!("unix:{}", socket.display()),
        ],
    }
}

/// That process. `arguments` are those behind [`WORLD`]: the namespace, then the server's own.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> ! {
    let namespace = arguments.next().unwrap_or_default();
    if let Err(error) = network::enter_namespace(Path::new(&namespace)) {
        eprintln!("cannot enter the outside namespace {}: {error}", Path::new(&namespace).display());
        std::process::exit(1);
    }
    let code = external_server::main_from_args(arguments);
    // `ExitCode` has no way to tell its number; returning it from `main` is not possible here.
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 })
}
