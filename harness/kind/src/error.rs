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
        "run it as root, or use the machine's Docker (--engine machine), or the sandbox (--cluster sandbox)"
    ))]
    NotRoot {
        /// The effective user id.
        uid: u32,
    },
    /// Whoever wanted it does not want it any more.
    #[error("the start of the kind cluster was broken off")]
    BrokenOff,
    /// The daemon does not come up.
    #[error("the Docker engine did not start: {why}\n{tail}")]
    #[diagnostic(help("the lines above are the end of its log"))]
    Engine {
        /// What was seen instead.
        why: String,
        /// The last lines of its log.
        tail: String,
    },
    /// kind knows it, and the servers' container cannot be made with it.
    #[error("the servers' container needs the API of Docker or Podman, which {name} does not have")]
    #[diagnostic(help("set KIND_EXPERIMENTAL_PROVIDER to docker or podman, or leave it unset"))]
    Provider {
        /// What was asked for.
        name: String,
    },
    /// No command-line program.
    #[error("there is no program {provider} in the PATH")]
    #[diagnostic(help("install {provider}, or use an engine of our own (--engine own, as root), or the sandbox"))]
    NoProgram {
        /// `docker` or `podman`.
        provider: String,
    },
    /// The machine's daemon does not answer.
    #[error("this machine's {provider} does not answer: {why}")]
    #[diagnostic(help(
        "start it, join its group, or set DOCKER_HOST; or use an engine of our own (--engine own, as root), or the sandbox"
    ))]
    Unanswered {
        /// `docker` or `podman`.
        provider: String,
        /// What was seen.
        why: String,
    },
    /// The machine's daemon is too old for kind.
    #[error("this machine's {provider} is of version {version}; kind needs {oldest} or newer")]
    #[diagnostic(help("update it, or use an engine of our own (--engine own, as root)"))]
    Old {
        /// `docker` or `podman`.
        provider: String,
        /// Its version.
        version: String,
        /// The oldest major version.
        oldest: u64,
    },
    /// The disk is too full for a node.
    #[error("there is too little space in {}: {free_mib} MiB free, {needed_mib} needed for a node", .folder.display())]
    #[diagnostic(help(
        "make room there (`docker system df` shows what images take), or move the cache (XDG_CACHE_HOME)"
    ))]
    Space {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed.
        needed_mib: u64,
    },
    /// The external servers' container does not come up, or is gone.
    #[error("the external servers' container: {why}")]
    Servers {
        /// What was seen.
        why: String,
    },
    /// The DNS server does not come up.
    #[error("{why}\nits log says: {said}")]
    Dns {
        /// What was waited for.
        why: String,
        /// The last lines of its log.
        said: String,
    },
    /// A node that does not become ready.
    #[error("the node was not ready within {seconds} s: {seen}")]
    #[diagnostic(help("is its image one for kind, and of this architecture? --timeout gives it longer"))]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// What was seen last.
        seen: String,
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
    #[error("the cluster has ended, but this is left: {left}")]
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
