//! Steps: what each applies, sends and expects, in words that fit together.
//!
//! Start at [`check`].

use std::collections::{BTreeMap, BTreeSet};

use super::did_you_mean;
use super::error::Problem;
use super::matchers::{fault, hop_name, matchers, words};
use super::node::{Node, Place};
use super::references::Names;
use crate::scenario::matcher::{Matcher, Seen};
use crate::scenario::schema::{Hop, Probe, ScenarioFile, Source, Step};

/// Arguments of curl that the harness itself gives, and how it uses them.
const OWN_ARGUMENTS: [(&str, &str); 12] = [
    ("-A", "the User-Agent carries the probe's token"),
    ("--user-agent", "the User-Agent carries the probe's token"),
    ("-w", "the result is written that way"),
    ("--write-out", "the result is written that way"),
    ("-o", "the body is kept that way"),
    ("--output", "the body is kept that way"),
    ("-D", "the headers are kept that way"),
    ("--dump-header", "the headers are kept that way"),
    ("-K", "a probe says in the scenario what it does"),
    ("--config", "a probe says in the scenario what it does"),
    ("--local-port", "each probe has source ports of its own"),
    ("--next", "a probe is one request"),
];

/// Reports what is wrong with the steps of a scenario.
pub(super) fn check(file: &ScenarioFile, root: &Node, names: &Names<'_>, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut applied: BTreeSet<&str> = BTreeSet::new();
    for (n, step) in file.steps.iter().enumerate() {
        let mut one = Check { file, step, root, names, base: format!("/steps/{n}"), problems };
        if let Some(first) = seen.get(step.name.as_str()) {
            one.report("/name", format!("step {} has the name `{}` already", first + 1, step.name), None);
        }
        seen.entry(&step.name).or_insert(n);
        one.manifests(&mut applied);
        one.whole();
        one.probe();
        one.control();
        one.path();
        one.objects();
        one.proxies();
        one.matchers();
    }
}

/// Whether a step expects that its request reaches no server.
pub(super) fn blocked(step: &Step) -> bool {
    step.probe.is_some()
        && match &step.expect.path {
            Some(path) => !path.iter().any(|hop| matches!(hop, Hop::Destination(_))),
            None => exit(step).is_some_and(|exit| !exit.accepts(&success())),
        }
}

/// Whether a step expects that its request reaches a server.
fn positive(step: &Step) -> bool {
    let arrives = step.expect.path.iter().flatten().any(|hop| matches!(hop, Hop::Destination(_)));
    let succeeds = exit(step).is_some_and(|exit| exit.accepts(&success()));
    step.probe.is_some() && !blocked(step) && (arrives || succeeds)
}

fn exit(step: &Step) -> Option<&Matcher> {
    step.expect.client.as_ref()?.exit.as_ref()
}

fn success() -> Seen<'static> {
    Seen::Text("0".into())
}

