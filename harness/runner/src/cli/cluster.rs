//! `--cluster`: which kind of cluster a command uses.

use egress_core::scenario::{Capability, ClusterKind};

use super::{Failure, usage};
use crate::cluster::MADE_HERE;
use crate::cluster::kind::KindChoice;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ClusterArguments {
    /// The kind of cluster
    #[arg(long, value_enum, default_value_t, env = "EGRESS_CLUSTER")]
    cluster: Choice,
    #[command(flatten)]
    kind: KindChoice,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Choice {
    /// Kubernetes without containers, on this machine
    #[default]
    Sandbox,
    /// kind, with its node and the external servers as containers
    Kind,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) cluster: ClusterKind,
    pub(crate) kind: KindChoice,
}

impl ClusterArguments {
    /// What is wanted.
    ///
    /// # Errors
    /// Where an option is of another kind of cluster.
    pub(crate) fn wanted(&self) -> Result<Wanted, Failure> {
        let cluster = match self.cluster {
            Choice::Sandbox => ClusterKind::Sandbox,
            Choice::Kind => ClusterKind::Kind,
        };
        match self.kind.said() {
            Some(option) if cluster != ClusterKind::Kind => {
                Err(usage(format!("{option} is for kind clusters: add --cluster kind, or leave it out")))
            }
            _ => Ok(Wanted { cluster, kind: self.kind.clone() }),
        }
    }
}

impl Wanted {
    /// What the cluster will be able to do.
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        match self.cluster {
            ClusterKind::Kind => self.kind.capabilities(),
            _ => MADE_HERE.into(),
        }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self { cluster: ClusterKind::Sandbox, kind: KindChoice::default() }
    }
}
