//! A page as a scenario: what its commands applied and sent, and the paths that were seen, as files for `run --scenarios`.
//!
//! A draft says what was seen, not what ought to be: somebody who knows reads it before it is a promise. What cannot be said
//! in a scenario (servers inside the cluster, commands that are no curl) is named in `about`. Start at [`draft`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::client_words::Request;
use crate::path::SeenHop;
use crate::scenario::World;
use crate::scenario::schema::Serves;

/// What was recorded of one command.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The line of the command.
    pub line: usize,
    /// Objects that it made or changed, as the cluster has them.
    pub applied: Vec<Value>,
    /// Objects that it deleted: kind, namespace, name.
    pub deleted: Vec<(String, String, String)>,
    /// What it sent, by client.
    pub sent: Vec<Sent>,
}

/// What a command sent from one pod.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Whether the pod has a sidecar.
    pub meshed: bool,
    /// The requests, in order, each with curl's exit code where that is known.
    pub requests: Vec<(Request, Option<i32>)>,
    /// All hops, in order.
    pub hops: Vec<SeenHop>,
    /// Whether the path is proved.
    pub proved: bool,
}

/// Where and what the page is.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// Its title.
    pub title: &'a str,
    /// Its file's name without the ending.
    pub name: &'a str,
    /// The profile that it started from.
    pub profile: &'a str,
    /// The servers that stood for its names.
    pub world: &'a World,
    /// Their addresses.
    pub addresses: &'a BTreeMap<String, Vec<IpAddr>>,
    /// The egress gateway's addresses.
    pub gateways: &'a [IpAddr],
}

/// Kinds that decide about egress and need nothing else in the cluster.
const KINDS: [&str; 13] = [
    "Service",
    "Endpoints",
    "ServiceEntry",
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "Sidecar",
    "WorkloadEntry",
    "EnvoyFilter",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "ProxyConfig",
    "Telemetry",
];

/// The files of the scenario, by path below the folder; an error where nothing was seen that a scenario could say.
///
/// # Errors
/// Why there is no scenario in this page.
pub fn draft(source: &Source<'_>, recorded: &[Recorded]) -> Result<BTreeMap<String, String>, String> {
    let mut writer = Writer {
        source,
        files: BTreeMap::new(),
        live: BTreeMap::new(),
        left_out: BTreeSet::new(),
        unverified: BTreeSet::new(),
        clusters: BTreeMap::new(),
    };
    let mut steps: Vec<Step> = Vec::new();
    let (mut apply, mut delete): (Vec<String>, Vec<(Key, String)>) = (Vec::new(), Vec::new());
    for command in recorded {
        for object in &command.applied {
            if let Some((key, file)) = writer.manifest(object) {
                // A step applies first: what is made anew under its name is not deleted then.
                delete.retain(|(gone, _)| *gone != key);
                apply.push(file);
            }
        }
        for gone in &command.deleted {
            if let Some(file) = writer.live.remove(gone) {
                // What is applied and deleted without a request in between leaves no trace.
                match apply.iter().position(|applied| *applied == file) {
                    Some(at) => drop(apply.remove(at)),
                    None => delete.push((gone.clone(), file)),
                }
            }
        }
        for step in writer.steps(command) {
            let gone = std::mem::take(&mut delete).into_iter().map(|(_, file)| file).collect();
            steps.push(Step { apply: std::mem::take(&mut apply), delete: gone, ..step });
        }
    }
    writer.controls(&mut steps);
    if steps.is_empty() {
        return Err("no request of the page can be said in a scenario".to_owned());
    }
    let used: BTreeSet<&String> = steps.iter().flat_map(|s| s.apply.iter().chain(&s.delete)).collect();
    let used: BTreeSet<String> = used.into_iter().cloned().collect();
    writer.files.retain(|name, _| used.contains(name));
    let scenario = writer.scenario(&steps);
    let folder = format!("tutorial/{}", slug(source.name));
    let yaml = |value: &Value| serde_saphyr::to_string(value).map_err(|e| format!("the draft cannot be written: {e}"));
    let mut files = BTreeMap::from([(format!("{folder}/scenario.yaml"), yaml(&scenario)?)]);
    for (name, object) in &writer.files {
        files.insert(format!("{folder}/{name}"), yaml(object)?);
    }
    Ok(files)
}

