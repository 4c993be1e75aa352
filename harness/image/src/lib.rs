//! Makes container images without an image registry: a root file system of Debian packages, programs of the component
//! store on top, written as docker archives (`docker load`, `kind load image-archive`).
//!
//! What is made lies in the component cache under a hash over all that goes into it, so it is made once. This crate
//! never runs a container and never talks to Docker; the one daemon it starts is a containerd of its own, for the images
//! that a node image brings along. Needs root: package scripts run in a chroot.
//!
//! Start at [`Images::ensure`]; what is in which image is in [`cluster`] and [`node`].

mod archive;
mod cluster;
mod containerd;
mod debian;
mod error;
mod layer;
mod node;
mod own;
mod progress;
mod set;

pub use cluster::{CLIENT, DNS, HUB, SERVER};
pub use debian::Root;
pub use error::Error;
pub use own::OwnPrograms;
pub use progress::{ImageEvent, ImageProgress, Silent};
pub use set::{Archive, Images, Made, PROGRAMS};
