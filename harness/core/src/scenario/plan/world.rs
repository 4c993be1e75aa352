//! The outside world of a run: the external servers that its scenarios declare, merged, and their addresses.
//!
//! Equal declarations are one server; declarations that contradict each other are errors that name both files.
//! Start at [`World`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::scenario::model::{Scenario, ScenarioId};
use crate::scenario::schema::{DestinationSpec, NameSpec};

/// The external servers and names of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// The external servers by name.
    pub destinations: BTreeMap<String, WorldDestination>,
    /// Further DNS names.
    pub names: BTreeMap<String, NameSpec>,
    /// Public addresses that are written in a tutorial, and whose they are there.
    #[serde(default)]
    pub fixed: BTreeMap<Ipv4Addr, String>,
    /// Whether the servers stand for public ones, whose certificates pods trust as they trust any web site's.
    #[serde(default)]
    pub public: bool,
}

/// One external server of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldDestination {
    /// What it is.
    pub spec: DestinationSpec,
    /// Who declares it.
    pub declared_by: Vec<ScenarioId>,
}

/// The addresses of the external servers of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// By destination, in order: `${NAME.address}` is the first.
    pub destinations: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl World {
    /// Merges what these scenarios declare; contradictions become errors.
    pub(super) fn merge(scenarios: &[Arc<Scenario>], errors: &mut Vec<PlanError>) -> Self {
        let mut merge = Merge { world: Self::default(), seen: BTreeMap::new(), errors };
        for scenario in scenarios {
            merge.add(scenario);
        }
        merge.world.check(scenarios, merge.errors);
        merge.world
    }

    /// Whether everything that `other` has is here too, declared alike: then whoever wants `other` can use this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let same =
            |(name, d): (&String, &WorldDestination)| self.destinations.get(name).is_some_and(|o| o.spec == d.spec);
        let alike = (&self.fixed, self.public) == (&other.fixed, other.public);
        alike
            && other.destinations.iter().all(same)
            && other.names.iter().all(|(name, spec)| self.names.get(name) == Some(spec))
    }

    /// Gives every external server its addresses, in the order of the pool; those that stand `beside` another share.
    ///
    /// # Errors
    /// [`PlanError`]: the pool has fewer addresses than the world needs.
    pub fn assign(&self, pool: impl IntoIterator<Item = Ipv4Addr>) -> Result<Addresses, PlanError> {
        let mut pool = pool.into_iter();
        let mut given = Addresses::default();
        for (name, destination) in self.destinations.iter().filter(|(_, d)| d.spec.beside.is_none()) {
            let wanted = usize::from(destination.spec.addresses);
            let addresses: Vec<_> = pool.by_ref().take(wanted).collect();
            if addresses.len() < wanted {
                let needed = self.addresses_needed();
                return Err(PlanError {
                    message: format!("the external servers need {needed} addresses, and the cluster has fewer"),
                    help: Some("run fewer scenarios at a time".into()),
                });
            }
            given.destinations.insert(name.clone(), addresses);
        }
        for (name, destination) in &self.destinations {
            if let Some(shared) = destination.spec.beside.as_ref().and_then(|other| given.destinations.get(other)) {
                given.destinations.insert(name.clone(), shared.clone());
            }
        }
        for (address, machine) in &self.fixed {
            let there = self.destinations.keys().filter(|name| self.machine(name) == machine);
            for name in there {
                given.destinations.entry(name.clone()).or_default().push(*address);
            }
        }
        Ok(given)
    }

    /// How many addresses [`World::assign`] takes from its pool.
    #[must_use]
    pub fn addresses_needed(&self) -> usize {
        self.destinations.values().filter(|d| d.spec.beside.is_none()).map(|d| usize::from(d.spec.addresses)).sum()
    }

    /// Every DNS name of this world and what it leads to; an empty list is a name that does not exist.
    #[must_use]
    pub fn dns(&self, addresses: &Addresses, unused: Ipv4Addr) -> BTreeMap<String, Vec<Ipv4Addr>> {
        let mut names: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
        for (name, spec) in &self.names {
            let leads_to = match spec {
                NameSpec::Unused => vec![unused],
                NameSpec::Nxdomain => Vec::new(),
            };
            names.insert(name.clone(), leads_to);
        }
        for (name, destination) in &self.destinations {
            let own = addresses.destinations.get(name).cloned().unwrap_or_default();
            let own: Vec<_> = own.into_iter().filter(|address| !self.fixed.contains_key(address)).collect();
            for host in &destination.spec.hosts {
                names.insert(host.clone(), own.clone());
            }
        }
        names
    }

    /// The machine that a destination lives on: itself, or the one that it stands beside.
    fn machine<'a>(&'a self, name: &'a str) -> &'a str {
        self.destinations.get(name).and_then(|d| d.spec.beside.as_deref()).unwrap_or(name)
    }

    /// What only the merged world shows: one host on two machines, one socket for two servers.
    fn check(&self, scenarios: &[Arc<Scenario>], errors: &mut Vec<PlanError>) {
        let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
        let mut sockets: BTreeMap<(&str, u16), &str> = BTreeMap::new();
        for (name, destination) in &self.destinations {
            let machine = self.machine(name);
            for host in &destination.spec.hosts {
                let first = *hosts.entry(host).or_insert(name);
                if self.machine(first) != machine {
                    let message = format!("host `{host}` is declared differently");
                    errors.push(self.conflict(&message, first, name, scenarios));
                }
                if self.names.contains_key(host) {
                    errors.push(PlanError {
                        message: format!(
                            "`{host}` is a host of `{name}` ({}) and among the `names` of another scenario",
                            place(scenarios, &destination.declared_by[0], &format!("/destinations/{name}"))
                        ),
                        help: Some("run these scenarios apart".into()),
                    });
                }
            }
            let first = *sockets.entry((machine, destination.spec.port)).or_insert(name);
            if first != name {
                let message = format!("port {} of one machine is declared twice", destination.spec.port);
                errors.push(self.conflict(&message, first, name, scenarios));
            }
        }
    }

    fn conflict(&self, message: &str, first: &str, second: &str, scenarios: &[Arc<Scenario>]) -> PlanError {
        let at =
            |name: &str| place(scenarios, &self.destinations[name].declared_by[0], &format!("/destinations/{name}"));
        PlanError {
            message: format!("{message}: as `{first}` in {}, as `{second}` in {}", at(first), at(second)),
            help: Some("declare it alike in both, or run them apart".into()),
        }
    }
}

