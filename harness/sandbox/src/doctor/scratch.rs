//! Things a sandbox does to namespaces, interfaces and rules, tried where nobody sees it. Runs in
//! a process of its own that ends right after. Start at [`all`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};

use super::Check;
use crate::network::try_veth;
use crate::os;
use crate::userns::{self, UserNamespaceError};

/// The kernel gives a user namespace only what of these the outside shows in full.
const FILE_SYSTEMS_REMEDY: &str = "a container that hides parts of /proc or /sys forbids it: for docker add --security-opt systempaths=unconfined, or --privileged, or run it outside of containers";
const NOT_TRIED: &str = "not tried: it needs what is missing above";
const NOT_TRIED_REMEDY: &str = "get that first, then ask again";

/// One rule of each kind that istio-init and kube-proxy install: the match and target extensions
/// are kernel modules that can each be missing.
const RULES: [(&str, &[&str]); 8] = [
    ("REDIRECT", &["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001"]),
    ("owner", &["-t", "nat", "-A", "OUTPUT", "-m", "owner", "--uid-owner", "1337", "-j", "RETURN"]),
    ("DNAT", &["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "DNAT", "--to-destination", "10.0.0.1:80"]),
    ("MASQUERADE", &["-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE", "--random-fully"]),
    ("mark", &["-t", "nat", "-A", "OUTPUT", "-m", "mark", "!", "--mark", "1", "-j", "MARK", "--or-mark", "1"]),
    ("statistic", &["-t", "nat", "-A", "OUTPUT", "-m", "statistic", "--mode", "random", "--probability", "0.5"]),
    ("conntrack", &["-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"]),
    ("REJECT", &["-A", "OUTPUT", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "REJECT"]),
];

/// All that is tried, in order.
pub(super) fn all() -> Vec<Check> {
    // Asked for before this process is root of its own namespace.
    let remedy = namespaces_remedy();
    let (namespaces, remedy) = match user_namespace() {
        Ok(()) => (namespaces(), remedy),
        Err(error) => (Err(error.to_string()), error.remedy()),
    };
    let usable = namespaces.is_ok();
    let then = |name: &str, remedy: &str, work: fn() -> Result<String, String>| {
        if usable { Check::new(name, remedy, work()) } else { not_tried(name) }
    };
    let mut all = vec![
        Check::new("namespaces", &remedy, namespaces),
        then(
            "private mounts",
            "use Linux 5.12 or newer; allow mount in this container (for docker: --privileged)",
            mounts,
        ),
        then("veth", "load the kernel module veth: modprobe veth", veth),
        Check::new("iptables", "install it: apt-get install iptables", iptables_there()),
        then(
            "iptables rules",
            "load the kernel modules nf_tables, nft_compat, xt_REDIRECT, xt_owner, xt_conntrack and the like",
            rules,
        ),
    ];
    // Last: this process can start no other afterwards.
    let pid = usable.then(pid_namespace);
    let file_systems = pid.clone().and_then(Result::ok);
    let check = |name, remedy, answer: Option<_>| match answer {
        Some(answer) => Check::new(name, remedy, answer),
        None => not_tried(name),
    };
    let pid = pid.map(|made| made.map(|_| "the first process inside is pid 1".to_owned()));
    all.push(check("pid namespace", "use a kernel with CONFIG_PID_NS", pid));
    all.push(check("/proc and /sys", FILE_SYSTEMS_REMEDY, file_systems));
    all
}

fn not_tried(name: &str) -> Check {
    Check::new(name, NOT_TRIED_REMEDY, Err(NOT_TRIED.to_owned()))
}

/// Says which setting is in the way, where one is known.
fn namespaces_remedy() -> String {
    let container = "run it outside of containers that forbid unshare (for docker: --privileged)";
    match userns::restriction().filter(|_| userns::needed()) {
        Some(setting) => format!(
            "as root: sysctl -w {}={}, as it is {}; or run it as root",
            setting.name, setting.wanted, setting.value
        ),
        None if userns::needed() => format!("{container}, or as root"),
        None => container.to_owned(),
    }
}

/// As in a sandbox, everything else begins here for an ordinary user.
fn user_namespace() -> Result<(), UserNamespaceError> {
    if userns::needed() { userns::enter(&userns::plan()?) } else { Ok(()) }
}

fn namespaces() -> Result<String, String> {
    let kinds = [
        ("mount", CloneFlags::CLONE_NEWNS),
        ("network", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
    ];
    for (name, kind) in kinds {
        unshare(kind).map_err(|e| format!("unshare of a {name} namespace: {e}"))?;
    }
    Ok(format!("unshare works for {}", kinds.map(|(name, _)| name).join(", ")))
}

fn mounts() -> Result<String, String> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| format!("make / private: {e}"))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, none).map_err(|e| format!("tmpfs on /run: {e}"))?;
    let run = std::fs::File::open("/run").map_err(|e| format!("open /run: {e}"))?;
    os::set_mount_attributes(&run, "", os::MountAttributes::READ_ONLY, false)
        .map_err(|e| format!("mount_setattr: {e}"))?;
    Ok("tmpfs can be mounted, and made read-only by mount_setattr".to_owned())
}

fn veth() -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(try_veth()).map_err(|e| e.to_string())?;
    Ok("a pair was made and removed".to_owned())
}

fn iptables_there() -> Result<String, String> {
    let versions: Vec<String> = ["iptables", "iptables-save", "iptables-restore"]
        .into_iter()
        .map(|program| run(program, &["--version"]))
        .collect::<Result<_, _>>()?;
    Ok(versions[0].clone())
}

fn rules() -> Result<String, String> {
    for (name, rule) in RULES {
        run("iptables", rule).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(format!("the kernel took {}", RULES.map(|(name, _)| name).join(", ")))
}

/// Makes a pid namespace; gives what its first process says of mounting `/proc` and `/sys` there.
fn pid_namespace() -> Result<Result<String, String>, String> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(|e| format!("unshare: {e}"))?;
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|e| format!("socket pair: {e}"))?;
    let Some(child) = os::fork().map_err(|e| format!("fork: {e}"))? else {
        // An answer that does not arrive is an answer, too.
        let _ = theirs.write_all(file_systems().err().unwrap_or_default().as_bytes());
        std::process::exit(i32::from(std::process::id() != 1))
    };
    drop(theirs);
    let mut problem = String::new();
    ours.read_to_string(&mut problem).map_err(|e| format!("no answer from inside: {e}"))?;
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) if problem.is_empty() => Ok(Ok("both can be mounted anew".to_owned())),
        Ok(WaitStatus::Exited(_, 0)) => Ok(Err(problem)),
        other => Err(format!("the first process inside: {other:?}")),
    }
}

fn file_systems() -> Result<(), String> {
    for (kind, path) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(kind), path, Some(kind), flags, None::<&str>).map_err(|e| format!("mount {path}: {e}"))?;
    }
    Ok(())
}

/// Runs a program; its first line of output, or its complaint.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let text = if output.status.success() { &output.stdout } else { &output.stderr };
    let line = String::from_utf8_lossy(text).lines().next().unwrap_or_default().to_owned();
    if output.status.success() { Ok(line) } else { Err(format!("{program} {}: {line}", arguments.join(" "))) }
}
