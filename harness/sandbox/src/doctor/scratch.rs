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
use crate::{os, userns};

/// The kernel gives a user namespace only what of these the outside shows in full.
const FILE_SYSTEMS_REMEDY: &str = "a container that hides parts of /proc or /sys forbids it: for docker add --security-opt systempaths=unconfined, or --privileged, or run it outside of containers";
const NOT_TRIED: &str = "not tried: it needs namespaces";

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
    let remedy = namespaces_remedy();
    let namespaces = namespaces();
    let usable = namespaces.is_ok();
    let then = |work: fn() -> Result<String, String>| if usable { work() } else { Err(NOT_TRIED.to_owned()) };
    let mut all = vec![
        Check::new("namespaces", &remedy, namespaces),
        Check::new(
            "private mounts",
            "use Linux 5.12 or newer; allow mount in this container (for docker: --privileged)",
            then(mounts),
        ),
        Check::new("veth", "load the kernel module veth: modprobe veth", then(veth)),
        Check::new("iptables", "install it: apt-get install iptables", iptables_there()),
        Check::new(
            "iptables rules",
            "load the kernel modules nf_tables, nft_compat, xt_REDIRECT, xt_owner, xt_conntrack and the like",
            then(rules),
        ),
    ];
    // Last: this process can start no other afterwards.
    let (pid, file_systems) = match if usable { pid_namespace() } else { Err(NOT_TRIED.to_owned()) } {
        Ok(file_systems) => (Ok("the first process inside is pid 1".to_owned()), file_systems),
        Err(e) => (Err(e), Err(NOT_TRIED.to_owned())),
    };
    all.push(Check::new("pid namespace", "use a kernel with CONFIG_PID_NS", pid));
    all.push(Check::new("/proc and /sys", FILE_SYSTEMS_REMEDY, file_systems));
    all
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

fn namespaces() -> Result<String, String> {
    if userns::needed() {
        userns::plan().and_then(|plan| userns::enter(&plan)).map_err(|e| e.to_string())?;
    }
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