struct Check<'a, 'p> {
    file: &'a ScenarioFile,
    step: &'a Step,
    root: &'a Node,
    names: &'a Names<'a>,
    base: String,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Check<'a, '_> {
    fn place(&self, below: &str) -> Place {
        self.root.at(&format!("{}{below}", self.base)).place
    }

    fn report(&mut self, below: &str, message: String, help: Option<String>) {
        let place = Some(self.place(below));
        self.problems.push(Problem { message, help, place });
    }

    fn manifests(&mut self, applied: &mut BTreeSet<&'a str>) {
        let step = self.step;
        for (key, list) in [("apply", &step.apply), ("delete", &step.delete)] {
            for (n, name) in list.iter().enumerate() {
                let at = format!("/{key}/{n}");
                if !self.names.manifests.contains(name.as_str()) {
                    let help = did_you_mean(name, self.names.manifests.iter().copied());
                    self.report(&at, format!("there is no manifest `{name}` beside the scenario"), help);
                } else if key == "apply" {
                    applied.insert(name);
                } else if !applied.remove(name.as_str()) {
                    let message = format!("`{name}` is deleted, and no earlier step has applied it");
                    self.report(&at, message, None);
                }
            }
        }
    }

    fn whole(&mut self) {
        let step = self.step;
        let looks = !step.expect.objects.is_empty() || !step.expect.proxy.is_empty();
        if step.apply.is_empty() && step.delete.is_empty() && step.probe.is_none() && !looks {
            let help = "a step applies, deletes, probes, or looks at objects or proxies".to_owned();
            self.report("", format!("step `{}` does nothing", step.name), Some(help));
        }
        if step.expect.apply.is_some() && step.apply.is_empty() {
            self.report("/expect/apply", "`expect.apply` needs something that is applied".into(), None);
        }
        let answers = [("client", step.expect.client.is_some()), ("path", step.expect.path.is_some())];
        for (key, there) in answers {
            if there && step.probe.is_none() {
                let help = Some("add a `probe`, or remove it".to_owned());
                self.report(&format!("/expect/{key}"), format!("`expect.{key}` needs a probe"), help);
            }
        }
        if step.probe.is_some() && !answers.iter().any(|(_, there)| *there) {
            let help =
                Some("say under `expect` what the client sees (`client`) and which way it takes (`path`)".to_owned());
            self.report("/probe", "a probe without an expectation proves nothing".into(), help);
        }
    }

    fn probe(&mut self) {
        let Some(Probe { from, curl }) = &self.step.probe else { return };
        if !self.names.clients.contains_key(from) {
            let help = did_you_mean(from, self.names.clients.keys().map(String::as_str))
                .or_else(|| Some("declare it under `clients`".to_owned()));
            self.report("/probe/from", format!("`{from}` is no client of this scenario"), help);
        }
        if curl.is_empty() {
            self.report("/probe/curl", "`curl` needs at least a URL".into(), None);
        }
        for (n, argument) in curl.iter().enumerate() {
            let own = OWN_ARGUMENTS.iter().find(|(own, _)| {
                let long = own.starts_with("--");
                argument == own || (!long && argument.starts_with(own)) || argument.starts_with(&format!("{own}="))
            });
            if let Some((own, why)) = own {
                let message = format!("curl's `{own}` belongs to the harness: {why}");
                self.report(&format!("/probe/curl/{n}"), message, None);
            }
        }
    }

    fn control(&mut self) {
        let Some(control) = &self.step.control else {
            if blocked(self.step) {
                let message = format!("step `{}` expects a blocked request and names no `control`", self.step.name);
                let positives = self.file.steps.iter().filter(|s| positive(s)).map(|s| format!("`{}`", s.name));
                let positives = positives.collect::<Vec<_>>().join(", ");
                let help = match positives.as_str() {
                    "" => "add a step which shows that the request can succeed, and name it".to_owned(),
                    _ => format!("name the step which shows that it can succeed: {positives}"),
                };
                self.report("/probe", message, Some(help));
            }
            return;
        };
        let named: Vec<&Step> = self.file.steps.iter().filter(|s| s.name == *control).collect();
        match &named[..] {
            [] => {
                let help = did_you_mean(control, self.file.steps.iter().map(|s| s.name.as_str()));
                self.report("/control", format!("`control` names no step of this scenario: `{control}`"), help);
            }
            steps if !steps.iter().any(|s| positive(s)) => {
                let message = format!("the control `{control}` does not show a request that arrives");
                let help = Some("name a step whose probe reaches a destination".to_owned());
                self.report("/control", message, help);
            }
            _ if !blocked(self.step) => {
                let message = "only a probe that is expected to be blocked has a `control`".to_owned();
                self.report("/control", message, None);
            }
            _ => {}
        }
    }

    fn path(&mut self) {
        let path = self.step.expect.path.as_deref().unwrap_or_default();
        let client = self.step.probe.as_ref().and_then(|p| Some((&p.from, self.names.clients.get(&p.from)?)));
        let rank = |hop: &Hop| match hop {
            Hop::Sidecar(_) => 0,
            Hop::Gateway(_) => 1,
            Hop::Destination(_) => 2,
        };
        for (n, hop) in path.iter().enumerate() {
            let at = format!("/expect/path/{n}");
            if let Some(before) = n.checked_sub(1).map(|b| &path[b])
                && rank(before) >= rank(hop)
            {
                let message = format!("a path cannot go from `{}` to `{}`", hop_name(before), hop_name(hop));
                self.report(&at, message, Some("the order is sidecar, gateway, destination".into()));
            }
            match hop {
                Hop::Sidecar(_) => {
                    if let Some((name, spec)) = client
                        && !spec.sidecar
                    {
                        let message = format!("the client `{name}` has no sidecar, so no path of it begins there");
                        self.report(&at, message, None);
                    }
                }
                Hop::Gateway(_) => {}
                Hop::Destination(server) => {
                    if let Err((message, help)) = self.names.destination(&server.name) {
                        self.report(&format!("{at}/destination/name"), message, help);
                    }
                    let gateway = path.iter().any(|h| matches!(h, Hop::Gateway(_)));
                    if server.source.is_some_and(|s| (s == Source::Gateway) != gateway) {
                        let message = match gateway {
                            true => "behind a gateway the server sees the gateway's address, not the client's",
                            false => "without a gateway on the path the server cannot see its address",
                        };
                        self.report(&format!("{at}/destination/source"), message.to_owned(), None);
                    }
                }
            }
            if let Hop::Sidecar(proxy) | Hop::Gateway(proxy) = hop
                && let Some(upstream) = proxy.fields.get("upstream")
            {
                for word in words(upstream) {
                    if let Err((message, _)) = self.names.upstream(word) {
                        let near = self.names.destinations.keys().map(String::as_str).chain(["gateway"]);
                        let help = did_you_mean(word, near)
                            .or_else(|| Some("expected a destination, `gateway`, or an address".to_owned()));
                        self.report(&format!("{at}/{}/upstream", hop_name(hop)), message, help);
                    }
                }
            }
        }
    }

    fn objects(&mut self) {
        for (n, object) in self.step.expect.objects.iter().enumerate() {
            let at = format!("/expect/objects/{n}");
            if object.name.is_some() == object.selector.is_some() {
                self.report(&at, "expected either `name` or `selector`".into(), None);
            }
            if let Err(error) = serde_json_path::JsonPath::parse(&object.at) {
                self.report(&format!("{at}/at"), format!("`{}` is no JSON path: {error}", object.at), None);
            }
            let namespace = object.namespace.as_deref().unwrap_or("${namespace}");
            if let Err((message, help)) = super::manifest::namespace(namespace, &BTreeSet::new()) {
                self.report(&format!("{at}/namespace"), message, help);
            }
        }
    }

    fn proxies(&mut self) {
        for (n, proxy) in self.step.expect.proxy.iter().enumerate() {
            let at = format!("/expect/proxy/{n}");
            if proxy.listener.is_some() == proxy.cluster.is_some() {
                self.report(&at, "expected either `listener` or `cluster`".into(), None);
            }
            let clients = || self.names.clients.iter().filter(|(_, spec)| spec.sidecar).map(|(name, _)| name.as_str());
            if proxy.of != "gateway" && !clients().any(|name| name == proxy.of) {
                let message = match self.names.clients.contains_key(&proxy.of) {
                    true => format!("the client `{}` has no sidecar to look at", proxy.of),
                    false => format!("`{}` is neither `gateway` nor a client of this scenario", proxy.of),
                };
                let help = did_you_mean(&proxy.of, clients().chain(["gateway"]));
                self.report(&format!("{at}/of"), message, help);
            }
        }
    }

    fn matchers(&mut self) {
        for (below, matcher) in matchers(&self.step.expect) {
            if let Some(fault) = fault(matcher) {
                self.report(&format!("/expect{below}"), fault, None);
            }
        }
    }
}
