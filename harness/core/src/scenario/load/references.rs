//! Names: whatever a scenario mentions must be declared somewhere.
//!
//! Start at [`check`] and [`variables_in`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::did_you_mean;
use super::error::Problem;
use super::node::{Node, Place, escape};
use crate::scenario::model::default_clients;
use crate::scenario::plan::Capability;
use crate::scenario::schema::{ClientSpec, DestinationSpec, ScenarioFile};
use crate::scenario::variable::{RESERVED, Variable, position_of, variables};

/// What a name must look like, in words.
pub(super) const LABEL: &str = "lower-case letters, digits and `-`, beginning and ending with a letter or digit";

/// How long the name of a further namespace may be: the cluster's name for it begins with that of the scenario's own.
const NAMESPACE: usize = 30;

/// Whether a name can be part of a DNS name, an object's name and a variable.
pub(super) fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Everything that a scenario can name.
pub(super) struct Names<'a> {
    pub(super) clients: BTreeMap<String, ClientSpec>,
    pub(super) destinations: &'a BTreeMap<String, DestinationSpec>,
    pub(super) manifests: BTreeSet<&'a str>,
    pub(super) namespaces: &'a [String],
    profiles: &'a [String],
}

impl<'a> Names<'a> {
    pub(super) fn of(
        file: &'a ScenarioFile,
        profiles: &'a [String],
        manifests: impl Iterator<Item = &'a String>,
    ) -> Self {
        Self {
            clients: file.clients.clone().unwrap_or_else(default_clients),
            destinations: &file.destinations,
            manifests: manifests.map(String::as_str).collect(),
            namespaces: &file.namespaces,
            profiles,
        }
    }

    pub(super) fn destination(&self, name: &str) -> Result<(), (String, Option<String>)> {
        if self.destinations.contains_key(name) {
            return Ok(());
        }
        let help = did_you_mean(name, self.destinations.keys().map(String::as_str))
            .or_else(|| Some("declare it under `destinations`".to_owned()));
        Err((format!("`{name}` is no destination of this scenario"), help))
    }

    pub(super) fn namespace(&self, name: &str) -> Result<(), (String, Option<String>)> {
        if self.namespaces.iter().any(|known| known == name) {
            return Ok(());
        }
        let help = did_you_mean(name, self.namespaces.iter().map(String::as_str))
            .or_else(|| Some("declare it under `namespaces`".to_owned()));
        Err((format!("`{name}` is no namespace of this scenario"), help))
    }

    /// What `upstream` may be: a destination, the gateway, or an address.
    pub(super) fn upstream(&self, word: &str) -> Result<(), (String, Option<String>)> {
        let address = word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok() || word.contains("${");
        if address || word == "gateway" || word == "absent" { Ok(()) } else { self.destination(word) }
    }

    fn variable(&self, variable: &Variable) -> Result<(), (String, Option<String>)> {
        let (name, n) = match variable {
            Variable::Address(name, n) => (name, n),
            Variable::OtherNamespace(name) => return self.namespace(name),
            _ => return Ok(()),
        };
        self.destination(name)?;
        let mut spec = &self.destinations[name];
        if let Some(shared) = spec.beside.as_ref().and_then(|other| self.destinations.get(other)) {
            spec = shared;
        }
        if *n <= usize::from(spec.addresses) {
            return Ok(());
        }
        let message = format!("`{name}` has {} address(es), so there is no `${{{name}.address.{n}}}`", spec.addresses);
        Err((message, Some(format!("declare it with `addresses: {n}`"))))
    }
}

/// Reports what the head of a scenario names wrongly: profile, capabilities, version, clients, destinations, names.
pub(super) fn check(file: &ScenarioFile, root: &Node, names: &Names<'_>, problems: &mut Vec<Problem>) {
    let mut report = |place: Place, message: String, help: Option<String>| {
        problems.push(Problem { message, help, place: Some(place) });
    };
    if !names.profiles.contains(&file.mesh) {
        let known = || names.profiles.iter().map(String::as_str);
        let help = did_you_mean(&file.mesh, known())
            .or_else(|| Some(format!("profiles are {}", known().collect::<Vec<_>>().join(", "))));
        report(root.at("/mesh").place, format!("there is no mesh profile `{}`", file.mesh), help);
    }
    for (n, word) in file.requires.iter().enumerate() {
        if let Err((message, help)) = capability(word) {
            report(root.at(&format!("/requires/{n}")).place, message, help);
        }
    }
    if let Some(wanted) = &file.istio
        && let Err((message, help)) = versions("istio", wanted)
    {
        report(root.at("/istio").place, message, Some(help));
    }
    if file.steps.is_empty() {
        report(root.at("/steps").place, "a scenario needs at least one step".into(), None);
    }
    for name in names.clients.keys().filter(|name| !is_label(name) || *name == "gateway") {
        let message = format!("`{name}` cannot name a client: expected {LABEL}, and not `gateway`");
        report(root.key_place("/clients", name), message, None);
    }
    for (name, spec) in &names.clients {
        if let Some(namespace) = &spec.namespace
            && let Err((message, help)) = names.namespace(namespace)
        {
            report(root.at(&format!("/clients/{}/namespace", escape(name))).place, message, help);
        }
    }
    for (n, name) in file.namespaces.iter().enumerate() {
        let place = root.at(&format!("/namespaces/{n}")).place;
        if !is_label(name) || name.len() > NAMESPACE {
            let message = format!("`{name}` cannot name a namespace: expected {LABEL}, at most {NAMESPACE} of them");
            report(place, message, None);
        } else if file.namespaces[..n].contains(name) {
            report(place, format!("`{name}` is declared twice"), None);
        }
    }
    for (name, spec) in &file.destinations {
        destination(name, spec, file, root, names, &mut report);
    }
    hosts(file, root, &mut report);
    for name in file.inert.keys().filter(|name| !names.manifests.contains(name.as_str())) {
        let help = did_you_mean(name, names.manifests.iter().copied());
        report(root.key_place("/inert", name), format!("there is no manifest `{name}` beside the scenario"), help);
    }
}

