//! Finds, builds, fetches and verifies the programs a sandbox runs, at pinned versions.
//!
//! A component is a program (or a file) pinned in `fixtures/components/`. It comes from a path that the user gives, from
//! an official container image, from its Go module, or from a Python wheel; what is made lies in a content-addressed cache, so it is made once.
//! This crate never starts a component, except to ask for its version, and never installs anything on the machine.
//!
//! Start at [`Store::ensure`].

mod cache;
mod command;
mod component;
mod disk;
mod error;
mod folder;
mod gomod;
mod hash;
mod host;
mod lock;
mod name;
mod overrides;
mod pins;
mod programs;
mod progress;
mod remedy;
mod report;
mod schema;
mod source;
mod store;
mod version;
mod versions;
mod wait;

pub use cache::{Cache, Record};
pub use command::{Ended, Tool, ToolFailure};
pub use component::{Component, Kind, SourceKind, platform};
pub use error::{Error, PinError};
pub use folder::Making;
pub use hash::Fields;
pub use host::Host;
pub use name::ProgramName;
pub use pins::{COMPONENTS_FILE, PinFiles, Pins};
pub use programs::{Program, Programs};
pub use progress::{Progress, ProgressEvent, Silent};
pub use report::{Origin, Status, Verification};
pub use store::Store;
pub use versions::{Family, Hub, Versions};
