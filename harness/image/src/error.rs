//! What can go wrong, each with what was expected, what was seen and what to do. Start at [`Error`].

use std::io;
use std::path::{Path, PathBuf};

use egress_component::ToolFailure;
use miette::Diagnostic;
use thiserror::Error;

/// Why an image cannot be made.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A component is missing or cannot be built.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Component(Box<egress_component::Error>),
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
    /// A program that the machine must have is not on `PATH`.
    #[error("{program} is needed to {purpose}, and is not on PATH")]
    #[diagnostic(help("{help}"))]
    NoProgram {
        /// Its name.
        program: String,
        /// What for.
        purpose: &'static str,
        /// What to do.
        help: String,
    },
    /// A tool failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tool(#[from] ToolFailure),
    /// Images are made by root only.
    #[error("making images needs root: the package scripts of Debian run in a chroot; this user's id is {uid}")]
    #[diagnostic(help("run it as root"))]
    NotRoot {
        /// The effective user id.
        uid: u32,
    },
    /// One of this project's own programs, which an image contains, cannot be had.
    #[error("there is no static {program}: {why}")]
    #[diagnostic(help(
        "give one with {variable}=PATH, built with `RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile image -p {program} --target {target}`"
    ))]
    Own {
        /// Its name.
        program: &'static str,
        /// What was looked at, and what was found.
        why: String,
        /// The environment variable that gives it.
        variable: &'static str,
        /// The target triple.
        target: &'static str,
    },
    /// A tool's answer is not what it should be.
    #[error("{what}: expected {expected}, got {seen}")]
    Answer {
        /// What was asked.
        what: String,
        /// What was expected.
        expected: String,
        /// What came.
        seen: String,
    },
}

impl From<egress_component::Error> for Error {
    fn from(error: egress_component::Error) -> Self {
        Self::Component(Box::new(error))
    }
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