#[derive(Debug, Clone, Default)]
struct Step {
    name: String,
    apply: Vec<String>,
    delete: Vec<String>,
    probe: Value,
    expect: Value,
    arrives: bool,
    control: Option<String>,
}

/// Kind, namespace and name of an object.
type Key = (String, String, String);

struct Writer<'a> {
    source: &'a Source<'a>,
    files: BTreeMap<String, Value>,
    /// The manifest that stands for an object at this moment.
    live: BTreeMap<(String, String, String), String>,
    left_out: BTreeSet<String>,
    /// DestinationRules whose check of certificates is switched off.
    unverified: BTreeSet<String>,
    /// Addresses of Services, and what stands for them.
    clusters: BTreeMap<String, String>,
}

fn slug(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = kept.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-")
}

impl Writer<'_> {
    /// Writes an object as a manifest; `None` where a scenario cannot have it.
    fn manifest(&mut self, object: &Value) -> Option<(Key, String)> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let selects = kind == "Service" && object.pointer("/spec/selector").is_some();
        let managed = !object["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"].is_null()
            || !object["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"].is_null();
        if !KINDS.contains(&kind.as_str()) || selects || managed {
            return None;
        }
        if !["default", "istio-system"].contains(&namespace.as_str()) {
            self.left_out.insert(format!("{kind} {namespace}/{name}, which is in another namespace"));
            return None;
        }
        if let Some(address) = object.pointer("/spec/clusterIP").and_then(Value::as_str).filter(|a| *a != "None") {
            self.clusters.insert(address.to_owned(), format!("${{object.Service.{name} $.spec.clusterIP}}"));
        }
        let mut clean = json!({"apiVersion": object["apiVersion"], "kind": kind, "metadata": {"name": name}});
        if namespace == "istio-system" {
            clean["metadata"]["namespace"] = "${gateway.namespace}".into();
        }
        for (key, value) in object.as_object().into_iter().flatten() {
            if !["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()) {
                clean[key] = value.clone();
            }
        }
        if let Some(spec) = clean.get_mut("spec").and_then(Value::as_object_mut).filter(|_| kind == "Service") {
            for key in
                ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "sessionAffinity"]
            {
                spec.remove(key);
            }
        }
        if kind == "DestinationRule" && self.unverified(&mut clean["spec"]) {
            self.unverified.insert(name.clone());
        }
        self.replace(&mut clean);
        let key = (kind.clone(), namespace, name.clone());
        if self.live.get(&key).is_some_and(|file| self.files.get(file) == Some(&clean)) {
            return None;
        }
        // A page may go back to what it had before.
        let known = self.files.iter().find(|(_, other)| **other == clean).map(|(file, _)| file.clone());
        let file = known.unwrap_or_else(|| {
            let first = format!("{}-{}", kind.to_lowercase(), slug(&name));
            let numbered = (2..).map(|n| format!("{first}-{n}.yaml"));
            let mut names = std::iter::once(format!("{first}.yaml")).chain(numbered);
            names.find(|name| !self.files.contains_key(name)).unwrap_or_default()
        });
        self.files.insert(file.clone(), clean);
        self.live.insert(key.clone(), file.clone());
        Some((key, file))
    }

    /// Scenarios have no servers that proxies trust: TLS by the system's authorities is made without a check. Returns
    /// whether there was any.
    fn unverified(&self, value: &mut Value) -> bool {
        let mut any = false;
        if value["tls"]["mode"] == "SIMPLE" && value["tls"]["caCertificates"].is_null() {
            value["tls"]["insecureSkipVerify"] = true.into();
            any = true;
        }
        let inner: Vec<&mut Value> = match value {
            Value::Object(map) => map.values_mut().collect(),
            Value::Array(list) => list.iter_mut().collect(),
            _ => Vec::new(),
        };
        for value in inner.into_iter().filter(|v| v.is_object() || v.is_array()) {
            any |= self.unverified(value);
        }
        any
    }

    /// Puts variables where the page has what differs from run to run.
    fn replace(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.with_variables(text),
            Value::Array(list) => {
                list.iter_mut().for_each(|v| self.replace(v));
                // Several addresses of the page may be one server's.
                let mut kept: Vec<Value> = Vec::new();
                list.retain(|v| {
                    !kept.contains(v) && {
                        kept.push(v.clone());
                        true
                    }
                });
            }
            Value::Object(map) => map.values_mut().for_each(|v| self.replace(v)),
            _ => {}
        }
    }

    fn with_variables(&self, text: &str) -> String {
        let mut text = text.replace("istio-egressgateway.istio-system.svc.cluster.local", "${gateway.host}");
        text = text.replace(".default.svc.cluster.local", ".${namespace}.svc.cluster.local");
        for (address, variable) in &self.clusters {
            text = replace_address(&text, address, variable);
        }
        for (name, destination) in &self.source.world.destinations {
            let addresses = self.source.addresses.get(name).into_iter().flatten();
            if destination.spec.beside.is_none() {
                for address in addresses {
                    text = replace_address(&text, &address.to_string(), &format!("${{{name}.address}}"));
                }
            }
        }
        text
    }

    /// The steps of one command: one for each request whose path can be told.
    fn steps(&mut self, command: &Recorded) -> Vec<Step> {
        let mut found = Vec::new();
        for sent in &command.sent {
            let line = command.line;
            if !sent.proved {
                self.left_out.insert(format!("line {line}, whose path was not proved"));
                continue;
            }
            let exchanges = exchanges(&sent.hops);
            let follows = sent
                .requests
                .iter()
                .any(|(r, _)| r.arguments.iter().any(|a| matches!(a.as_str(), "-L" | "--location")));
            let each: Vec<Vec<Vec<SeenHop>>> = match sent.requests.len() {
                0 => continue,
                1 => vec![exchanges],
                n if n == exchanges.len() && !follows => exchanges.into_iter().map(|e| vec![e]).collect(),
                _ => {
                    self.left_out.insert(format!("line {line}, whose requests cannot be told apart"));
                    continue;
                }
            };
            for (n, ((request, exit), hops)) in sent.requests.iter().zip(each).enumerate() {
                let ends: Vec<&SeenHop> = hops.iter().filter_map(|e| e.last()).collect();
                let ours = ends.iter().all(|hop| matches!(hop, SeenHop::Destination(_)) || blocked(hop));
                if !ours {
                    self.left_out.insert(format!("line {line}, which leads to a server in the cluster"));
                    continue;
                }
                let number = if sent.requests.len() > 1 { format!(", request {}", n + 1) } else { String::new() };
                found.push(self.step(&format!("line {line}{number}"), sent.meshed, request, *exit, &hops));
            }
        }
        found
    }

    fn step(&self, name: &str, meshed: bool, request: &Request, exit: Option<i32>, exchanges: &[Vec<SeenHop>]) -> Step {
        let mut arguments: Vec<String> = request.arguments.iter().map(|a| self.with_variables(a)).collect();
        // Clients of scenarios do not trust the external servers' authority.
        let tls = arguments.iter().any(|a| a.starts_with("https://")) || exchanges.len() > 1;
        if tls && !arguments.iter().any(|a| matches!(a.as_str(), "-k" | "--insecure")) {
            arguments.insert(0, "-k".to_owned());
        }
        let hops = |exchange: &Vec<SeenHop>| {
            let mut hops: Vec<Value> = exchange.iter().map(|hop| self.hop(hop)).collect();
            hops.extend(exchange.last().and_then(|last| self.through(last, &request.arguments)));
            hops
        };
        let mut expect = match exchanges {
            [] => json!({"path": []}),
            [one] => json!({"path": hops(one)}),
            several => json!({"paths": several.iter().map(hops).collect::<Vec<_>>()}),
        };
        if let Some(exit) = exit.filter(|_| request.direct) {
            // Which of the two a reset becomes is a toss of a coin.
            expect["client"] =
                if [52, 56].contains(&exit) { json!({"exit": {"in": [52, 56]}}) } else { json!({"exit": exit}) };
        }
        let arrives =
            !exchanges.is_empty() && exchanges.iter().all(|e| matches!(e.last(), Some(SeenHop::Destination(_))));
        let from = if meshed { "meshed" } else { "plain" };
        let probe = json!({"from": from, "curl": arguments});
        Step { name: name.to_owned(), probe, expect, arrives, ..Step::default() }
    }

    /// Where a tunnel of a proxy among the servers leads: the server of the URL, which a probe's token shows.
    fn through(&self, last: &SeenHop, arguments: &[String]) -> Option<Value> {
        let SeenHop::Destination(seen) = last else { return None };
        let destinations = &self.source.world.destinations;
        let tunnel = seen.method.as_deref() == Some("CONNECT");
        if !tunnel || destinations.get(&seen.name)?.spec.serves != Serves::Proxy {
            return None;
        }
        let host = host(&json!({"curl": arguments}));
        let of_host = |d: &crate::scenario::WorldDestination| d.spec.tls && d.spec.hosts.contains(&host);
        let (name, _) = destinations.iter().find(|(_, d)| of_host(d))?;
        Some(json!({"destination": {"name": name}}))
    }

    fn hop(&self, hop: &SeenHop) -> Value {
        match hop {
            SeenHop::Destination(seen) => {
                let mut said = json!({"name": seen.name});
                if seen.got != crate::scenario::schema::Got::Request {
                    said["got"] = json!(seen.got);
                }
                json!({"destination": said})
            }
            proxy => {
                let Some(seen) = proxy.proxy() else { return Value::Null };
                let record = &seen.record;
                let mut said = serde_json::Map::new();
                let cluster = record.get("upstream_cluster").map(|c| self.with_variables(c));
                said.insert("cluster".into(), cluster.unwrap_or_else(|| "absent".to_owned()).into());
                let flags: Vec<&str> = record.get("response_flags").into_iter().flat_map(|f| f.split(',')).collect();
                said.insert("flags".into(), if flags.is_empty() { json!("absent") } else { json!(flags) });
                if let Some(upstream) = record.upstream_host().and_then(|host| self.owner(host.ip(), host.port())) {
                    said.insert("upstream".into(), upstream.into());
                }
                if record.is_http()
                    && let Some(code) = record.get("response_code").and_then(|c| c.parse::<u16>().ok())
                {
                    said.insert("code".into(), code.into());
                }
                json!({ (proxy.kind()): said })
            }
        }
    }

    /// Whose an address is: a destination's, or the gateway's.
    fn owner(&self, address: IpAddr, port: u16) -> Option<String> {
        if self.source.gateways.contains(&address) {
            return Some("gateway".to_owned());
        }
        let has = |name: &&String| self.source.addresses.get(*name).is_some_and(|a| a.contains(&address));
        let all = || self.source.world.destinations.iter();
        let exact = all().find(|(name, d)| has(name) && d.spec.port == port);
        exact.map(|(name, _)| name.clone())
    }

    /// Gives each blocked step one that arrives; without any, a block proves nothing and is left out.
    fn controls(&mut self, steps: &mut Vec<Step>) {
        let arriving: Vec<(usize, String, String)> = steps
            .iter()
            .enumerate()
            .filter(|(_, s)| s.arrives)
            .map(|(n, s)| (n, s.name.clone(), host(&s.probe)))
            .collect();
        let mut kept: Vec<Step> = Vec::new();
        let (mut apply, mut delete) = (Vec::new(), Vec::new());
        for (n, mut step) in std::mem::take(steps).into_iter().enumerate() {
            step.apply.splice(0..0, std::mem::take(&mut apply));
            step.delete.splice(0..0, std::mem::take(&mut delete));
            if !step.arrives {
                let host = host(&step.probe);
                let same = arriving.iter().filter(|(_, _, other)| *other == host);
                let control = same.min_by_key(|(at, _, _)| at.abs_diff(n)).or(arriving.first());
                match control {
                    Some((_, name, _)) => step.control = Some(name.clone()),
                    None => {
                        self.left_out
                            .insert(format!("{}, which is blocked, and nothing of the page arrives", step.name));
                        (apply, delete) = (step.apply, step.delete);
                        continue;
                    }
                }
            }
            kept.push(step);
        }
        *steps = kept;
    }

    fn scenario(&self, steps: &[Step]) -> Value {
        let mut about = format!(
            "Recorded from {}.md: what was seen, for somebody to read before it is a promise.",
            self.source.name
        );
        if !self.left_out.is_empty() {
            let left: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
            about.push_str(&format!(" Not recorded: {}.", left.join("; ")));
        }
        if !self.unverified.is_empty() {
            let names: Vec<&str> = self.unverified.iter().map(String::as_str).collect();
            about.push_str(&format!(" DestinationRules that do not check certificates here: {}.", names.join(", ")));
        }
        let destinations: BTreeMap<&String, &crate::scenario::schema::DestinationSpec> =
            self.source.world.destinations.iter().map(|(name, d)| (name, &d.spec)).collect();
        let gateway = steps.iter().any(|s| s.expect.to_string().contains("\"gateway\""));
        let mut scenario = json!({
            "title": self.source.title,
            "about": about,
            "level": "extended",
            "scope": "mesh",
            "mesh": self.source.profile,
            "destinations": destinations,
            "steps": steps.iter().map(Step::value).collect::<Vec<_>>(),
        });
        if gateway {
            scenario["requires"] = json!(["egress-gateway"]);
        }
        scenario
    }
}

