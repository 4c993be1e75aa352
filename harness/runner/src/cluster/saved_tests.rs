//! Shelves are tried with meshes that consist of a folder only.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use egress_core::scenario::Capability;
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;

use super::*;

/// Saves what a sandbox would, made by hand: a certificate and no objects.
struct Paper {
    /// When the certificate ends, in days from now.
    days: i64,
}

impl Provider for Paper {
    fn kind(&self) -> &'static str {
        "paper"
    }
    fn kubeconfig(&self) -> &Path {
        Path::new("kubeconfig")
    }
    fn overlays(&self) -> &'static [&'static str] {
        &[]
    }
    fn capabilities(&self) -> &[Capability] {
        &[]
    }
    fn trust<'a>(&'a self, _: Option<String>) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async { Ok(()) })
    }
    fn set_outside<'a>(&'a self, _: Vec<Ipv4Addr>, _: Names) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async { Ok(()) })
    }
    fn servers(&self) -> ControlClient {
        ControlClient::unix(Path::new("world.sock"))
    }
    fn logs(&self) -> Option<PathBuf> {
        None
    }
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }
    fn save<'a>(&'a self, into: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async {
            let certificate = certificate(self.days);
            let files = [("objects", String::new()), ("kubeconfig", "{}".to_owned()), ("pki/ca.crt", certificate)];
            std::fs::create_dir_all(into.join("pki")).expect("a folder");
            let mut sums = serde_json::Map::new();
            for (name, text) in files {
                let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
                sums.insert(name.to_owned(), sum.into());
                std::fs::write(into.join(name), text).expect("a file");
            }
            let manifest = serde_json::json!({"format": snapshot::FORMAT, "files": sums});
            std::fs::write(into.join("manifest.json"), manifest.to_string()).expect("a file");
            Ok(())
        })
    }
    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async { Ok(()) })
    }
}

fn certificate(days: i64) -> String {
    let end = Timestamp::now().as_second() + days * 24 * 3600;
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end.cast_unsigned());
    let key = rcgen::KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").pem()
}

fn shelf() -> (tempfile::TempDir, Shelf) {
    let cache = tempfile::tempdir().expect("a folder");
    let shelf = Shelf::in_cache(cache.path());
    (cache, shelf)
}

const LONG: Paper = Paper { days: 400 };

#[tokio::test]
async fn what_is_kept_is_found_by_its_key_only() {
    let (_cache, shelf) = shelf();
    assert!(shelf.find("one").is_none());
    shelf.keep("one", "0a0b0c", &LONG).await.expect("kept");
    let found = shelf.find("one").expect("found");
    assert_eq!(found.run, "0a0b0c");
    assert!(found.cluster.join("objects").exists());
    assert!(shelf.find("two").is_none());
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(shelf.folder()), mode(&shelf.folder().join("one"))), (0o700, 0o700));
    assert_eq!(mode(&shelf.folder().join("one").join(MESH)), 0o600);
}

#[tokio::test]
async fn one_that_is_there_is_not_replaced() {
    let (_cache, shelf) = shelf();
    shelf.keep("one", "first", &LONG).await.expect("kept");
    shelf.keep("one", "second", &LONG).await.expect("kept");
    assert_eq!(shelf.find("one").expect("found").run, "first");
    assert_eq!(shelf.entries().len(), 1);
}

#[tokio::test]
async fn one_that_expires_soon_is_thrown_away() {
    let (_cache, shelf) = shelf();
    shelf.keep("one", "run", &Paper { days: 3 }).await.expect("kept");
    assert!(shelf.folder().join("one").exists());
    assert!(shelf.find("one").is_none());
    assert!(!shelf.folder().join("one").exists());
}

#[tokio::test]
async fn broken_and_foreign_ones_are_thrown_away() {
    let (_cache, shelf) = shelf();
    shelf.keep("broken", "run", &LONG).await.expect("kept");
    std::fs::write(shelf.folder().join("broken").join(CLUSTER).join("objects"), "other").expect("written");
    shelf.keep("real", "run", &LONG).await.expect("kept");
    std::fs::rename(shelf.folder().join("real"), shelf.folder().join("foreign")).expect("renamed");
    for key in ["broken", "foreign"] {
        assert!(shelf.find(key).is_none(), "{key}");
        assert!(!shelf.folder().join(key).exists(), "{key}");
    }
}

