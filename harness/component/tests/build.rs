//! The `go` source and the cache, with a real Go and a tiny module: made once, kept, checked, repaired.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{HELLO, Heard, host, script, store};
use egress_component::{Cache, Error, Origin, ProgramName, Silent, Store};

fn hello() -> ProgramName {
    ProgramName::new("hello")
}

#[tokio::test]
async fn builds_once_and_then_uses_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), HELLO, host());
    assert_eq!(store.status()[0].origin, Origin::Missing);

    let heard = Heard::default();
    let first = store.ensure(&[hello()], &heard).await.unwrap();
    let said = Command::new(first.path(&hello())).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "hello version 1.2.3\n");
    assert_eq!(heard.lines().first().unwrap(), "started hello 1.2.3 go 1/1");
    assert_eq!(heard.lines().last().unwrap(), "finished hello");

    let heard = Heard::default();
    let second = store.ensure(&[hello(), hello()], &heard).await.unwrap();
    assert_eq!(heard.lines(), Vec::<String>::new());
    assert_eq!((first.identity(), first), (second.identity(), second));
    assert!(matches!(store.status()[0].origin, Origin::Cached { read_only: false, .. }));
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn two_at_once_build_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (store(dir.path(), HELLO, host()), store(dir.path(), HELLO, host()));
    let (heard_one, heard_two) = (Heard::default(), Heard::default());
    let names = [hello()];
    let (a, b) = tokio::join!(one.ensure(&names, &heard_one), two.ensure(&names, &heard_two));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(heard_one.count("step go build") + heard_two.count("step go build"), 1);
    let note = format!("waiting for process {}, making hello 1.2.3 since", std::process::id());
    assert!(heard_one.count(&note) + heard_two.count(&note) >= 1, "{:?} {:?}", heard_one.lines(), heard_two.lines());
}

/// Runs the helper test below in another process, on the same cache.
fn other_process(cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_ensure_in_another_process", "--nocapture"])
        .env("EGRESS_COMPONENT_TEST_CACHE", cache)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing unless started by [`other_process`].
#[tokio::test]
async fn helper_ensure_in_another_process() {
    let Some(cache) = std::env::var_os("EGRESS_COMPONENT_TEST_CACHE") else { return };
    let heard = Heard::default();
    store(Path::new(&cache), HELLO, host()).ensure(&[hello()], &heard).await.unwrap();
    println!("BUILDS {}", heard.count("step go build"));
}

#[test]
fn two_processes_build_once() {
    let dir = tempfile::tempdir().unwrap();
    let children = [other_process(dir.path()), other_process(dir.path())];
    let builds: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().find_map(|line| line.split_once("BUILDS ")).unwrap().1.to_owned()
        })
        .collect();
    assert!(builds == ["1", "0"] || builds == ["0", "1"], "{builds:?}");
}

#[tokio::test]
async fn what_a_killed_writer_left_goes_and_what_a_living_one_has_stays() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path(), HELLO, host()));
    let (dead, alive) = (dir.path().join("tmp/aaaa.1"), dir.path().join("tmp/bbbb.1"));
    std::fs::create_dir_all(dead.join("scratch/module")).unwrap();
    std::fs::create_dir_all(&alive).unwrap();
    let lock = std::fs::File::create(dir.path().join("locks/bbbb.lock")).unwrap();
    lock.lock().unwrap();
    Cache::open(dir.path().to_owned(), None).unwrap();
    assert!(!dead.exists());
    assert!(alive.exists());
    drop(lock);
    Cache::open(dir.path().to_owned(), None).unwrap();
    assert!(!alive.exists());
}

#[tokio::test]
async fn a_truncated_object_is_made_anew_and_a_changed_one_is_found_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), HELLO, host());
    let path = store.ensure(&[hello()], &Silent).await.unwrap().path(&hello()).to_owned();
    assert!(store.verify().await[0].result.as_ref().unwrap().is_ok());

    let whole = std::fs::read(&path).unwrap();
    let replace = |bytes: &[u8]| {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    };
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    replace(&changed);
    let verified = store.verify().await.remove(0).result.unwrap();
    assert!(matches!(&verified, Err(Error::Hash { help, .. }) if help.contains("remove")), "{verified:?}");

    replace(&whole[..100]);
    assert_eq!(store.status()[0].origin, Origin::Missing);
    let again = store.ensure(&[hello()], &Silent).await.unwrap();
    assert_eq!(std::fs::metadata(again.path(&hello())).unwrap().len(), whole.len() as u64);
}

#[tokio::test]
async fn a_second_cache_is_used_and_not_written_to() {
    let (shared, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let built = store(shared.path(), HELLO, host()).ensure(&[hello()], &Silent).await.unwrap();
    let cache = Cache::open(own.path().to_owned(), Some(shared.path().to_owned())).unwrap();
    let reader = Store::new(common::pins(HELLO), cache, host());
    let heard = Heard::default();
    assert_eq!(reader.ensure(&[hello()], &heard).await.unwrap(), built);
    assert_eq!(heard.lines(), Vec::<String>::new());
    assert!(matches!(reader.status()[0].origin, Origin::Cached { read_only: true, .. }));
}

#[tokio::test]
async fn a_registry_that_answers_no_is_quoted_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("hello/go.mod", "module pins.test/pins\n\ngo 1.24\n\ntool absent.test\n\nrequire absent.test v1.2.3\n"),
        (
            "hello/go.sum",
            "absent.test v1.2.3 h1:VlbKKnNfV8bJzeqoa4cOKqO6bYr3WgKZxO8Z16+hsOM=\nabsent.test v1.2.3/go.mod h1:G2ZrVWU2WbWT9wwq4/hrbKbnv/1ERSJQ0ibhJ6rlkpw=\n",
        ),
    ];
    let pins = egress_component::Pins::parse(&HELLO.replace("hello.test", "absent.test"), &files.into_iter().collect());
    let modules = tempfile::tempdir().unwrap();
    let host = host().with("GOMODCACHE", modules.path());
    let store = Store::new(pins.unwrap(), Cache::open(dir.path().to_owned(), None).unwrap(), host);
    let error = store.ensure(&[hello()], &Silent).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("GOPROXY=off") && text.contains("build -v -trimpath"), "{text}");
    assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("go env GOPROXY"), "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_program_of_another_version_than_its_pin_is_not_cached() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &HELLO.replace("main.version=1.2.3", "main.version=9.9.9"), host());
    let error = store.ensure(&[hello()], &Silent).await.unwrap_err();
    assert!(
        matches!(&error, Error::Version { expected, seen, .. } if expected == "1.2.3" && seen == "9.9.9"),
        "{error}"
    );
    assert_eq!(store.status()[0].origin, Origin::Missing);
}

#[tokio::test]
async fn an_old_go_and_no_pinned_wheel_say_what_was_seen_and_needed() {
    let (dir, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    script(&bin.path().join("go"), "echo go1.20.1");
    let store = store(dir.path(), HELLO, host().with("PATH", bin.path()));
    let error = store.ensure(&[hello()], &Silent).await.unwrap_err();
    assert!(matches!(error, Error::NoGo { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("go1.20.1") && text.contains("1.24"), "{text}");
    let given = host().with("EGRESS_CONFORMANCE_GO", bin.path().join("go"));
    let error = common::store(dir.path(), HELLO, given).ensure(&[hello()], &Silent).await.unwrap_err();
    assert!(matches!(&error, Error::OldGo { seen, needed, .. } if seen == "go1.20.1" && needed == "1.24"), "{error}");
}
