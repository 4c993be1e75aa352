//! Tries against files: of the host, of the sandbox, of other pods.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::attack::{Attack, PROGRAM};
use crate::scene::{HOSTILE, OWN, PLAIN, STRONG, Scene, done, outcome};

/// Every mount, and every file of the kernel's that is one for the whole machine.
pub(crate) fn no_file_of_the_host_can_be_written(scene: &Scene) {
    let own = ["/", "/dev", "/dev/shm", "/e"];
    // Their nodes cannot be changed, but they are there to be written to.
    let devices = ["null", "zero", "full", "random", "urandom"].map(|name| format!("/dev/{name}"));
    let mut kernel: Vec<PathBuf> = std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
        .map(|entry| entry.path())
        .collect();
    kernel.extend(["/sys", "/proc/self/comm"].map(PathBuf::from));
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::WriteToMounts);
        for path in ["/usr", "/usr/local/bin", "/usr/local/bin/kubectl", "/proc/sys", "/sys", PROGRAM, "/etc/ssl/certs"]
        {
            assert!(outcome(&all, path).is_err(), "{pod} can write to {path}");
        }
        // An ordinary user's cache may belong to somebody whom its namespace does not know.
        let cached = outcome(&all, "/bootstrap");
        assert!(matches!(cached, Err("EROFS" | "EACCES")), "a file of the component cache: {cached:?}");
        let written = done(&all);
        for path in own {
            assert!(written.contains(&path), "{pod} must be able to write to its {path}: {all:?}");
        }
        // Masked by an empty device.
        let masked = |path: &str| scene.sh(pod, &format!("test -c {path}")).is_ok();
        let more: Vec<_> = written
            .into_iter()
            .filter(|path| !own.contains(path) && !devices.iter().any(|device| device == path))
            .filter(|path| !(path.starts_with("/proc/") && masked(path)))
            .collect();
        assert_eq!(more, [""; 0], "{pod}");
        let open = scene.attack(pod, &Attack::OpenForWriting(kernel.clone()));
        assert!(open.len() > 500, "only {} files of the kernel were seen", open.len());
        assert_eq!(done(&open), ["/proc/self/comm"], "{pod}");
    }
}

/// By name, everywhere below the root, and by the path that the host knows.
pub(crate) fn no_volume_of_another_pod_is_in_reach(scene: &Scene) {
    let treasures = scene.on_host(crate::scene::TREASURE);
    assert!(treasures.len() >= 2, "the volume and the secret of the victim lie on the host: {treasures:?}");
    assert!(treasures.iter().any(|path| std::fs::read(path).is_ok_and(|text| !text.is_empty())), "{treasures:?}");
    let tokens: Vec<_> = scene.on_host("token");
    assert!(tokens.len() >= 3, "each pod has a token on the host: {tokens:?}");
    for pod in HOSTILE {
        let own = scene.attack(pod, &Attack::Find(OWN.to_owned()));
        assert!(done(&own).len() >= 2, "its own volume and secret must be found: {own:?}");
        assert_eq!(scene.attack(pod, &Attack::Find(crate::scene::TREASURE.to_owned())), []);
        let found = scene.attack(pod, &Attack::Find("token".to_owned()));
        let found = done(&found);
        assert!(
            !found.is_empty()
                && found.iter().all(|path| path.starts_with("/var/run/secrets/") || path.starts_with("/run/secrets/")),
            "{found:?}"
        );
        out_of_reach(scene, pod, &[treasures.clone(), tokens.clone()].concat());
    }
}

/// Kubeconfig, keys, sockets and logs, by the paths that the host knows.
pub(crate) fn no_file_of_the_sandbox_is_in_reach(scene: &Scene) {
    let state = scene.state();
    let files = ["kubeconfig", "pki/ca.crt", "pki/service-account.key", "pki/inside.kubeconfig", "logs/sandbox.log"];
    let files = files.map(|name| state.join(name));
    for file in &files {
        assert!(std::fs::read(file).is_ok_and(|text| !text.is_empty()), "{} must be there", file.display());
    }
    for pod in HOSTILE {
        out_of_reach(scene, pod, &files);
        assert_eq!(scene.attack(pod, &Attack::Find("inside.kubeconfig".to_owned())), []);
        assert_eq!(scene.attack(pod, &Attack::Find("world.sock".to_owned())), []);
    }
}

/// None of these files of the host can be read, directly or through another process's root.
fn out_of_reach(scene: &Scene, pod: &str, files: &[PathBuf]) {
    let inside = |file: &Path| file.strip_prefix("/").expect("the paths are absolute").to_owned();
    let mut paths = vec![PathBuf::from("/etc/hosts"), PathBuf::from("/proc/1/root/etc/hosts")];
    for file in files {
        for root in ["/", "/proc/1/root", "/proc/self/root/..", "/proc/1/cwd/../..", "/proc/1/fd/1/..", "/dev/fd/1/.."]
        {
            paths.push(Path::new(root).join(inside(file)));
        }
    }
    let all = scene.attack(pod, &Attack::Read(paths));
    assert_eq!(done(&all), ["/etc/hosts", "/proc/1/root/etc/hosts"], "{pod}");
}

