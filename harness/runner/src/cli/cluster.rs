//! `--cluster`: which kind of cluster a command uses.

use egress_core::scenario::ClusterKind;

#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct ClusterArguments {
    /// The kind of cluster
    #[arg(long, value_enum, default_value_t, env = "EGRESS_CLUSTER")]
    cluster: Choice,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Choice {
    /// Kubernetes without containers, on this machine
    #[default]
    Sandbox,
    /// kind in a Docker engine of its own, with images made here; needs root
    Kind,
}

impl ClusterArguments {
    /// The kind.
    pub(crate) fn kind(self) -> ClusterKind {
        match self.cluster {
            Choice::Sandbox => ClusterKind::Sandbox,
            Choice::Kind => ClusterKind::Kind,
        }
    }
}