impl Step {
    fn value(&self) -> Value {
        let mut step = json!({"name": self.name});
        for (key, list) in [("apply", &self.apply), ("delete", &self.delete)] {
            if !list.is_empty() {
                step[key] = json!(list);
            }
        }
        step["probe"] = self.probe.clone();
        step["expect"] = self.expect.clone();
        if let Some(control) = &self.control {
            step["control"] = json!(control);
        }
        step
    }
}

/// Whether a proxy ended the request itself.
fn blocked(hop: &SeenHop) -> bool {
    hop.proxy().is_some_and(|proxy| proxy.record.upstream_local_address().is_none())
}

/// Hops, split where a client begins anew.
fn exchanges(hops: &[SeenHop]) -> Vec<Vec<SeenHop>> {
    let mut all: Vec<Vec<SeenHop>> = Vec::new();
    for hop in hops {
        let begins = match hop {
            SeenHop::Sidecar(_) => true,
            // Without a sidecar each server is asked by the client itself.
            SeenHop::Destination(_) => {
                all.last().and_then(|e| e.last()).is_some_and(|h| matches!(h, SeenHop::Destination(_)))
            }
            SeenHop::Gateway(_) => false,
        };
        match all.last_mut().filter(|_| !begins) {
            Some(exchange) => exchange.push(hop.clone()),
            None => all.push(vec![hop.clone()]),
        }
    }
    all
}

