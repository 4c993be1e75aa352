//! What can go wrong, each with what was expected, what was seen and what to do. Start at [`Error`].

use std::io;
use std::path::{Path, PathBuf};

use egress_component::ToolFailure;
use miette::Diagnostic;
use thiserror::Error;

/// Why there is no engine, or no cluster in it.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The engine's programs cannot be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Image(#[from] egress_image::Error),
    /// Reading or writing failed.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Only root can make the engine's namespaces.
    #[error("a contained Docker engine needs root; this user's id is {uid}")]
    #[diagnostic(help(
        "run it as root, or use a Docker of your own (--docker host), or the sandbox (--cluster sandbox)"
    ))]
    NotRoot {
        /// The effective user id.
        uid: u32,
    },
    /// The daemon does not come up.
    #[error("the Docker engine did not start: {why}\n{tail}")]
    #[diagnostic(help("the lines above are the end of its log"))]
    Engine {
        /// What was seen instead.
        why: String,
        /// The last lines of its log.
        tail: String,
    },
    /// A tool failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tool(#[from] ToolFailure),
    /// A cluster of that name exists, and is not this process's.
    #[error("there is a kind cluster {name} already, which this run did not make")]
    #[diagnostic(help("choose another name, or remove it with `kind delete cluster --name {name}`"))]
    Taken {
        /// The name.
        name: String,
    },
    /// The kubeconfig that kind wrote is not as expected.
    #[error("the kubeconfig of cluster {name} has no server address of the form https://HOST:PORT")]
    Kubeconfig {
        /// The cluster.
        name: String,
    },
    /// Something is still there after everything was taken down.
    #[error("the engine is stopped, but this is left: {left}")]
    #[diagnostic(help("`egress-conformance sweep` tries again"))]
    Left {
        /// What.
        left: String,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
