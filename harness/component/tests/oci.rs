//! The `oci` source against a registry on loopback: what is taken, and what is refused.

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::path::Path;
use std::process::Command;

use common::{Heard, host, pins};
use egress_component::{Cache, Error, Family, Origin, ProgramName, Silent, SourceKind, Store, Versions};
use registry::{LoopbackRegistry, layer, noise};

/// A program of a family, pinned to a Go module that is not used here, and a file of the same image.
const PINS: &str = r"
hubs: {istio: nowhere.invalid/hub, kubernetes: nowhere.invalid/hub}
modules:
  hello: {module: hello.test, version: 1.2.3, ldflags: [-X main.version=1.2.3]}
components:
- name: hello
  family: istio
  source: {go: {module: hello, package: hello.test}}
  images: [{hub: istio, name: tools/hello, tag: 'v{version}', path: usr/bin/hello}]
  check: {args: [--version], pattern: 'hello version (\S+)'}
- name: notes
  family: istio
  kind: file
  entry: notes.txt
  source: {go-file: {module: hello, path: main.go, sha256: d3a3fe34ac9f314ddd5e6db9c049d8deb405f6088ae398608f85a3d7007c7c28}}
  images: [{hub: istio, name: tools/hello, tag: 'v{version}', path: share/notes.txt}]
- name: other
  source: {go: {module: hello, package: hello.test}}
  images: [{hub: kubernetes, name: other, path: other}]
  check: {args: [--version], pattern: 'hello version (\S+)'}
";

fn program(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho hello version {version}\n").into_bytes()
}

fn hello() -> ProgramName {
    ProgramName::new("hello")
}

/// Version 9.9.9, which is pinned nowhere, from that registry.
fn asked(registry: &LoopbackRegistry, version: &str) -> Versions {
    let hubs = [(Family::Istio, format!("{}/mine", registry.host))].into();
    Versions { istio: Some(version.to_owned()), hubs, ..Versions::default() }
}

fn store(cache: &Path, versions: &Versions) -> Store {
    let cache = Cache::open(cache.to_owned(), None).unwrap();
    Store::new(pins(PINS).at(versions).unwrap(), cache, host())
}

async fn ensure(cache: &Path, registry: &LoopbackRegistry) -> Result<egress_component::Programs, Error> {
    store(cache, &asked(registry, "9.9.9")).ensure(&[hello()], &Silent).await
}

fn usual() -> Vec<Vec<u8>> {
    let (old, new, noise) = (program("0.0.1"), program("9.9.9"), noise(40_000));
    vec![
        layer(&[("usr/bin/hello", &old), ("share/notes.txt", b"notes"), ("noise", &noise)]),
        layer(&[("usr/bin/hello", &new)]),
    ]
}

/// What a cache has that is no object: nothing must be left there.
fn downloads(cache: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cache.join("downloads")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn an_image_for_several_platforms_gives_the_program_of_this_one() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    let ours = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let foreign = [layer(&[("usr/bin/hello", b"of another machine")])];
    let index = registry.put_index("mine/tools/hello", "v9.9.9", &[("s390x", &foreign), (ours, &usual())]);
    let store = store(dir.path(), &asked(&registry, "9.9.9"));
    let names = [hello(), ProgramName::new("notes")];
    let heard = Heard::default();
    let programs = store.ensure(&names, &heard).await.unwrap();
    let said = Command::new(programs.path(&hello())).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "hello version 9.9.9\n");
    assert_eq!(std::fs::read_to_string(programs.path(&names[1])).unwrap(), "notes");
    assert_eq!(programs.get(&hello()).unwrap().source, SourceKind::Oci);
    assert_eq!(heard.lines().first().unwrap(), "started hello 9.9.9 oci 1/2");
    // The list names the place and the digest; two components of one image pull it once, and nothing is left of it.
    let status = &store.status()[0];
    assert_eq!(status.source, SourceKind::Oci);
    assert_eq!(status.from, format!("{}/mine/tools/hello:v9.9.9@{index}", registry.host));
    assert!(matches!(status.origin, Origin::Cached { .. }));
    let asked = registry.heard();
    assert_eq!(asked.iter().filter(|line| line.contains("/blobs/")).count(), 2, "{asked:?}");
    assert_eq!(downloads(dir.path()), Vec::<String>::new());
    // What is there is not asked for again.
    store.ensure(&names, &Silent).await.unwrap();
    assert_eq!(registry.heard(), asked);
}

#[tokio::test]
async fn a_registry_that_wants_a_token_gets_one() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put("mine/tools/hello", "v9.9.9", &usual());
    registry.fault(|faults| faults.token = true);
    ensure(dir.path(), &registry).await.unwrap();
    assert!(registry.heard().contains(&"GET /token".to_owned()), "{:?}", registry.heard());
}

#[tokio::test]
async fn too_many_requests_are_waited_for() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put("mine/tools/hello", "v9.9.9", &usual());
    registry.fault(|faults| faults.too_many = 1);
    let heard = Heard::default();
    store(dir.path(), &asked(&registry, "9.9.9")).ensure(&[hello()], &heard).await.unwrap();
    assert_eq!(heard.count("too many requests: waiting"), 1, "{:?}", heard.lines());
}

#[tokio::test]
async fn a_layer_that_breaks_off_is_continued() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put("mine/tools/hello", "v9.9.9", &usual());
    registry.fault(|faults| faults.truncate = 2);
    ensure(dir.path(), &registry).await.unwrap();
    let later = registry.heard().iter().filter(|l| l.contains("bytes=") && !l.contains("bytes=0-")).count();
    assert_eq!(later, 2, "{:?}", registry.heard());
}