#[tokio::test]
async fn the_oldest_go_when_there_are_too_many() {
    let (_cache, shelf) = shelf();
    for n in 0..=MOST {
        shelf.keep(&n.to_string(), "run", &LONG).await.expect("kept");
        let age = Duration::from_secs(100 - n as u64);
        let path = shelf.folder().join(n.to_string());
        if path.exists() {
            File::open(&path).and_then(|f| f.set_modified(SystemTime::now() - age)).expect("a time");
        }
    }
    assert!(shelf.find("0").is_none());
    assert!((1..=MOST).all(|n| shelf.find(&n.to_string()).is_some()));
}

#[tokio::test]
async fn a_sweep_takes_what_is_of_no_use() {
    let (_cache, shelf) = shelf();
    assert!(shelf.sweep().is_empty());
    shelf.keep("good", "run", &LONG).await.expect("kept");
    shelf.keep("old", "run", &Paper { days: 1 }).await.expect("kept");
    std::fs::create_dir(shelf.folder().join(".tmp-dead")).expect("a folder");
    let mut swept = shelf.sweep();
    swept.sort();
    assert_eq!(swept, [shelf.folder().join(".tmp-dead"), shelf.folder().join("old")]);
    assert_eq!(shelf.entries(), [shelf.folder().join("good")]);
}

#[tokio::test]
async fn a_shelf_that_others_can_enter_is_not_used() {
    let (_cache, shelf) = shelf();
    shelf.keep("one", "run", &LONG).await.expect("kept");
    std::fs::set_permissions(shelf.folder(), std::fs::Permissions::from_mode(0o755)).expect("set");
    assert!(shelf.find("one").is_none());
    let error = shelf.keep("two", "run", &LONG).await.expect_err("not ours alone");
    assert!(error.to_string().contains("its mode is 755"), "{error}");
}

#[tokio::test]
async fn nobody_removes_one_that_is_read() {
    let (_cache, shelf) = shelf();
    shelf.keep("one", "run", &LONG).await.expect("kept");
    let found = shelf.find("one").expect("found");
    shelf.discard("one");
    assert!(found.cluster.exists());
    assert!(shelf.sweep().is_empty());
    drop(found);
    shelf.discard("one");
    assert!(!shelf.folder().join("one").exists());
}

#[tokio::test]
async fn one_that_turned_out_to_be_of_no_use_is_thrown_away_by_who_found_it() {
    let (_cache, shelf) = shelf();
    shelf.keep("one", "run", &LONG).await.expect("kept");
    let (found, removed) = (shelf.find("one").expect("found"), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        found.discard();
        removed.0.send(()).expect("somebody listens");
    });
    removed.1.recv_timeout(Duration::from_secs(10)).expect("it waits for a lock of its own");
    assert!(!shelf.folder().join("one").exists());
}

#[test]
fn another_profile_or_program_has_another_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program");
    std::fs::write(&file, "1").expect("written");
    let all = || file.clone();
    let programs = egress_sandbox::Programs {
        etcd: all(),
        kube_apiserver: all(),
        kube_controller_manager: all(),
        kube_proxy: all(),
        pilot_discovery: all(),
        pilot_agent: all(),
        envoy: all(),
        envoy_bootstrap: all(),
        kubectl: all(),
        istioctl: all(),
    };
    let of = |profile: &str| key(&programs, "1.36.3", profile, &[]);
    let before = of("registry-only");
    assert_eq!(before, of("registry-only"));
    assert_ne!(before, of("allow-any"));
    assert_ne!(before, key(&programs, "1.36.4", "registry-only", &[]));
    std::fs::write(&file, "12").expect("written");
    assert_ne!(before, of("registry-only"));
}
