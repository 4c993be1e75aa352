//! The way in: from a process of the host to the host program inside its own namespaces.
//!
//! Three single-threaded steps, each a process, none of which is ever a runtime's:
//!
//! 1. *enter*, in the host's namespaces: binds the door, makes the namespaces (an ordinary user's
//!    begin with a user namespace, [`userns`]), waits for pid 1;
//! 2. *init*, pid 1 inside: mounts, then reaps whatever dies, and ends when the owner is gone or
//!    the host program ends; the kernel then kills everything else inside;
//! 3. the *host program* ([`crate::host`]), pid 2, which may have threads.
//!
//! Each dies with its parent, so killing the owner with SIGKILL leaves no process, namespace,
//! mount or interface. Nothing here changes the host: every mount is private to the new namespace.
//! Start at [`main`].

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{Signal as DeathSignal, set_parent_process_death_signal};

use crate::protocol::{self, Start, StartFailure, ToOwner};
use crate::{host, os, userns};

/// Hidden first argument of the process that enters the namespaces.
pub(crate) const ENTER: &str = "__egress-sandbox-enter";

/// Name of the node, and the host name inside.
pub(crate) const NODE_NAME: &str = "sandbox-node";

/// What the host program gets from outside.
pub(crate) struct Entered {
    /// What to run.
    pub(crate) start: Start,
    /// The owner's end is on the host.
    pub(crate) control: UnixStream,
    /// Listens on the host's loopback.
    pub(crate) door: TcpListener,
}

/// The command that starts the entering process: this very program again. `control` is the
/// sandbox's end of the control channel, `lock` a duplicate of the state folder's lock.
pub(crate) fn command(control: OwnedFd, lock: OwnedFd, log: std::fs::File) -> std::io::Result<Command> {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("egress-sandbox").arg(ENTER).arg(lock.as_raw_fd().to_string());
    command.stdin(control).stdout(log.try_clone()?).stderr(log);
    // A debug shell's variables must not reach pods or change how components behave.
    command.env_clear();
    // Root's programs are needed inside, whoever starts it.
    let path = std::env::join_paths(userns::search_path()).map_err(std::io::Error::other)?;
    command.env("PATH", path);
    for name in ["RUST_BACKTRACE", "RUST_LOG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    os::inherit(&mut command, vec![lock]);
    Ok(command)
}

/// The entering process. `arguments` are those behind [`ENTER`].
pub(crate) fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ! {
    let lock = arguments.next().and_then(|n| n.to_str()?.parse().ok());
    let code = match lock.ok_or_else(|| "it was started without its lock".to_owned()) {
        Ok(lock) => enter(lock),
        Err(message) => Err(message),
    };
    match code {
        Ok(code) => std::process::exit(code),
        Err(message) => {
            eprintln!("cannot enter the sandbox: {message}");
            std::process::exit(1)
        }
    }
}

fn enter(lock: i32) -> Result<i32, String> {
    os::close_inherited_but(lock).map_err(|e| format!("close descriptors: {e}"))?;
    let lock = os::adopt(lock).map_err(|e| format!("no lock: {e}"))?;
    let mut control = UnixStream::from(os::take_stdin().map_err(|e| format!("no control channel: {e}"))?);
    // Away from the owner's terminal: Ctrl-C there is for the owner, which then stops this one.
    rustix::process::setsid().map_err(|e| format!("setsid: {e}"))?;
    set_parent_process_death_signal(Some(DeathSignal::KILL)).map_err(|e| format!("prctl: {e}"))?;
    // Volumes and logs are for users of containers, too; the state folder keeps everybody else of the host out.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let start: Start = protocol::read_blocking(&mut control).map_err(|e| format!("cannot read the options: {e}"))?;
    let result = (|| {
        let door = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("bind a port on 127.0.0.1: {e}"))?;
        if userns::needed() {
            let entered = userns::plan().and_then(|plan| userns::enter(&plan));
            entered.map_err(|e| format!("{e}: {}", e.remedy()))?;
        }
        let namespaces = CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC;
        unshare(namespaces).map_err(|e| format!("make namespaces: {e}; `doctor` says what is missing"))?;
        Ok((door, os::fork().map_err(|e| format!("fork: {e}"))?))
    })();
    let (door, child) = result.map_err(|message| report(&mut control, message))?;
    match child {
        None => init(Entered { start, control, door }),
        Some(init) => {
            drop((control, door));
            let code = loop {
                match waitpid(init, None) {
                    Ok(WaitStatus::Exited(_, code)) => break code,
                    Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(e) => return Err(format!("wait for pid 1: {e}")),
                }
            };
            drop(lock);
            Ok(code)
        }
    }
}