/// A capability that there is, or what is wrong with the word, and help.
pub(super) fn capability(word: &str) -> Result<(), (String, Option<String>)> {
    let known = Capability::ALL.map(Capability::as_str);
    word.parse::<Capability>().map(drop).map_err(|message| (message, did_you_mean(word, known)))
}

/// A range of versions of a project (`istio`, `envoy`), or what is wrong with it, and help.
pub(super) fn versions(project: &str, wanted: &str) -> Result<(), (String, String)> {
    semver::VersionReq::parse(wanted).map(drop).map_err(|error| {
        let message = format!("`{project}`: `{wanted}` is no range of versions: {error}");
        (message, "write it like \">=1.22\" or \">=1.22, <1.30\"".to_owned())
    })
}

fn destination(
    name: &str,
    spec: &DestinationSpec,
    file: &ScenarioFile,
    root: &Node,
    names: &Names<'_>,
    report: &mut impl FnMut(Place, String, Option<String>),
) {
    let key = || root.key_place("/destinations", name);
    let at = |field: &str| root.at(&format!("/destinations/{}/{field}", escape(name))).place;
    if !is_label(name) || RESERVED.contains(&name) || name == "absent" {
        let message = format!(
            "`{name}` cannot name a destination: expected {LABEL}, and none of {}, absent",
            RESERVED.join(", ")
        );
        report(key(), message, None);
    }
    if spec.port == 0 {
        report(at("port"), format!("`destinations.{name}.port`: port 0 is no port"), None);
    }
    if spec.addresses == 0 {
        report(at("addresses"), format!("`destinations.{name}.addresses`: expected at least one"), None);
    }
    if spec.mutual && !spec.tls {
        let message = format!("`destinations.{name}.mutual`: without TLS nobody can ask for a certificate");
        report(at("mutual"), message, Some("add `tls: true`".into()));
    }
    let Some(beside) = &spec.beside else { return };
    match names.destination(beside) {
        Err((message, help)) => report(at("beside"), format!("`beside`: {message}"), help),
        Ok(()) if beside == name || file.destinations[beside].beside.is_some() => {
            let message = format!("`beside`: `{beside}` has no addresses of its own that `{name}` could share");
            report(at("beside"), message, Some("name one that is declared without `beside`".into()));
        }
        Ok(()) => {
            let same = |(other, o): (&String, &DestinationSpec)| {
                other != name && o.port == spec.port && (other == beside || o.beside.as_ref() == Some(beside))
            };
            if let Some((other, _)) = file.destinations.iter().find(|(o, s)| same((o, s))) {
                let message = format!("`{name}` and `{other}` share addresses and the port {}", spec.port);
                report(at("port"), message, Some("give one another port".into()));
            }
        }
    }
}

/// One name leads to one machine.
fn hosts(file: &ScenarioFile, root: &Node, report: &mut impl FnMut(Place, String, Option<String>)) {
    let machine = |name: &str| file.destinations.get(name).and_then(|d| d.beside.clone()).unwrap_or(name.to_owned());
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, spec) in &file.destinations {
        for (n, host) in spec.hosts.iter().enumerate() {
            let place = root.at(&format!("/destinations/{}/hosts/{n}", escape(name))).place;
            if file.names.contains_key(host) {
                report(place, format!("`{host}` is a host of `{name}` and stands under `names` too"), None);
            }
            let first = *seen.entry(host).or_insert(name);
            if machine(first) != machine(name) {
                let help = Some(format!("one name leads to one machine: declare `{name}` with `beside: {first}`"));
                report(place, format!("`{host}` is a host of `{first}` and of `{name}`"), help);
            }
        }
    }
}

/// Reports the variables of a tree that stand for nothing.
pub(super) fn variables_in(root: &Node, text: &str, names: &Names<'_>, problems: &mut Vec<Problem>) {
    root.texts(&mut |part, place| {
        for seen in variables(part) {
            let verdict = match &seen.variable {
                Ok(variable) => names.variable(variable),
                Err(message) => Err((message.clone(), variable_help(seen.text, names))),
            };
            if let Err((message, help)) = verdict {
                let offset = text
                    .get(place.offset..)
                    .unwrap_or_default()
                    .find(seen.text)
                    .map_or(place.offset.min(text.len()), |n| place.offset + n);
                let place = Place { position: position_of(text, offset), offset, length: seen.text.len() };
                problems.push(Problem { message, help, place: Some(place) });
            }
        }
    });
}

fn variable_help(text: &str, names: &Names<'_>) -> Option<String> {
    let Some(inner) = text.strip_prefix("${").and_then(|t| t.strip_suffix('}')) else {
        return Some("close it, or write `$${` for a literal `${`".to_owned());
    };
    let own = names.destinations.keys().map(|name| format!("{name}.address"));
    let fixed =
        ["namespace", "gateway.host", "gateway.namespace", "gateway.address", "gateway.selector", "unused.address"];
    let others = names.namespaces.iter().map(|name| format!("namespace.{name}"));
    let known: Vec<String> = fixed.into_iter().map(str::to_owned).chain(own).chain(others).collect();
    did_you_mean(inner, known.iter().map(String::as_str))
}
