//! The Docker that a cluster is made in: an engine of this process's own, or the machine's. Start at [`Docker`].

use std::path::{Path, PathBuf};

use egress_component::Host;
use egress_image::Archive;

use crate::door::Dialer;
use crate::engine::{Engine, Phases};
use crate::error::Error;
use crate::machine::Machine;

/// One of the two.
#[derive(Debug)]
pub enum Docker {
    /// Contained, and of this process.
    Own(Engine),
    /// The machine's.
    Machine(Machine),
}

impl Docker {
    /// The environment in which kind speaks to it.
    #[must_use]
    pub fn environment(&self) -> Host {
        match self {
            Self::Own(engine) => engine.environment().with("KIND_EXPERIMENTAL_PROVIDER", "docker"),
            Self::Machine(machine) => machine.environment(),
        }
    }

    /// Runs its command line with these arguments and gives the standard output.
    ///
    /// # Errors
    /// Where it fails, with its last lines.
    pub async fn run(&self, what: &str, args: &[&str]) -> Result<String, Error> {
        match self {
            Self::Own(engine) => engine.docker(what, args).await,
            Self::Machine(machine) => machine.docker(what, args).await,
        }
    }

    /// Its command-line program.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        match self {
            Self::Own(engine) => engine.docker_program(),
            Self::Machine(machine) => machine.found().program.clone(),
        }
    }

    /// Loads these archives into it.
    ///
    /// # Errors
    /// Where one is broken, or the disk is full.
    pub async fn load(&self, archives: &[&Archive]) -> Result<Phases, Error> {
        match self {
            Self::Own(engine) => engine.load(archives).await,
            Self::Machine(machine) => {
                let mut phases = Phases::new();
                for archive in archives {
                    phases.push(machine.load(&archive.path).await?);
                }
                Ok(phases)
            }
        }
    }

    /// A folder for files that live as long as this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Own(engine) => engine.folder(),
            Self::Machine(machine) => machine.folder(),
        }
    }

    /// The folder with the daemon's log, where it is ours to read.
    #[must_use]
    pub fn logs(&self) -> Option<PathBuf> {
        match self {
            Self::Own(engine) => Some(engine.run_folder()),
            Self::Machine(_) => None,
        }
    }

    /// Makes connections inside its network, where that is not the machine's.
    #[must_use]
    pub fn dialer(&self) -> Option<&Dialer> {
        match self {
            Self::Own(engine) => Some(engine.dialer()),
            Self::Machine(_) => None,
        }
    }

    /// Whether containers are in control groups of version 1.
    #[must_use]
    pub fn cgroup_v1(&self) -> bool {
        match self {
            Self::Own(_) => !Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            Self::Machine(machine) => machine.found().cgroup_v1,
        }
    }

    /// Ends everything that was made in it, and checks that nothing is left.
    ///
    /// # Errors
    /// What is left.
    pub async fn stop(self) -> Result<(), Error> {
        match self {
            Self::Own(engine) => engine.stop().await,
            Self::Machine(machine) => machine.stop().await,
        }
    }
}
