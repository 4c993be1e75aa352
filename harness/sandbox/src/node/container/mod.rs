//! A container's first process: this program, run again, which makes the container around itself.
//!
//! Single-threaded from its first line. It joins the pod's network, forks into new pid, mount, host name and ipc
//! namespaces, builds the root and becomes the container's program; the outer half stays to wait for it.
//! It knows nothing of Kubernetes. Start at [`main`]; [`exec`] does the same into a running container.

pub(crate) mod channel;
pub(crate) mod exec;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod spec;
mod system_calls;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::PidfdFlags;

use self::channel::Channel;
use self::spec::{ContainerSpec, Report};
use crate::os;

/// The first argument of a container's process. The second is the number of its socket.
pub(crate) const CONTAINER: &str = "__egress-sandbox-container";
/// The first argument of an exec's process. The second is the number of its socket.
pub(crate) const EXEC: &str = "__egress-sandbox-exec";
/// Exit code of a process that could not become its program.
const NOT_STARTED: i32 = 128;

/// Runs a container. Never returns.
pub(crate) fn main() -> ! {
    let mut channel = match Channel::adopt() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("{CONTAINER}: {error}");
            std::process::exit(NOT_STARTED)
        }
    };
    let code = match outer(&mut channel) {
        Ok(Outcome::Ended(code)) => code,
        Ok(Outcome::Inner(spec)) => {
            let error = rootfs::build(&spec).err().unwrap_or_else(|| process::become_program(&spec.process));
            channel.send(&Report::Failed(error), None);
            NOT_STARTED
        }
        Err(error) => {
            channel.send(&Report::Failed(error), None);
            NOT_STARTED
        }
    };
    std::process::exit(code)
}

enum Outcome {
    /// In the container: go on with this.
    Inner(Box<ContainerSpec>),
    /// The container has ended.
    Ended(i32),
}

fn outer(channel: &mut Channel) -> Result<Outcome, String> {
    let spec: ContainerSpec = channel.spec()?;
    let netns = std::fs::File::open(&spec.netns).map_err(|e| format!("{}: {e}", spec.netns.display()))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|e| format!("network namespace: {e}"))?;
    for (name, value) in &spec.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).map_err(|e| format!("sysctl {name}={value}: {e}"))?;
    }
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .map_err(|e| format!("new namespaces: {e}"))?;
    match os::fork().map_err(|e| format!("fork: {e}"))? {
        Some(child) => Ok(Outcome::Ended(attend(channel, child)?)),
        None => {
            unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("mount namespace: {e}"))?;
            nix::unistd::setsid().map_err(|e| format!("setsid: {e}"))?;
            nix::unistd::sethostname(&spec.hostname).map_err(|e| format!("host name: {e}"))?;
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
            Ok(Outcome::Inner(Box::new(spec)))
        }
    }
}

/// Tells the agent of the new process, then waits for it. A signal counts as 128 and its number.
fn attend(channel: &mut Channel, child: Pid) -> Result<i32, String> {
    let pid = rustix::process::Pid::from_raw(child.as_raw()).ok_or("fork gave no process")?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|e| format!("pidfd_open: {e}"))?;
    channel.send(&Report::Process(child.as_raw()), Some(&pidfd));
    channel.close();
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("waiting for the program: {error}")),
        }
    }
}
