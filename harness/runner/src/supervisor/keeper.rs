//! What a supervisor does: it owns the mesh, keeps the leases, and lets each client in when its turn has come.
//!
//! One message after another changes its state; whatever takes time runs as a task that reports back as a message. It
//! decides nothing about turns ([`super::grants`]) or about the mesh's life ([`super::life`]). Start at [`Keeper::take`].

mod changes;
mod leases;
mod outside;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use egress_core::scenario::World;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::bring_up::{self, Reporter};
use super::grants::{Board, Id, Next};
use super::home::Home;
use super::life::{Life, Verdict};
use super::protocol::{Aftermath, News, Start, ToClient, ToSupervisor, Wanted, Welcome};
use crate::cluster::EnvironmentError;
use crate::mesh::slot::Slot;
use crate::mesh::{Installed, Mesh};
use crate::schedule::world;

/// How many requests a client that died may have sent beyond those that it told of.
const UNTOLD_PROBES: u32 = 100;

/// Something that the keeper learns.
pub(super) enum Input {
    /// A client has connected.
    Joined(Id, UnboundedSender<ToClient>),
    /// A client says something.
    Said(Id, ToSupervisor),
    /// A client is gone.
    Left(Id),
    /// Somebody wants this process to end.
    Terminate,
    /// News of the mesh's start.
    News(News),
    /// The start is over.
    Up(Box<Result<(Mesh, Installed, Slot), EnvironmentError>>),
    /// The external servers of a client are in force, or not.
    Deployed(Id, World, Result<world::World, EnvironmentError>),
    /// A component of the mesh has died.
    Broke(String),
    /// A slot is ready to be leased, or the mesh is found broken.
    Prepared(Id, Box<Result<Held, EnvironmentError>>),
    /// A lease has been cleaned up after.
    Cleaned(Id, Box<(Slot, Installed, Aftermath)>),
    /// A slot has been added.
    Added(Box<Result<Slot, EnvironmentError>>),
    /// Another profile is in force.
    Switched(Duration, Box<Result<(Installed, Vec<Slot>), EnvironmentError>>),
    /// Nobody has come for a while, since this many events.
    Idle(u64),
}

struct Member {
    to: UnboundedSender<ToClient>,
    /// The external servers that it wants.
    world: Option<World>,
    /// It has said goodbye and waits for the last word.
    leaves: bool,
}

/// A lease that is held, with what was there before.
pub(super) struct Held {
    slot: Slot,
    lease: String,
    wanted: Wanted,
    standing: BTreeMap<String, String>,
    before: Arc<BTreeSet<String>>,
}

enum Lease {
    Preparing { client_left: bool },
    Held(Box<Held>),
    Cleaning,
}

/// The mesh, once it is up.
struct Up {
    mesh: Arc<Mesh>,
    installed: Installed,
    board: Board,
    free: Vec<Slot>,
    /// The namespace of the first slot.
    namespace: String,
    /// What the cluster holds while nobody holds a lease, as far as it is known.
    before: Option<Arc<BTreeSet<String>>>,
    world: Option<(World, world::World)>,
    deploying: bool,
}

/// The supervisor's state.
pub(super) struct Keeper {
    home: Home,
    inputs: UnboundedSender<Input>,
    members: BTreeMap<Id, Member>,
    life: Life,
    /// What was said so far, for those who come while the mesh starts.
    news: Vec<News>,
    up: Option<Up>,
    broken: Option<EnvironmentError>,
    leases: BTreeMap<Id, Lease>,
    worlds_waiting: VecDeque<Id>,
    tasks: JoinSet<()>,
    /// The start of the mesh, and what breaks it off.
    start: JoinHandle<()>,
    stop: CancellationToken,
    /// Counts what happens, so that an idle time that was broken off is known.
    events: u64,
}

impl Keeper {
    /// A keeper that begins to bring its mesh up.
    pub(super) fn new(home: Home, start: Start, inputs: UnboundedSender<Input>) -> Self {
        let stop = CancellationToken::new();
        let (told, reporter, stopped) = (inputs.clone(), Reporter(inputs.clone()), stop.clone());
        let bringing = async move {
            let up = bring_up::bring_up(start, reporter, stopped).await;
            drop(told.send(Input::Up(Box::new(up))));
        };
        Self {
            home,
            inputs,
            members: BTreeMap::new(),
            life: Life::default(),
            news: Vec::new(),
            up: None,
            broken: None,
            leases: BTreeMap::new(),
            worlds_waiting: VecDeque::new(),
            tasks: JoinSet::new(),
            start: tokio::spawn(bringing),
            stop,
            events: 0,
        }
    }

