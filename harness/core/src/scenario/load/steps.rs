//! Steps: what each changes and sends, in words that fit together, and that what is blocked has its positive control.
//!
//! Start at [`check`].

use std::collections::{BTreeMap, BTreeSet};

use super::did_you_mean;
use super::error::Problem;
use super::node::{Node, Place};
use super::references::{self, Names};
use super::{expects, probes};
use crate::scenario::matcher::{Matcher, Seen};
use crate::scenario::schema::{Expect, Hop, ScenarioFile, Step, When};

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
        if let Some(probe) = &step.probe {
            probes::check(probe, root, &format!("/steps/{n}/probe"), names, one.problems);
        }
        one.control();
        one.set();
        one.expectation(&step.expect, "/expect");
        one.variants();
    }
}

/// Whether a step expects, under whatever circumstances, that its request reaches no server, or its name nothing.
fn blocked(step: &Step) -> bool {
    step.expectations().any(|expect| expects_block(step, &expect))
}

fn expects_block(step: &Step, expect: &Expect) -> bool {
    let Some(probe) = &step.probe else { return false };
    if probe.resolve.is_some() {
        return addresses(expect).is_some_and(|addresses| addresses.accepts(&Seen::Absent));
    }
    match expect.exchanges() {
        Some(exchanges) => !exchanges.last().is_some_and(|last| arrives(last)),
        None => exit(expect).is_some_and(|exit| !exit.accepts(&success())),
    }
}

/// Whether a step shows, on its own account, that a request reaches a server, or that a name leads somewhere.
fn positive(step: &Step) -> bool {
    let expect = &step.expect;
    let Some(probe) = &step.probe else { return false };
    if expects_block(step, expect) {
        return false;
    }
    if probe.resolve.is_some() {
        return addresses(expect).is_some();
    }
    let arrived = expect.exchanges().is_some_and(|exchanges| exchanges.last().is_some_and(|last| arrives(last)));
    arrived || exit(expect).is_some_and(|exit| exit.accepts(&success()))
}

fn arrives(path: &[Hop]) -> bool {
    path.iter().any(|hop| matches!(hop, Hop::Destination(_)))
}

fn exit(expect: &Expect) -> Option<&Matcher> {
    expect.client.as_ref()?.exit.as_ref()
}

fn addresses(expect: &Expect) -> Option<&Matcher> {
    expect.client.as_ref()?.addresses.as_ref()
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
        let changes = !step.apply.is_empty() || !step.delete.is_empty() || !step.set.is_empty();
        if !changes && step.probe.is_none() && !looks {
            let help = "a step applies, deletes, sets, probes, or looks at objects or proxies".to_owned();
            self.report("", format!("step `{}` does nothing", step.name), Some(help));
        }
        let shows = |expect: &Expect| expect.client.is_some() || expect.exchanges().is_some();
        if step.probe.is_some() && !shows(&step.expect) {
            let help =
                Some("say under `expect` what the client sees (`client`) and which way it takes (`path`)".to_owned());
            self.report("/probe", "a probe without an expectation proves nothing".into(), help);
        }
    }

    fn control(&mut self) {
        let Some(control) = &self.step.control else {
            if blocked(self.step) {
                let message = format!("step `{}` expects a blocked request and names no `control`", self.step.name);
                let positives = self
                    .file
                    .steps
                    .iter()
                    .filter(|s| positive(s) && s.name != self.step.name)
                    .map(|s| format!("`{}`", s.name));
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
            _ if *control == self.step.name => {
                let help = Some("name another step, which arrives whatever the circumstances".to_owned());
                self.report("/control", "a step is no control of itself".into(), help);
            }
            _ if !blocked(self.step) => {
                let message = "only a probe that is expected to be blocked has a `control`".to_owned();
                self.report("/control", message, None);
            }
            _ => {}
        }
    }

    fn set(&mut self) {
        for name in self.step.set.keys() {
            if let Err((message, help)) = self.names.destination(name) {
                let place = Some(self.root.key_place(&format!("{}/set", self.base), name));
                self.problems.push(Problem { message, help, place });
            }
        }
    }

    fn variants(&mut self) {
        for (n, variant) in self.step.variants.iter().enumerate() {
            let at = format!("/variants/{n}");
            if variant.when == When::default() {
                let help = "say for which `istio`, `envoy`, `capability` or `cluster` it is".to_owned();
                self.report(&format!("{at}/when"), "a variant needs circumstances".into(), Some(help));
            }
            for (project, wanted) in [("istio", &variant.when.istio), ("envoy", &variant.when.envoy)] {
                if let Some(wanted) = wanted
                    && let Err((message, help)) = references::versions(project, wanted)
                {
                    self.report(&format!("{at}/when/{project}"), message, Some(help));
                }
            }
            if let Some(word) = &variant.when.capability
                && let Err((message, help)) = references::capability(word)
            {
                self.report(&format!("{at}/when/capability"), message, help);
            }
            if !variant.because.starts_with("https://") {
                let help = "link the issue, change or release note that says so".to_owned();
                self.report(
                    &format!("{at}/because"),
                    format!("`because` is no link: `{}`", variant.because),
                    Some(help),
                );
            }
            if variant.expect.is_empty() {
                self.report(&format!("{at}/expect"), "the variant expects nothing else".into(), None);
            }
            self.expectation(&variant.expect, &format!("{at}/expect"));
        }
    }

    fn expectation(&mut self, expect: &Expect, below: &str) {
        let base = format!("{}{below}", self.base);
        expects::check(expect, self.step, (self.root, &base), self.names, self.problems);
    }
}
