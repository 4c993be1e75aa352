//! The same report in every format.

use super::*;
use crate::access_log::Record;
use crate::check::{Fault, Finding};
use crate::path::{JoinedBy, Path, ProxySeen, SeenHop};
use crate::scenario::schema::Level;

fn step(name: &str, outcome: Outcome) -> StepResult {
    StepResult { name: name.into(), outcome, duration_ms: 120, ..StepResult::default() }
}

fn path(cluster: &str, port: u16) -> Path {
    let mut record = Record::default();
    record.set("upstream_cluster", cluster);
    record.set("downstream_remote_address", &format!("10.244.0.8:{port}"));
    let line = format!("{cluster} from port {port}");
    let proxy = ProxySeen { pod: "ns/meshed".into(), record, line, joined_by: JoinedBy::SocketsAndToken };
    Path { hops: vec![SeenHop::Sidecar(proxy)] }
}

fn scenario(id: &str, outcome: Outcome, steps: Vec<StepResult>) -> ScenarioResult {
    ScenarioResult {
        id: id.into(),
        title: format!("The claim of {id} <holds>"),
        outcome,
        profile: "registry-only".into(),
        duration_ms: 1234,
        steps,
        ..ScenarioResult::default()
    }
}

fn report() -> Report {
    let failed = StepResult {
        command: Some(
            "kubectl exec deploy/meshed -- curl -H 'Authorization: Bearer abcdef0123456789' http://x/".into(),
        ),
        client: Some(ClientSummary { exit: 0, status: Some(200), remote: None, total_ms: 2.5 }),
        path: Some(path("outbound|80||x", 50000)),
        findings: vec![Finding {
            what: "path[0].sidecar.cluster".into(),
            expected: "BlackHoleCluster".into(),
            seen: "outbound|80||x".into(),
            at: "ns/meshed: token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln".into(),
            fault: Fault::Mesh,
        }],
        notes: vec!["a note".into()],
        applied: vec!["ServiceEntry x".into()],
        gate_ms: Some(150),
        ..step("blocked", Outcome::Failed)
    };
    let explained = StepResult {
        explanation: Some("client: curl\nreproduce: run\n".into()),
        reason: Some("the same request failed, then passed".into()),
        ..step("twice", Outcome::Flaky)
    };
    let with_reason = |mut scenario: ScenarioResult, reason: &str| {
        scenario.reason = Some(reason.into());
        scenario
    };
    Report {
        schema: SCHEMA,
        tool: "egress-conformance 0.1.0".into(),
        commit: "0123abc".into(),
        command: "egress-conformance run 'gateway/*'".into(),
        started: "2026-11-21T01:00:00Z".parse().expect("a time"),
        duration_ms: 5678,
        cluster: ClusterInfo {
            kind: "sandbox".into(),
            istio: "1.31.0".into(),
            envoy: "1.40.0".into(),
            kubernetes: "v1.36.3".into(),
            capabilities: vec!["egress-gateway".into()],
            servers: std::collections::BTreeMap::new(),
        },
        scenarios: vec![
            scenario("registry-only/blocks", Outcome::Failed, vec![step("first", Outcome::Passed), failed]),
            scenario("registry-only/opens", Outcome::Passed, vec![step("open", Outcome::Passed)]),
            scenario("gateway/loops", Outcome::Flaky, vec![explained]),
            with_reason(scenario("gateway/old", Outcome::Skipped, vec![]), "istio 1.31.0 is not <1.24"),
            with_reason(scenario("dns/captures", Outcome::Unsupported, vec![]), "dns-capture"),
            with_reason(scenario("dns/breaks", Outcome::Errored, vec![]), "the gateway never became ready"),
        ],
    }
}

#[test]
fn as_text() {
    let report = report();
    let mut text: String = report.scenarios.iter().map(|s| text::scenario_line(s, false)).collect();
    text.push('\n');
    text.extend(report.scenarios.iter().map(|s| text::failure(s, false)));
    text.push_str(&text::summary(&report, false));
    insta::assert_snapshot!(text);
    assert_eq!(text::failure(&report.scenarios[1], false), "");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let report = report();
    let with = text::scenario_line(&report.scenarios[0], true);
    assert!(with.starts_with("\u{1b}[31mfailed      \u{1b}[0m registry-only/blocks"), "{with:?}");
    assert!(!text::summary(&report, false).contains('\u{1b}'));
    assert!(text::summary(&report, true).contains('\u{1b}'));
}

#[test]
fn as_junit() {
    insta::assert_snapshot!(to_junit(&report()).expect("it can be written"));
}

