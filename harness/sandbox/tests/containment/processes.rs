//! Tries against processes and namespaces of others.

use std::process::{Command, Stdio};

use crate::attack::Attack;
use crate::scene::{HOSTILE, STRONG, Scene, done, outcome};

/// Every number up to far beyond those of all processes of the sandbox and of the host that matter here.
pub(crate) fn no_process_outside_is_seen(scene: &Scene) {
    let victim = scene.numbers("victim");
    assert_eq!(victim.len(), 3, "the host's number, the sandbox's and the pod's own: {victim:?}");
    let highest = victim.iter().copied().max().expect("there are three").max(100_000);
    for pod in HOSTILE {
        let all = scene.attack(pod, &Attack::Processes(highest));
        let found = done(&all);
        assert!(found.contains(&"1") && found.len() >= 2, "it must see itself: {all:?}");
        assert!(all.len() <= 6, "{pod} sees {all:?}");
        let commands = scene.sh(pod, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").unwrap();
        let own = format!("sleep {}", crate::scene::SLEEP.iter().find(|(name, _)| *name == pod).unwrap().1);
        assert!(commands.contains(&own), "{commands}");
        assert!(!commands.contains("sleep 61003") && !commands.contains("egress-"), "{commands}");
    }
}

/// Signals, traces and reads by the victim's numbers and by that of this program.
pub(crate) fn no_process_outside_can_be_touched(scene: &Scene) {
    let mut outside = vec![i32::try_from(std::process::id()).expect("process ids are positive")];
    let numbers = scene.numbers("victim");
    outside.extend(&numbers[..2]);
    outside.extend(&scene.numbers(STRONG)[..2]);
    for pod in HOSTILE {
        let own = scene.attack(pod, &Attack::Process(0));
        assert_eq!(done(&own), ["signal", "environment", "root", "trace"], "{pod}: {own:?}");
        let inside = scene.sh(pod, "echo /proc/[0-9]*").unwrap();
        // A small number may be one of the pod's own.
        let strange = |pid: &&i32| !inside.split_whitespace().any(|path| path == format!("/proc/{pid}"));
        let strangers: Vec<_> = outside.iter().filter(strange).collect();
        assert!(!strangers.is_empty(), "{outside:?} are all in {inside}");
        for pid in strangers {
            let all = scene.attack(pod, &Attack::Process(*pid));
            assert_eq!(done(&all), [""; 0], "{pod}: {pid}");
            assert_eq!(outcome(&all, "signal"), Err("ESRCH"), "{pod}: {pid}");
        }
    }
}

/// The only namespaces in reach are its own, and it may not even enter those.
pub(crate) fn no_other_namespace_can_be_entered(scene: &Scene) {
    let mut stranger = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("sleep can be run");
    let pid = i32::try_from(stranger.id()).expect("process ids are positive");
    if nix::unistd::geteuid().is_root() {
        let by_root = crate::scene::control(&Attack::Enter(pid));
        assert!(done(&by_root).contains(&"net"), "{by_root:?}");
    }
    let victim = scene.numbers("victim");
    for pod in HOSTILE {
        let own = scene.attack(pod, &Attack::Enter(1));
        for kind in ["net", "mnt", "pid", "uts", "ipc"] {
            assert_eq!(outcome(&own, kind), Err("EPERM"), "{pod}: {kind}");
        }
        for pid in [pid, victim[0]] {
            let all = scene.attack(pod, &Attack::Enter(pid));
            assert_eq!(outcome(&all, "net"), Err("ENOENT"), "{pod}: {pid}");
            assert_eq!(done(&all), [""; 0], "{pod}: {pid}");
        }
        assert!(scene.sh(pod, "ls /run/netns").is_err(), "{pod}");
        let bound = scene.sh(pod, "cat /proc/self/mountinfo").unwrap();
        assert!(bound.contains(" - proc ") && !bound.contains("nsfs"), "{pod}: {bound}");
    }
    let _ = stranger.kill();
    let _ = stranger.wait();
}
