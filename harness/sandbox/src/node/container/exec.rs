//! A program in a running container: joins its namespaces, then becomes the program.
//!
//! Single-threaded. The container's first process is named by a pidfd, whose number is the third argument, so a
//! recycled process id can never be entered. Start at [`main`].

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use rustix::pty::OpenptFlags;

use super::channel::Channel;
use super::spec::{ExecSpec, Report};
use super::{EXEC, NOT_STARTED, attend, process};
use crate::os;

/// Runs a program in a container. Never returns.
pub(crate) fn main() -> ! {
    let mut channel = match Channel::adopt() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("{EXEC}: {error}");
            std::process::exit(NOT_STARTED)
        }
    };
    let code = match run(&mut channel) {
        Ok(code) => code,
        Err(error) => {
            channel.send(&Report::Failed(error), None);
            NOT_STARTED
        }
    };
    std::process::exit(code)
}

fn run(channel: &mut Channel) -> Result<i32, String> {
    let spec: ExecSpec = channel.spec()?;
    let number = std::env::args().nth(3).and_then(|n| n.parse().ok());
    let container = os::adopt(number.ok_or("expected the number of a pidfd as third argument")?)
        .map_err(|e| format!("pidfd: {e}"))?;
    let spaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    setns(&container, spaces).map_err(|e| format!("the container has ended, or cannot be entered: {e}"))?;
    drop(container);
    if let Some(child) = os::fork().map_err(|e| format!("fork: {e}"))? {
        return attend(channel, child);
    }
    nix::unistd::setsid().map_err(|e| format!("setsid: {e}"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if spec.tty {
        let controller = terminal().map_err(|e| format!("terminal: {e}"))?;
        channel.send(&Report::Terminal, Some(&controller));
    }
    Err(process::become_program(&spec.process))
}

/// Opens a terminal of the container as standard streams, and gives its controlling end.
fn terminal() -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let controller = rustix::fs::open("/dev/pts/ptmx", flags, rustix::fs::Mode::empty())?;
    rustix::pty::unlockpt(&controller)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, peer)?;
    rustix::process::ioctl_tiocsctty(&terminal)?;
    nix::unistd::dup2_stdin(&terminal)?;
    nix::unistd::dup2_stdout(&terminal)?;
    nix::unistd::dup2_stderr(&terminal)?;
    Ok(controller)
}
