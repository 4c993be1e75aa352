//! Recorded runs of the sandbox, judged again: the same evidence gives the same paths and the same verdicts.
//!
//! `fixtures/observations/sandbox.json` is a report as `run --report json=FILE` writes it; `scripts/record` makes it anew.
//! Unlike the older recordings beside it, it has curl's own socket and the token.

use std::collections::BTreeMap;
use std::net::IpAddr;

use egress_core::access_log::Format;
use egress_core::check::{Directory, check};
use egress_core::evidence::Observation;
use egress_core::path::{JoinedBy, SeenHop, State, join};
use egress_core::report::{Outcome, Report, StepResult, from_json};

fn recorded() -> Report {
    from_json(include_str!("../../../fixtures/observations/sandbox.json")).expect("a report")
}

fn probes(report: &Report) -> impl Iterator<Item = (String, &StepResult, &Observation)> {
    report.scenarios.iter().flat_map(|scenario| {
        let named = |step: &StepResult| format!("{}: {}", scenario.id, step.name);
        scenario.steps.iter().filter_map(move |step| Some((named(step), step, step.observation.as_ref()?)))
    })
}

fn directory(report: &Report, observation: &Observation) -> Directory {
    let mut destinations: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for (name, addresses) in &report.cluster.servers {
        for address in addresses {
            destinations.entry(*address).or_default().push(name.clone());
        }
    }
    Directory { destinations, gateways: observation.gateways.iter().filter_map(|g| g.pod.ip).collect() }
}

fn format(report: &Report) -> Format {
    Format::istio_text(&report.cluster.istio).expect("a known version")
}

#[test]
fn the_recording_is_of_a_whole_run() {
    let report = recorded();
    assert!(report.scenarios.iter().all(|s| s.outcome == Outcome::Passed));
    assert!(report.scenarios.len() >= 29, "{} scenarios", report.scenarios.len());
    assert!(probes(&report).count() >= 100, "{} probes", probes(&report).count());
}

#[test]
fn evidence_gives_the_same_path_and_verdict_again() {
    let report = recorded();
    let format = format(&report);
    for (name, step, observation) in probes(&report) {
        let joined = join(observation, &format);
        assert_eq!(joined.state, State::Closed, "{name}");
        assert_eq!(Some(&joined.path), step.path.as_ref(), "{name}");
        let expect = step.expect.as_ref().expect("a probe has an expectation");
        assert_eq!(check(expect, observation, &joined, &directory(&report, observation)), [], "{name}");
    }
}

#[test]
fn every_hop_is_joined_by_sockets() {
    let report = recorded();
    let format = format(&report);
    for (name, _, observation) in probes(&report) {
        for hop in join(observation, &format).path.hops {
            let joined_by = match hop {
                SeenHop::Sidecar(seen) | SeenHop::Gateway(seen) => seen.joined_by,
                SeenHop::Destination(seen) => seen.joined_by,
            };
            assert!(matches!(joined_by, JoinedBy::Sockets | JoinedBy::SocketsAndToken), "{name}: {joined_by:?}");
        }
    }
}

#[test]
fn without_one_witness_no_path_is_complete_and_right() {
    let report = recorded();
    let format = format(&report);
    for (name, step, observation) in probes(&report) {
        let expect = step.expect.as_ref().expect("a probe has an expectation");
        let directory = directory(&report, observation);
        let mut without = Vec::new();
        if observation.sidecar.as_ref().is_some_and(|lines| !lines.is_empty()) {
            without.push(Observation { sidecar: Some(Vec::new()), ..observation.clone() });
        }
        if observation.gateways.iter().any(|g| !g.lines.is_empty()) {
            let mut gone = observation.clone();
            gone.gateways.iter_mut().for_each(|g| g.lines.clear());
            without.push(gone);
        }
        if !observation.servers.is_empty() {
            without.push(Observation { servers: Vec::new(), ..observation.clone() });
        }
        for gone in without {
            let joined = join(&gone, &format);
            let trusted = joined.state == State::Closed;
            let right = check(expect, &gone, &joined, &directory).is_empty();
            assert!(!(trusted && right), "{name}: nobody missed a witness");
        }
    }
}
