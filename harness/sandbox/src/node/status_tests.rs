use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ended(code: i32) -> Run {
    Run::Terminated(Terminated {
        exit_code: code,
        reason: "Error".into(),
        message: String::new(),
        started_at: at(0),
        finished_at: at(1),
        id: "id".into(),
    })
}

fn pod(policy: RestartPolicy, main: Vec<Run>) -> PodState {
    let main = main.into_iter().map(|run| ContainerState { run, ..ContainerState::new("c", "i", false) });
    PodState::new(at(0), policy, vec![], main.collect())
}

fn running() -> Run {
    Run::Running { since: at(0), id: "id".into() }
}

fn waiting() -> Run {
    Run::Waiting { reason: "CrashLoopBackOff".into(), message: String::new() }
}

fn initialized(state: &PodState) -> bool {
    state.init.iter().all(ContainerState::init_done)
}

const NODE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == name).unwrap()
}

#[test]
fn phases_follow_from_the_containers() {
    use RestartPolicy::{Always, Never, OnFailure};
    for (policy, main, phase) in [
        (Always, vec![waiting()], Phase::Pending),
        (Always, vec![running(), waiting()], Phase::Running),
        (Always, vec![ended(0)], Phase::Running),
        (Never, vec![ended(0), ended(0)], Phase::Succeeded),
        (Never, vec![ended(0), running()], Phase::Running),
        (Never, vec![ended(0), ended(3)], Phase::Failed),
        (OnFailure, vec![ended(3)], Phase::Running),
        (OnFailure, vec![ended(0)], Phase::Succeeded),
    ] {
        assert_eq!(pod(policy, main.clone()).phase(), phase, "{policy:?} {main:?}");
    }
}

#[test]
fn a_crashed_container_that_waits_is_not_pending() {
    let mut state = pod(RestartPolicy::Always, vec![waiting()]);
    let Run::Terminated(t) = ended(1) else { unreachable!() };
    state.main[0].last = Some(t);
    assert_eq!(state.phase(), Phase::Running);
    let status = state.status(NODE, at(2));
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
}

#[test]
fn init_containers_gate_the_pod() {
    let mut state =
        pod(RestartPolicy::Always, vec![Run::Waiting { reason: "PodInitializing".into(), message: String::new() }]);
    state.init = vec![ContainerState::new("setup", "i", false), ContainerState::new("proxy", "i", true)];
    assert!(!initialized(&state));
    let status = state.status(NODE, at(1));
    assert_eq!(condition(&status, "Initialized")["message"], "containers with incomplete status: [setup proxy]");
    state.init[0].run = ended(0);
    state.init[1].run = running();
    assert!(!initialized(&state));
    state.init[1].started = true;
    assert!(initialized(&state));
    let status = state.status(NODE, at(2));
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
    assert_eq!(status["initContainerStatuses"][1]["ready"], false);
    assert_eq!(status["phase"], "Pending");
    state.restart_policy = RestartPolicy::Never;
    state.init[0].run = ended(2);
    assert_eq!(state.phase(), Phase::Failed);
}

#[test]
fn a_pod_is_ready_when_sidecars_containers_and_gates_are() {
    let mut state = pod(RestartPolicy::Always, vec![running()]);
    let mut sidecar = ContainerState::new("proxy", "i", true);
    (sidecar.started, sidecar.run) = (true, running());
    state.init = vec![sidecar];
    state.main[0].ready = true;
    let ready = |state: &mut PodState, when| {
        let status = state.status(NODE, at(when));
        let c = condition(&status, "Ready").clone();
        (c["status"] == "True", c["lastTransitionTime"].as_str().unwrap().to_owned())
    };
    let (holds, first) = ready(&mut state, 1);
    assert!(!holds);
    assert_eq!(ready(&mut state, 2), (false, first));
    state.init[0].ready = true;
    let (holds, second) = ready(&mut state, 3);
    assert!(holds);
    assert_eq!(second, at(3).to_string());
    state.closed_gates = vec!["example.com/gate".into()];
    assert!(!ready(&mut state, 4).0);
}

#[test]
fn completed_pods_say_so_and_keep_their_address() {
    let mut state = pod(RestartPolicy::Never, vec![ended(0)]);
    state.pod_ip = Some(Ipv4Addr::new(10, 244, 0, 7));
    let status = state.status(NODE, at(5));
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    assert_eq!(condition(&status, "Initialized")["status"], "True");
    assert_eq!(status["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.244.0.7"}]));
    assert!(status.get("qosClass").is_none());
}

#[test]
fn an_end_of_its_own_overrides_the_containers() {
    let mut state = pod(RestartPolicy::Always, vec![running()]);
    state.ended = Some((Phase::Failed, "DeadlineExceeded".into(), "too long".into()));
    let status = state.status(NODE, at(5));
    assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Failed"), Some("DeadlineExceeded")));
}
