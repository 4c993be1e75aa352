//! Secrets stay out of what is written down: planted in a scenario, they are looked for in every report, in what was
//! printed and in every log that was kept. One run on a real mesh.
//!
//! What is looked for: `fixtures/secrets`, the tokens that pods had mounted, and the sandbox's own private keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use egress_conformance::cluster::preflight;
use egress_core::report::{Outcome, from_json};

/// What stands in `fixtures/secrets`, without the key of the Secret.
const PLANTED: [&str; 6] = [
    "planted-bearer-5f0e1c77",
    "planted-apikey-8d21b3aa",
    "planted-cookie-41c9d0e2",
    "planted-password-90ab34cd",
    "planted-inurl-77e1f2c3",
    "planted-secret-2b7c90fe",
];
/// How long the run may take.
const BOUND: Duration = Duration::from_secs(600);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/secrets")
}

/// A secret by what it is, in each form in which it could be written down.
type Secrets = BTreeMap<String, String>;

fn planted() -> Secrets {
    let mut secrets = Secrets::new();
    for text in PLANTED {
        secrets.insert(text.to_owned(), text.to_owned());
        secrets.insert(format!("{text} in base64"), BASE64_STANDARD.encode(text));
    }
    for user in ["somebody:planted-password-90ab34cd", "somebody:planted-inurl-77e1f2c3"] {
        secrets.insert(format!("{user} in base64"), BASE64_STANDARD.encode(user));
    }
    let manifest = fixtures().join("planted/everywhere/secret.yaml");
    add_keys(&mut secrets, &manifest);
    secrets
}

/// The lines of every private key in a file, as they are and in base64 with the whole key.
fn add_keys(secrets: &mut Secrets, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut inside = false;
    let mut key = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY") {
            inside = true;
            key.clear();
        }
        if inside {
            key += line;
            key += "\n";
            if !line.starts_with("-----") {
                secrets.insert(format!("a line of the key in {name} ({})", secrets.len()), line.to_owned());
            }
        }
        if line.starts_with("-----END") && inside {
            inside = false;
            // Without its last characters, which depend on what follows.
            let all = BASE64_STANDARD.encode(&key);
            secrets.insert(format!("the key in {name}, in base64"), all[..all.len() - 8].to_owned());
        }
    }
    for (field, data) in text.lines().filter_map(|line| line.trim().trim_matches(['"', ',']).split_once(':')) {
        if field.contains("client-key-data") {
            secrets.insert(format!("the client's key of {name}"), data.trim().trim_matches(['"', ',']).to_owned());
        }
    }
}

/// The keys, kubeconfigs and mounted tokens of the sandbox that lives in this folder now.
fn add_of_sandbox(secrets: &mut Secrets, folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_of_sandbox(secrets, &path);
        } else if name.ends_with(".key") || name.contains("kubeconfig") {
            add_keys(secrets, &path);
        } else if name.ends_with("token") {
            let token = std::fs::read_to_string(&path).unwrap_or_default();
            // Head and payload may be cut from the signature, which is what is secret of it.
            if let Some(signature) = token.trim().rsplit('.').next().filter(|part| part.len() > 40) {
                secrets.insert(format!("a token at {}", path.display()), signature.to_owned());
            }
        }
    }
}

/// One run with every kind of report. Looks for the sandbox's own secrets while it lives.
fn run(folder: &Path, secrets: &mut Secrets) -> Output {
    let runtime = folder.join("run");
    std::fs::create_dir(&runtime).expect("a folder can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egress-conformance"));
    command.arg("run").arg("--scenarios").arg(fixtures());
    for (format, file) in [("json", "report.json"), ("junit", "report.xml"), ("text", "report.txt")] {
        command.arg("--report").arg(format!("{format}={}", folder.join("kept").join(file).display()));
    }
    command.env("XDG_STATE_HOME", folder.join("kept/state")).env("XDG_RUNTIME_DIR", &runtime).env("RUST_LOG", "debug");
    let output = |name: &str| std::fs::File::create(folder.join(name)).expect("a file can be made");
    command.stdin(Stdio::null()).stdout(output("stdout")).stderr(output("stderr"));
    let mut child = command.spawn().expect("the command starts");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the command can be waited for") {
            break status;
        }
        if begin.elapsed() > BOUND {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the run did not end within {BOUND:?}");
        }
        add_of_sandbox(secrets, &runtime);
        std::thread::park_timeout(Duration::from_millis(200));
    };
    let said = |name: &str| std::fs::read(folder.join(name)).expect("it was written");
    Output { status, stdout: said("stdout"), stderr: said("stderr") }
}

/// Each secret that stands in a file below, and where.
fn look_below(folder: &Path, secrets: &Secrets, found: &mut Vec<String>, read: &mut usize) {
    for entry in std::fs::read_dir(folder).expect("what was kept can be read").flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look_below(&path, secrets, found, read);
            continue;
        }
        let bytes = std::fs::read(&path).expect("what was kept can be read");
        look_into(&path.display().to_string(), &String::from_utf8_lossy(&bytes), secrets, found);
        *read += 1;
    }
}

fn look_into(place: &str, text: &str, secrets: &Secrets, found: &mut Vec<String>) {
    for (what, secret) in secrets {
        if let Some(line) = text.lines().find(|line| line.contains(secret.as_str())) {
            let at = line.find(secret.as_str()).unwrap_or_default();
            let begin = line.char_indices().map(|(at, _)| at).filter(|n| *n <= at).rev().nth(60).unwrap_or(0);
            found.push(format!("{what} in {place}: ...{}", &line[begin..at]));
        }
    }
}

#[test]
fn secrets_are_in_no_report_and_no_log() {
    if let Err(unfit) = preflight() {
        assert!(std::env::var_os("EGRESS_REQUIRE_SANDBOX").is_none(), "{unfit}");
        eprintln!("left out: {unfit}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut secrets = planted();
    let own = secrets.len();
    let output = run(folder.path(), &mut secrets);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "the scenario fails:\n{}{said}", String::from_utf8_lossy(&output.stdout));
    assert!(secrets.len() > own + 10, "the sandbox's own keys and tokens were seen: {:?}", secrets.keys());
    for needed in ["a token at", "the client's key of kubeconfig", "service-account.key"] {
        assert!(secrets.keys().any(|what| what.contains(needed)), "{needed}: {:?}", secrets.keys());
    }
    // The control: everything that was planted has been where it could leak from.
    let report = std::fs::read_to_string(folder.path().join("kept/report.json")).expect("the report was written");
    let parsed = from_json(&report).expect("it is a report");
    let steps = &parsed.scenarios[0].steps;
    assert!(steps.len() == 6 && steps.iter().all(|step| step.outcome == Outcome::Failed), "{report}");
    let marks = report.matches("[redacted]").count();
    assert!(marks >= 8, "only {marks} secrets were taken out of the report:\n{report}");
    let mut found = Vec::new();
    let mut read = 0;
    look_below(&folder.path().join("kept"), &secrets, &mut found, &mut read);
    assert!(read > 12, "only {read} files were kept");
    look_into("standard output", &String::from_utf8_lossy(&output.stdout), &secrets, &mut found);
    look_into("standard error", &said, &secrets, &mut found);
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
}
