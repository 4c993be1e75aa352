//! A page as a scenario: what its commands applied and sent, and the paths that were seen, as files for `run --scenarios`.
//!
//! A draft says what was seen, not what ought to be: somebody who knows reads it before it is a promise. What cannot be said
//! in a scenario (servers inside the cluster, commands that are no curl) is named in `about`. Start at [`draft`].

mod manifest;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::client_words::Request;
use crate::path::SeenHop;
use crate::scenario::World;

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
    live: BTreeMap<Key, String>,
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

/// The host in a probe's URL.
fn host(probe: &Value) -> String {
    let words = probe["curl"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let url = words.filter(|word| !word.starts_with('-')).find(|word| word.contains("://"));
    let rest = url.and_then(|u| u.split("://").nth(1)).unwrap_or_default();
    rest.split(['/', ':']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_probes_are_compared_for_controls() {
        assert_eq!(host(&json!({"curl": ["-k", "https://a.com:8443/x"]})), "a.com");
        assert_eq!(host(&json!({"curl": ["--resolve", "a:1:2"]})), "");
        assert_eq!(slug("External_Name of 2020"), "external-name-of-2020");
    }
}