    /// Runs something that takes time; what it gives comes back as an input.
    fn work(&mut self, task: impl Future<Output = Input> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move { drop(inputs.send(task.await)) });
    }

    fn tell(&self, id: Id, message: impl Into<ToClient>) {
        if let Some(member) = self.members.get(&id) {
            // A client that is gone is told by its own input.
            let _ = member.to.send(message.into());
        }
    }

    /// Takes in one thing; breaks when the mesh has ended.
    pub(super) async fn take(&mut self, input: Input) -> ControlFlow<()> {
        self.events += 1;
        match input {
            Input::Joined(id, to) => {
                let _ = to.send(ToClient::Progress(News::Working("the mesh starts".into())));
                self.members.insert(id, Member { to, world: None, leaves: false });
                return ControlFlow::Continue(());
            }
            Input::News(news) => {
                self.members.keys().for_each(|id| self.tell(*id, ToClient::Progress(news.clone())));
                self.news.push(news);
            }
            Input::Said(id, message) => return self.said(id, message).await,
            Input::Left(id) => {
                self.members.remove(&id);
                self.end_lease(id, Vec::new(), UNTOLD_PROBES);
                self.worlds_waiting.retain(|waiting| *waiting != id);
                if let Some(up) = &mut self.up {
                    up.board.withdraw(id);
                }
            }
            Input::Terminate => return self.end(Some("its supervisor was told to end")).await,
            Input::Up(up) => self.came_up(*up),
            Input::Deployed(id, world, result) => self.deployed(id, world, result),
            Input::Broke(why) => {
                let held = self.leases.iter().filter(|(_, lease)| matches!(lease, Lease::Held(_)));
                held.for_each(|(id, _)| self.tell(*id, ToClient::Broken(why.clone())));
            }
            Input::Prepared(id, held) => self.prepared(id, *held),
            Input::Cleaned(id, cleaned) => self.cleaned(id, *cleaned),
            Input::Added(slot) => self.added(*slot),
            Input::Switched(took, switched) => self.switched(took, *switched),
            Input::Idle(events) if events + 1 == self.events && self.members.is_empty() => return self.end(None).await,
            Input::Idle(_) => {}
        }
        self.go_on();
        self.live_or_end().await
    }

    async fn said(&mut self, id: Id, message: ToSupervisor) -> ControlFlow<()> {
        match message {
            ToSupervisor::Hello(purpose) => {
                self.life.wanted(purpose);
                match (&self.broken, &self.up) {
                    (Some(broken), _) => self.tell(id, broken.clone()),
                    (None, Some(up)) => self.tell(id, up.welcome(&self.home)),
                    (None, None) => {
                        self.news.iter().for_each(|news| self.tell(id, ToClient::Progress(news.clone())));
                    }
                }
            }
            ToSupervisor::World(world) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.world = Some(world);
                    self.worlds_waiting.push_back(id);
                }
            }
            ToSupervisor::Lease(wanted) => {
                if let Some(broken) = &self.broken {
                    self.tell(id, broken.clone());
                } else if let Some(up) = &mut self.up {
                    up.board.allow_slots(wanted.most_slots);
                    up.board.ask(id, wanted);
                }
            }
            ToSupervisor::Release { live, probes } => self.end_lease(id, live, probes),
            ToSupervisor::Leave => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.leaves = true;
                }
            }
            ToSupervisor::Down { by_force } => {
                let others = self.members.iter().filter(|(other, m)| **other != id && !m.leaves).count();
                if others > 0 && !by_force {
                    let message = format!("{others} other clients use the mesh");
                    let remedy = "wait until they have ended, or end it all the same: `down --force`";
                    self.tell(id, EnvironmentError::new(message).with_remedy(remedy));
                } else {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.leaves = true;
                    }
                    return self.end(Some("it was ended by `down`")).await;
                }
            }
        }
        self.go_on();
        self.live_or_end().await
    }

    fn came_up(&mut self, up: Result<(Mesh, Installed, Slot), EnvironmentError>) {
        match up {
            Ok((mesh, installed, slot)) => {
                let up = Up {
                    mesh: Arc::new(mesh),
                    board: Board::new(installed.profile.clone()),
                    namespace: slot.namespace.clone(),
                    installed,
                    free: vec![slot],
                    before: None,
                    world: None,
                    deploying: false,
                };
                let welcome = up.welcome(&self.home);
                let mesh = Arc::clone(&up.mesh);
                self.work(async move { Input::Broke(mesh.broken().await) });
                self.up = Some(up);
                self.members.keys().for_each(|id| self.tell(*id, welcome.clone()));
            }
            Err(error) => self.break_down(error),
        }
    }

    /// The mesh is of no more use: whoever wants something of it is told so, and new clients start another.
    fn break_down(&mut self, error: EnvironmentError) {
        self.retire();
        self.members.keys().for_each(|id| self.tell(*id, error.clone()));
        self.broken.get_or_insert(error);
    }

    /// From now on clients that come start another.
    fn retire(&self) {
        let _ = std::fs::remove_file(self.home.socket());
    }

    /// Does what can be done now.
    fn go_on(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.deploy_next();
        while let Some(next) = self.up.as_mut().and_then(|up| up.board.next()) {
            match next {
                Next::Grant(id) => self.prepare(id),
                Next::AddSlot => self.add_slot(),
                Next::Switch(profile) => self.switch(profile),
            }
        }
    }

    async fn live_or_end(&mut self) -> ControlFlow<()> {
        if self.members.values().any(|m| !m.leaves) {
            // Others go on; those who leave need not wait.
            let last = ToClient::Ended { stays: true, kept: self.life.is_kept(), problem: None };
            self.members.values().filter(|m| m.leaves).for_each(|m| drop(m.to.send(last.clone())));
            return ControlFlow::Continue(());
        }
        match self.life.verdict(self.broken.is_some()) {
            Verdict::End => return self.end(None).await,
            Verdict::Stay => {}
            Verdict::EndAfter(time) if self.members.is_empty() => {
                let (inputs, events) = (self.inputs.clone(), self.events);
                self.tasks.spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = inputs.send(Input::Idle(events));
                });
            }
            Verdict::EndAfter(_) => {}
        }
        let last = ToClient::Ended { stays: true, kept: self.life.is_kept(), problem: None };
        self.members.values().for_each(|m| drop(m.to.send(last.clone())));
        ControlFlow::Continue(())
    }

    /// Ends the mesh, and tells everybody how that went. `why` is for those who still used it.
    async fn end(&mut self, why: Option<&str>) -> ControlFlow<()> {
        self.retire();
        // A start that is broken off ends what it has made, and no sooner.
        self.stop.cancel();
        let _ = (&mut self.start).await;
        self.tasks.shutdown().await;
        let mut problem = None;
        if let Some(up) = self.up.take() {
            let Up { mesh, free, .. } = up;
            drop(free);
            self.leases.clear();
            match Arc::into_inner(mesh) {
                Some(mesh) => problem = mesh.provider.stop().await.err().map(|e| e.message),
                None => problem = Some("the mesh was still in use by the supervisor itself".to_owned()),
            }
        }
        for member in self.members.values() {
            if !member.leaves
                && let Some(why) = why
            {
                let _ = member.to.send(EnvironmentError::new(format!("the mesh is gone: {why}")).into());
            }
            let _ = member.to.send(ToClient::Ended { stays: false, kept: false, problem: problem.clone() });
        }
        self.members.clear();
        ControlFlow::Break(())
    }
}

impl Up {
    fn welcome(&self, home: &Home) -> ToClient {
        let provider = &self.mesh.provider;
        ToClient::Welcome(Box::new(Welcome {
            kind: provider.kind().to_owned(),
            kubeconfig: provider.kubeconfig().to_owned(),
            logs: provider.logs().unwrap_or_else(|| home.path().to_owned()),
            run: self.mesh.objects.run().to_owned(),
            installed: self.installed.clone(),
            namespace: self.namespace.clone(),
            capabilities: provider.capabilities().iter().map(ToString::to_string).collect(),
            servers: provider.servers().control().to_string(),
            overlays: provider.overlays().iter().map(ToString::to_string).collect(),
        }))
    }
}
