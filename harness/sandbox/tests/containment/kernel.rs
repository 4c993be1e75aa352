//! Tries against what the whole machine shares: mounts, clock, modules, limits, keys.

use crate::attack::{Attack, PROGRAM};
use crate::scene::{HOSTILE, PLAIN, Scene, control, done, outcome};

/// As the pod is, and as root of a user namespace of its own, where the kernel allows one.
pub(crate) fn nothing_can_be_mounted(scene: &Scene) {
    let by_root = control(&Attack::Mount);
    for what in ["new tmpfs", "new bind"] {
        assert_eq!(outcome(&by_root, what), Ok(()), "root of its own namespaces may: {by_root:?}");
    }
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Mount);
        assert_eq!(done(&all), [""; 0], "{pod}");
        assert_eq!(outcome(&all, "new tmpfs"), Err("EPERM"), "{pod}");
        assert_eq!(outcome(&all, &format!("writable {PROGRAM}")), Err("EPERM"), "{pod}");
        let all = scene.attack(pod, &Attack::MountAsOwnRoot);
        assert_eq!(all, [("a user namespace".to_owned(), Err("EPERM".to_owned()))], "{pod}");
    }
}

/// No module, host name, time, core pattern or magic key. The errors say that permission was what was missing.
pub(crate) fn nothing_of_the_machine_can_be_set(scene: &Scene) {
    let by_root = control(&Attack::Machine);
    assert_eq!(outcome(&by_root, "host name"), Ok(()), "root of its own namespaces may: {by_root:?}");
    let host_name = nix::unistd::gethostname().expect("the host has a name");
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Machine);
        assert_eq!(done(&all), ["own name"], "{pod}");
        for what in ["module", "host name", "clock"] {
            assert_eq!(outcome(&all, what), Err("EPERM"), "{pod}: {what}");
        }
        assert_eq!(outcome(&all, "core pattern"), Err("EROFS"), "{pod}");
        // Not every kernel has the key.
        let key = std::path::Path::new("/proc/sysrq-trigger").exists();
        assert_eq!(outcome(&all, "key combination"), Err(if key { "EROFS" } else { "ENOENT" }), "{pod}");
    }
    assert_eq!(nix::unistd::gethostname().expect("the host has a name"), host_name);
}

/// SYS_RESOURCE, where it is granted, is there to raise limits of the pod's own processes; nothing raises a group's.
pub(crate) fn no_limit_can_be_raised(scene: &Scene) {
    let all = scene.attack(PLAIN, &Attack::Limits);
    assert_eq!(done(&all), ["lower", "killed first"]);
    assert_eq!(outcome(&all, "raise"), Err("EPERM"));
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Limits);
        assert!(outcome(&all, "new group").is_err(), "{pod}");
        let groups: Vec<_> = done(&all).into_iter().filter(|what| what.starts_with("/sys/")).collect();
        assert_eq!(groups, [""; 0], "{pod}");
    }
}

/// Keyrings belong to a user of the machine, and a virtual machine's sockets to all of it.
pub(crate) fn nothing_without_a_namespace_can_be_used(scene: &Scene) {
    let by_root = control(&Attack::Unconfined);
    let possible = done(&by_root);
    assert!(possible.contains(&"session keys") && possible.contains(&"local socket"), "{by_root:?}");
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Unconfined);
        assert_eq!(done(&all), ["local socket"], "{pod}: {all:?}");
    }
}