/// Tells the owner why the start failed, and hands the message on.
fn report(control: &mut UnixStream, message: String) -> String {
    let failure = StartFailure::Phase { phase: "namespaces".to_owned(), message: message.clone() };
    // An owner that is gone needs no report.
    let _ = protocol::write_blocking(control, &ToOwner::Failed(failure));
    message
}

/// Pid 1. Never returns: its end is the end of everything inside.
fn init(mut entered: Entered) -> ! {
    let failed = |control: &mut UnixStream, message: String| -> ! {
        eprintln!("cannot set the sandbox up: {}", report(control, message));
        std::process::exit(1)
    };
    let _ = rustix::thread::set_name(c"egress-init");
    if let Err(e) = set_parent_process_death_signal(Some(DeathSignal::KILL)) {
        failed(&mut entered.control, format!("prctl: {e}"));
    }
    if let Err(message) = furnish(&entered.start.state) {
        failed(&mut entered.control, message);
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let prepared = children
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .and_then(|signals| Ok((signals, os::fork()?)));
    match prepared {
        Err(e) => failed(&mut entered.control, format!("start the host program: {e}")),
        Ok((signals, None)) => {
            drop(signals);
            let _ = children.thread_unblock();
            let _ = rustix::thread::set_name(c"egress-host");
            let code = host::main(entered);
            let _ = std::io::stderr().flush();
            std::process::exit(code)
        }
        Ok((signals, Some(host))) => {
            let Entered { control, door, start } = entered;
            drop((door, start));
            let code = reap(&signals, &control, host);
            std::process::exit(code)
        }
    }
}

/// Reaps until the host program or the owner ends; returns the exit code.
fn reap(signals: &SignalFd, control: &UnixStream, host: Pid) -> i32 {
    loop {
        while let Ok(Some(_)) = signals.read_signal() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == host => return code,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == host => {
                    eprintln!("the host program was killed: {signal}");
                    return 128 + signal as i32;
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        // The host program reads the channel; here only its end counts.
        let mut waiting =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(control.as_fd(), PollFlags::empty())];
        if poll(&mut waiting, PollTimeout::NONE).is_err() {
            continue;
        }
        // Reported unasked, once the other end is closed or shut down both ways.
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        if waiting[1].revents().is_some_and(|seen| seen.intersects(gone)) {
            return 0;
        }
    }
}

/// Mounts what the inside needs, privately, and names the machine.
fn furnish(state: &Path) -> Result<(), String> {
    let none = None::<&str>;
    let on = |what: &'static str| move |e: nix::Error| format!("{what}: {e}");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(on("make mounts private"))?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, none).map_err(on("mount /proc"))?;
    // Held open, because the state folder may lie below /run, which is covered next.
    let held = std::fs::File::open(state).map_err(|e| format!("open {}: {e}", state.display()))?;
    let tmpfs = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), tmpfs, Some("mode=0755")).map_err(on("mount /run"))?;
    for folder in ["/run/netns", "/run/lock"] {
        std::fs::create_dir_all(folder).map_err(|e| format!("create {folder}: {e}"))?;
    }
    if !state.exists() {
        std::fs::create_dir_all(state).map_err(|e| format!("create {}: {e}", state.display()))?;
        let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        mount(Some(source.as_str()), state, none, MsFlags::MS_BIND, none).map_err(on("bind the state folder"))?;
    }
    nix::unistd::sethostname(NODE_NAME).map_err(on("set the host name"))
}