/// The host in a probe's URL.
fn host(probe: &Value) -> String {
    let words = probe["curl"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let url = words.filter(|word| !word.starts_with('-')).find(|word| word.contains("://"));
    let rest = url.and_then(|u| u.split("://").nth(1)).unwrap_or_default();
    rest.split(['/', ':']).next().unwrap_or_default().to_owned()
}

/// Replaces an address where it is not part of a longer one.
fn replace_address(text: &str, address: &str, variable: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(address) {
        let (before, after) = (&rest[..at], &rest[at + address.len()..]);
        let inside = before.ends_with(|c: char| c.is_ascii_digit() || c == '.')
            || after.starts_with(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if inside { address } else { variable });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_whole() {
        assert_eq!(
            replace_address("http://192.168.0.7:80/ 192.168.0.78", "192.168.0.7", "${a.address}"),
            "http://${a.address}:80/ 192.168.0.78"
        );
        assert_eq!(replace_address("192.168.0.7/32", "192.168.0.7", "X"), "X/32");
    }

    #[test]
    fn hosts_of_probes_are_compared_for_controls() {
        assert_eq!(host(&json!({"curl": ["-k", "https://a.com:8443/x"]})), "a.com");
        assert_eq!(host(&json!({"curl": ["--resolve", "a:1:2"]})), "");
        assert_eq!(slug("External_Name of 2020"), "external-name-of-2020");
    }
}