/// The second root folder is left, the first is not.
pub(crate) fn no_way_out_of_the_root_folder(scene: &Scene) {
    let marker = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let on_host = marker.path().to_owned();
    assert!(std::fs::read(&on_host).is_ok());
    for pod in HOSTILE {
        let own = PathBuf::from("/e").join(OWN);
        let all =
            scene.attack(pod, &Attack::Chroot(vec![own.clone(), on_host.clone(), scene.sandbox.kubeconfig().into()]));
        assert_eq!(done(&all), ["chroot", own.to_str().expect("text")], "{pod}");
    }
}

/// Device files can neither be made nor found. No user namespace may make them, so the control is a pipe.
pub(crate) fn no_disk_can_be_read(scene: &Scene) {
    let number = |entry: std::fs::DirEntry| -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let mut disks: Vec<_> =
        std::fs::read_dir("/sys/block").into_iter().flatten().flatten().filter_map(number).collect();
    // Where the host has none to show, the number of a first SCSI disk is refused all the same.
    disks.push((8, 0));
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Disks(disks.clone()));
        assert_eq!(outcome(&all, "a pipe"), Ok(()));
        for (major, minor) in &disks {
            assert_eq!(outcome(&all, &format!("disk {major}:{minor}")), Err("EPERM"), "{pod}");
        }
        assert_eq!(outcome(&all, "memory"), Err("EPERM"), "{pod}");
        let found: Vec<_> = done(&all).into_iter().filter(|what| what.contains("/dev/")).collect();
        assert!(found.contains(&"character 1:3 /dev/null"), "{found:?}");
        let known =
            ["null", "zero", "full", "random", "urandom", "tty", "pts/ptmx"].map(|name| format!(" /dev/{name}"));
        let strange: Vec<_> = found.iter().filter(|what| !known.iter().any(|end| what.ends_with(end))).collect();
        assert!(strange.is_empty(), "{pod}: {strange:?}");
        let elsewhere: Vec<_> =
            done(&all).into_iter().filter(|what| !what.contains("/dev/") && *what != "a pipe").collect();
        assert!(elsewhere.is_empty(), "{pod}: {elsewhere:?}");
    }
}

/// Streams, and nothing else, neither in an exec nor in the container's first process.
pub(crate) fn no_descriptor_is_inherited(scene: &Scene) {
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Descriptors);
        let listed = done(&all);
        let strange = |line: &&str| {
            let (path, target) = line.split_once(' ').expect("a path and its target");
            let number = path.rsplit('/').next().unwrap_or_default();
            let stream = ["0", "1", "2"].contains(&number);
            let harmless = ["pipe:", "socket:", "/dev/null", "/dev/pts/"].iter().any(|kind| target.starts_with(kind));
            // The log of the container is a file; the folder that was listed is closed by now.
            let log = path.starts_with("/proc/1/fd/") && target.ends_with(".log");
            let own =
                path.starts_with("/proc/self/fd/") && (target.starts_with("No such file") || target == "/etc/hosts");
            !(stream && (harmless || log) || own)
        };
        assert!(listed.iter().any(|line| line.ends_with(" /etc/hosts")), "the one it opened must be seen: {listed:?}");
        assert!(listed.iter().filter(|line| line.starts_with("/proc/1/fd/")).count() == 3, "{listed:?}");
        assert_eq!(listed.iter().copied().filter(strange).collect::<Vec<_>>(), [""; 0], "{pod}");
    }
}

/// A container's log is a file of the host, which the container may own. What is kept of it must not keep its mode.
pub(crate) fn no_kept_log_runs_as_root(scene: &Scene) {
    for pod in [PLAIN, STRONG] {
        let all = scene.attack(pod, &Attack::OwnLog);
        assert_eq!(outcome(&all, "write"), Ok(()), "a container may write to its own log");
        assert_eq!(outcome(&all, "mode 6777"), Ok(()), "the control of the look at the kept logs");
    }
}

/// The other half of the last try, after the sandbox's end.
pub(crate) fn kept_logs_have_no_rights(kept: &tempfile::TempDir) {
    let mut folders = vec![kept.path().join("kept")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the logs were kept").flatten() {
            let found = entry.metadata().expect("it was listed");
            if found.is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            let mode = found.permissions().mode() & 0o7777;
            assert_eq!(mode & 0o7111, 0, "{} was kept with mode {mode:o}", entry.path().display());
        }
    }
    eprintln!("  {files} kept logs were looked at");
    assert!(files > 5, "only {files} logs were kept");
}