#[test]
fn as_json_and_back_without_secrets() {
    let report = report();
    let json = to_json(&report);
    for secret in ["abcdef0123456789", "eyJhbGciOiJSUzI1NiJ9"] {
        assert!(!json.contains(secret), "{secret}");
        assert!(!to_junit(&report).expect("it can be written").contains(secret));
        assert!(!report.scenarios.iter().any(|s| text::failure(s, false).contains(secret)));
    }
    let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(value["totals"]["scenarios"], 6);
    assert_eq!(value["scenarios"][2]["outcome"], "flaky");
    let read = from_json(&json).expect("it can be read");
    assert_eq!(read.totals(), report.totals());
    assert_eq!(to_json(&read), json);
    // What carries no secret comes back as it was.
    let clean = Report { scenarios: report.scenarios[1..].to_vec(), ..report };
    assert_eq!(from_json(&to_json(&clean)).expect("it can be read"), clean);
}

#[test]
fn a_newer_minor_version_is_read_and_a_newer_schema_is_not() {
    let newer = to_json(&report()).replacen("\"schema\": 1,", "\"schema\": 1, \"weather\": {\"sun\": true},", 1);
    assert!(from_json(&newer).is_ok());
    let next = newer.replacen("\"schema\": 1,", "\"schema\": 2,", 1);
    assert!(matches!(from_json(&next), Err(ReadError::TooNew { found: 2 })));
    for wrong in ["", "{}", "[]", "{\"schema\": 1}"] {
        assert!(matches!(from_json(wrong), Err(ReadError::NotAReport(_))), "{wrong}");
    }
}

#[test]
fn the_exit_code_is_the_first_that_applies() {
    use Outcome::{Errored, Failed, Flaky, Inconclusive, Passed, Skipped, Unsupported};
    let code = |outcomes: &[Outcome]| {
        let scenarios = outcomes.iter().map(|o| scenario("a/b", *o, vec![])).collect();
        Report { scenarios, ..report() }.exit_code(false)
    };
    assert_eq!(report().exit_code(true), 130);
    for (outcomes, want) in [
        (&[][..], 2),
        (&[Passed, Failed, Errored], 1),
        (&[Passed, Flaky], 1),
        (&[Passed, Errored], 3),
        (&[Inconclusive, Skipped], 3),
        (&[Passed, Skipped, Unsupported], 0),
    ] {
        assert_eq!(code(outcomes), want, "{outcomes:?}");
    }
}

#[test]
fn a_scenario_is_as_bad_as_its_weightiest_step() {
    use Outcome::{Errored, Failed, Flaky, Inconclusive, Passed};
    let of = |outcomes: &[Outcome]| combine(&outcomes.iter().map(|o| step("s", *o)).collect::<Vec<_>>());
    assert_eq!(of(&[Passed, Passed]), Passed);
    assert_eq!(of(&[Passed, Inconclusive]), Inconclusive);
    assert_eq!(of(&[Inconclusive, Errored]), Errored);
    assert_eq!(of(&[Errored, Flaky, Passed]), Flaky);
    assert_eq!(of(&[Flaky, Failed, Errored]), Failed);
    // Nothing was looked at, so nothing is known.
    assert_eq!(of(&[]), Inconclusive);
    assert_eq!(StepResult::default().outcome, Inconclusive);
}

#[test]
fn two_reports_differ_in_verdicts_and_paths_only() {
    let (first, mut second) = (report(), report());
    second.started = "2027-01-01T00:00:00Z".parse().expect("a time");
    second.scenarios[0].duration_ms = 9;
    // Another port and another line are no other path.
    second.scenarios[0].steps[1].path = Some(path("outbound|80||x", 61000));
    assert!(compare(&first, &second).is_empty());
    assert_eq!(compare(&first, &second).to_string(), "the reports agree on every verdict and path\n");
    second.scenarios[0].steps[1].path = Some(path("BlackHoleCluster", 61000));
    second.scenarios[1].outcome = Outcome::Flaky;
    second.scenarios.remove(5);
    insta::assert_snapshot!(compare(&first, &second).to_string());
}

#[test]
fn names_that_mean_the_same_are_no_difference() {
    let run = |namespace: &str, address: &str| {
        let mut report = report();
        report.cluster.servers = [("my-server".into(), vec![address.parse().expect("an address")])].into();
        let cluster = format!("outbound|80||w.{namespace}.svc, {address}");
        let seen = StepResult { path: Some(path(&cluster, 1)), ..step("seen", Outcome::Passed) };
        let mut result = scenario("g/c", Outcome::Passed, vec![seen]);
        result.namespace = namespace.into();
        report.scenarios = vec![result];
        report
    };
    assert!(compare(&run("ec-1", "192.0.2.1"), &run("ec-2", "192.0.2.10")).is_empty());
    let mut other = run("ec-2", "192.0.2.1");
    other.scenarios[0].namespace = "ec-3".into();
    assert!(!compare(&run("ec-1", "192.0.2.1"), &other).is_empty());
}