struct Merge<'a> {
    world: World,
    seen: BTreeMap<String, Arc<Scenario>>,
    errors: &'a mut Vec<PlanError>,
}

impl Merge<'_> {
    fn add(&mut self, scenario: &Arc<Scenario>) {
        for (name, spec) in &scenario.file.destinations {
            match self.world.destinations.get_mut(name) {
                None => {
                    let declared_by = vec![scenario.id.clone()];
                    self.world.destinations.insert(name.clone(), WorldDestination { spec: spec.clone(), declared_by });
                    self.seen.insert(format!("/destinations/{name}"), Arc::clone(scenario));
                }
                Some(known) if known.spec == *spec => known.declared_by.push(scenario.id.clone()),
                Some(_) => self.differs(scenario, "destination", "destinations", name),
            }
        }
        for (name, spec) in &scenario.file.names {
            match self.world.names.get(name) {
                None => {
                    self.world.names.insert(name.clone(), spec.clone());
                    self.seen.insert(format!("/names/{name}"), Arc::clone(scenario));
                }
                Some(known) if known == spec => {}
                Some(_) => self.differs(scenario, "name", "names", name),
            }
        }
    }

    fn differs(&mut self, scenario: &Scenario, what: &str, key: &str, name: &str) {
        let pointer = format!("/{key}/{name}");
        let first = self.seen.get(&pointer).map(|s| written(s, &pointer)).unwrap_or_default();
        self.errors.push(PlanError {
            message: format!(
                "{what} `{name}` is declared differently in {first} and in {}",
                written(scenario, &pointer)
            ),
            help: Some("declare it alike in both, give one another name and host, or run them apart".into()),
        });
    }
}

fn place(scenarios: &[Arc<Scenario>], id: &ScenarioId, pointer: &str) -> String {
    scenarios.iter().find(|s| s.id == *id).map_or_else(|| id.to_string(), |s| written(s, pointer))
}

fn written(scenario: &Scenario, pointer: &str) -> String {
    match scenario.positions.get(pointer) {
        Some(position) => format!("{}:{}", scenario.source.display(), position.line),
        None => scenario.source.display().to_string(),
    }
}

impl Addresses {
    /// The addresses as variables want them.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, Vec<IpAddr>> {
        self.destinations.iter().map(|(n, a)| (n.clone(), a.iter().copied().map(IpAddr::V4).collect())).collect()
    }
}
