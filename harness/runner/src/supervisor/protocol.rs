//! The language between a supervisor and its clients: JSON messages, each behind a four-byte length, over one Unix
//! socket per client. The socket is also the client's sign of life.
//!
//! Plain data; nothing here acts. `Down` and `Ended` keep their form from build to build, so that `down` can end the mesh
//! of another one. Start at [`ToSupervisor`] and [`ToClient`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use egress_core::scenario::{Locks, World};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;
use tokio_util::codec::LengthDelimitedCodec;

use crate::cluster::EnvironmentError;
use crate::cluster::kind::KindStart;
use crate::cluster::objects::Applied;
use crate::cluster::sandbox::SandboxStart;
use crate::cluster::workload::PodFacts;
use crate::mesh::Installed;
use crate::schedule::world::World as Deployed;

/// Until when a client wants the mesh to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// As long as the client.
    Run,
    /// A while longer: another test may come.
    Test,
    /// Until `down`.
    Keep,
}

/// With what a supervisor starts: what it reads first of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// What it makes the cluster of.
    pub cluster: ClusterStart,
    /// The program that installs Istio.
    pub istioctl: PathBuf,
    /// The profile that comes up first.
    pub profile: String,
    /// How long each step may take.
    pub timeout: Duration,
    /// The folder of snapshots, if they may be read and written.
    pub snapshots: Option<PathBuf>,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ClusterStart {
    /// A sandbox.
    Sandbox(SandboxStart),
    /// A kind cluster.
    Kind(KindStart),
}

/// What a client says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSupervisor {
    /// First of all.
    Hello(Purpose),
    /// These external servers are wanted as long as this client is here.
    World(World),
    /// A lease is wanted, all or nothing.
    Lease(Wanted),
    /// The lease is over: what was applied, and how many requests the slot's clients have sent.
    Release { live: Vec<Applied>, probes: u32 },
    /// The client goes, and wants to know how the mesh ended if it ends.
    Leave,
    /// The mesh is to end. Not `by_force`: only if nobody else uses it.
    Down { by_force: bool },
}

/// What a lease is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The profile that must be in force.
    pub profile: String,
    /// The whole mesh, or one slot of it.
    pub whole: bool,
    /// What nobody else may hold meanwhile.
    pub locks: Locks,
    /// Whether what it applies carries no label, since others' commands apply it: whatever was not there before goes when
    /// the lease is over, and what Istio's installation has become is put back.
    pub unlabelled: bool,
    /// Further namespaces, by the names that the scenario has for them.
    pub namespaces: BTreeSet<String>,
    /// External servers whose behaviour may be changed under the lease; they are as from the start when it is over.
    pub servers: BTreeSet<String>,
    /// How many slots there may be.
    pub most_slots: usize,
}

/// What a supervisor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ToClient {
    /// Something for people to see.
    Progress(News),
    /// The mesh is up.
    Welcome(Box<Welcome>),
    /// The external servers are in force.
    World(Box<Deployed>),
    /// The lease is granted.
    Granted(Box<Grant>),
    /// A component died while the lease was held: what it is used for is in vain.
    Broken(String),
    /// Everything of the lease is gone.
    Released(Aftermath),
    /// What was asked for cannot be had: the environment is not fit.
    Failed { message: String, remedy: Option<String> },
    /// The last word: whether the mesh goes on, for others or until `down`, and what was not in order if it ended.
    Ended {
        stays: bool,
        #[serde(default)]
        kept: bool,
        problem: Option<String>,
    },
}

/// Something for people to see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum News {
    Working(String),
    Phase(String, Duration),
    Line(String),
}

/// What becomes of a mesh that a client has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has ended, and nothing is left.
    Ended,
    /// Others use it, or may come soon.
    Shared,
    /// It stays until `down`.
    Kept,
}

/// What every client needs to know of a mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// `sandbox`, `kind` or `existing`.
    pub kind: String,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The folder of the components' logs.
    pub logs: PathBuf,
    /// The label of the harness's own objects.
    pub run: String,
    /// What is installed at this moment.
    pub installed: Installed,
    /// The namespace of the first slot, for people.
    pub namespace: String,
    /// What the cluster can do.
    pub capabilities: Vec<String>,
    /// Where the external servers are controlled, as `unix:PATH` or `tcp:ADDRESS:PORT`.
    pub servers: String,
    /// IstioOperator files that an installation on this cluster needs beside its own ([`crate::embedded::text`]).
    pub overlays: Vec<String>,
}

/// A lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// Labels its objects.
    pub lease: String,
    /// The slot's namespace.
    pub namespace: String,
    /// Its further namespaces, by the names that the scenario has for them.
    pub namespaces: BTreeMap<String, String>,
    /// The slot's clients.
    pub clients: Vec<PodFacts>,
    /// How many requests they have sent before.
    pub probes: u32,
    /// What is installed.
    pub installed: Installed,
}

/// What became of the mesh while a lease was held.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Aftermath {
    /// A part of the mesh was disturbed: what the lease saw may say nothing about the mesh.
    pub disturbed: Option<String>,
    /// The mesh is of no more use: a component died, or something was left.
    pub spoiled: Option<String>,
}

impl From<EnvironmentError> for ToClient {
    fn from(error: EnvironmentError) -> Self {
        Self::Failed { message: error.message, remedy: error.remedy }
    }
}

/// Longest message, in bytes: a world or a list of objects is far smaller.
const LONGEST: usize = 64 << 20;

pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(LONGEST).new_codec()
}

pub(super) fn encode<T: Serialize>(message: &T) -> Bytes {
    serde_json::to_vec(message).expect("messages are plain data with string keys").into()
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `down` speaks to supervisors of other builds.
    #[test]
    fn the_words_of_down_keep_their_form() {
        let said = encode(&ToSupervisor::Down { by_force: true });
        assert_eq!(std::str::from_utf8(&said), Ok(r#"{"Down":{"by_force":true}}"#));
        let answer: ToClient = decode(br#"{"Ended":{"stays":false,"problem":null}}"#).expect("the last word");
        assert!(matches!(answer, ToClient::Ended { stays: false, kept: false, problem: None }));
    }
}