#[tokio::test]
async fn a_layer_that_never_gets_further_is_an_error_that_keeps_what_came() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put("mine/tools/hello", "v9.9.9", &usual());
    registry.fault(|faults| (faults.truncate, faults.whole_only) = (1000, true));
    let error = ensure(dir.path(), &registry).await.unwrap_err().to_string();
    assert!(error.contains("came to an end after"), "{error}");
    assert_eq!(downloads(dir.path()).len(), 1, "{:?}", downloads(dir.path()));
    // And goes on from there another time.
    registry.fault(|faults| (faults.truncate, faults.whole_only) = (0, false));
    ensure(dir.path(), &registry).await.unwrap();
    assert!(registry.heard().iter().any(|l| l.contains("bytes=") && !l.contains("bytes=0-")));
    assert_eq!(downloads(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_has_another_digest_is_thrown_away() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put_index("mine/tools/hello", "v9.9.9", &[("amd64", &usual()), ("arm64", &usual())]);
    registry.fault(|faults| faults.wrong_layer = true);
    let error = ensure(dir.path(), &registry).await.unwrap_err();
    assert!(matches!(&error, Error::Hash { what, .. } if what.contains("tools/hello")), "{error}");
    registry.fault(|faults| (faults.wrong_layer, faults.wrong_manifest) = (false, true));
    let error = ensure(dir.path(), &registry).await.unwrap_err().to_string();
    assert!(error.contains("Invalid digest"), "{error}");
    assert_eq!(downloads(dir.path()), Vec::<String>::new());
    assert!(matches!(store(dir.path(), &asked(&registry, "9.9.9")).status()[0].origin, Origin::Missing));
}

#[tokio::test]
async fn a_layer_that_reaches_out_of_the_image_is_refused_and_writes_nothing() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    let cache = dir.path().join("cache");
    let good = program("9.9.9");
    let evil = layer(&[("usr/bin/hello", &good), ("../../../../../escaped", b"evil")]);
    registry.put("mine/tools/hello", "v9.9.9", &[evil]);
    let error = ensure(&cache, &registry).await.unwrap_err().to_string();
    assert!(error.contains("a layer has an entry that leaves the image: \"../../../../../escaped\""), "{error}");
    let there: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(there, ["cache"]);
    assert!(!Path::new("/escaped").exists());
    // An absolute path is one inside the image.
    let absolute = format!("{}/absolute", dir.path().display());
    registry.put("mine/tools/hello", "v9.9.9", &[layer(&[("/usr/bin/hello", &good), (&absolute, b"evil")])]);
    ensure(&cache, &registry).await.unwrap();
    assert!(!Path::new(&absolute).exists());
}

#[tokio::test]
async fn a_program_of_another_version_than_its_tag_is_refused() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    registry.put("mine/tools/hello", "v9.9.9", &[layer(&[("usr/bin/hello", &program("9.9.8"))])]);
    let error = ensure(dir.path(), &registry).await.unwrap_err();
    assert!(
        matches!(&error, Error::Version { expected, seen, .. } if expected == "9.9.9" && seen == "9.9.8"),
        "{error}"
    );
    registry.put("mine/tools/hello", "v9.9.9", &[layer(&[("usr/bin/other", b"x")])]);
    let error = ensure(dir.path(), &registry).await.unwrap_err().to_string();
    assert!(error.contains("there is no file usr/bin/hello"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_an_error_with_the_versions_that_need_none() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    let error = ensure(dir.path(), &registry).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no image {}/mine/tools/hello:v9.9.9", registry.host));
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.starts_with("Istio 1.2.3 can be had without an image"), "{help}");
    let gone = Versions { hubs: [(Family::Istio, "127.0.0.1:1/x".to_owned())].into(), ..asked(&registry, "9.9.9") };
    let error = store(dir.path(), &gone).ensure(&[hello()], &Silent).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1/x/tools/hello:v9.9.9 cannot be had"), "{error}");
}

#[tokio::test]
async fn what_has_no_image_in_reach_is_built_as_ever() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), LoopbackRegistry::start().await);
    // Pinned, and only looked for in an image first: one registry has none, the other is not there.
    for hub in [registry.host.clone(), "127.0.0.1:1".to_owned()] {
        let cache = dir.path().join(hub.replace(':', "-"));
        let yaml = PINS.replace("kubernetes: nowhere.invalid/hub", &format!("kubernetes: '{hub}/hub'"));
        let pins = pins(&yaml).at(&Versions { istio: Some("1.2.3".into()), ..Versions::default() }).unwrap();
        let store = Store::new(pins, Cache::open(cache, None).unwrap(), host());
        let heard = Heard::default();
        let programs = store.ensure(&[ProgramName::new("other")], &heard).await.unwrap();
        assert_eq!(programs.get(&ProgramName::new("other")).unwrap().source, SourceKind::Go);
        assert_eq!(heard.count("step go build"), 1);
    }
    registry.put("hub/other", "1.2.3", &[layer(&[("other", &program("1.2.3"))])]);
    let yaml = PINS.replace("kubernetes: nowhere.invalid/hub", &format!("kubernetes: '{}/hub'", registry.host));
    let pins = pins(&yaml).at(&Versions { istio: Some("1.2.3".into()), ..Versions::default() }).unwrap();
    let store = Store::new(pins, Cache::open(dir.path().join("third"), None).unwrap(), host());
    let programs = store.ensure(&[ProgramName::new("other")], &Silent).await.unwrap();
    assert_eq!(programs.get(&ProgramName::new("other")).unwrap().source, SourceKind::Oci);
}