#[test]
fn repeated_scenarios_are_compared_run_by_run() {
    let run = |outcomes: &[Outcome]| {
        let mut report = report();
        report.scenarios = outcomes.iter().map(|o| scenario("g/c", *o, Vec::new())).collect();
        report
    };
    let steady = run(&[Outcome::Passed, Outcome::Passed]);
    assert!(compare(&steady, &steady).is_empty());
    let differs = compare(&steady, &run(&[Outcome::Failed, Outcome::Passed]));
    assert_eq!(differs.differences.len(), 1);
    assert_eq!(compare(&steady, &run(&[Outcome::Passed])).differences[0].scenario, "g/c (run 2)");
}

fn suite() -> Vec<(&'static str, Level)> {
    vec![
        ("registry-only/blocks", Level::Core),
        ("registry-only/opens", Level::Extended),
        ("gateway/loops", Level::Core),
        ("gateway/old", Level::Extended),
        ("dns/captures", Level::Core),
        ("dns/never-asked", Level::Core),
        ("dns/breaks", Level::Extended),
    ]
}

#[test]
fn as_a_conformance_report() {
    let text = to_conformance(&report(), suite());
    assert!(!text.contains("eyJhbGciOiJSUzI1NiJ9"));
    insta::assert_snapshot!(text);
}

#[test]
fn only_what_passed_each_time_it_ran_is_conformant() {
    let result = |outcomes: &[Outcome]| {
        let scenarios = outcomes.iter().map(|o| scenario("a/b", *o, vec![])).collect();
        let text = to_conformance(&Report { scenarios, ..report() }, [("a/b", Level::Core)]);
        text.lines().find_map(|l| l.trim().strip_prefix("result: ")).expect("a result").to_owned()
    };
    use Outcome::{Errored, Failed, Flaky, Inconclusive, Passed, Skipped, Unsupported};
    assert_eq!(result(&[Passed, Passed]), "conformant");
    for partial in [&[][..], &[Skipped], &[Unsupported]] {
        assert_eq!(result(partial), "partial", "{partial:?}");
    }
    for not in [Failed, Flaky, Inconclusive, Errored] {
        assert_eq!(result(&[Passed, not]), "not-conformant", "{not}");
    }
}

#[test]
fn as_a_summary_for_github() {
    let text = to_github(&report());
    assert!(!text.contains("abcdef0123456789"));
    insta::assert_snapshot!(text);
}

fn columns() -> Vec<matrix::Column> {
    let column = |name: &str, report| matrix::Column {
        name: name.into(),
        report,
        link: format!("{}.json", name.replace(' ', "-")),
        problem: None,
    };
    let (mut first, mut same) = (report(), report());
    first.scenarios.truncate(3);
    same.scenarios.truncate(3);
    let mut other = same.clone();
    other.scenarios[1].outcome = Outcome::Failed;
    other.scenarios[0].steps[1].path = Some(path("BlackHoleCluster", 61000));
    let mut broken = column("Envoy 1.2.3", None);
    broken.problem = Some("it did not start".into());
    vec![
        column("Envoy 1.40.0", Some(first)),
        column("Envoy 1.39.3", Some(same)),
        column("Envoy 1.38.3", Some(other)),
        broken,
    ]
}

#[test]
fn as_a_matrix() {
    let matrix = matrix::Matrix::new(columns());
    assert!(!matrix.agrees());
    insta::assert_snapshot!(format!("{}\n---\n{}", matrix.to_text(true), matrix.to_markdown()));
}

#[test]
fn a_matrix_says_when_all_is_the_same() {
    let mut columns = columns();
    columns.truncate(2);
    columns.iter_mut().for_each(|c| c.report.as_mut().expect("a report").scenarios.drain(..1).for_each(drop));
    let matrix = matrix::Matrix::new(columns);
    assert!(matrix.agrees());
    let text = matrix.to_text(false);
    assert!(text.contains("and 1 that passed in the same way everywhere"), "{text}");
    assert!(text.contains("Envoy 1.39.3 against Envoy 1.40.0:\nthe reports agree on every verdict and path"), "{text}");
    assert!(matrix.to_markdown().contains("Every verdict and path is the same everywhere."));
}
