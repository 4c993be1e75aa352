//! The owner's hold on the processes inside: their first one, and how it ended.
//!
//! A thread of its own starts that process and waits for it. It must be that thread's child: the
//! kernel's "die with your parent" means the thread that forked, not its process. Start at
//! [`Inside::spawn`].

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::enter;
use crate::layout::Layout;
use crate::state::StateDir;

#[derive(Debug)]
pub(super) struct Inside {
    /// A duplicate of the control channel, to close it whoever else holds one.
    control: UnixStream,
    process: OwnedFd,
    ended: watch::Receiver<Option<ExitStatus>>,
    ended_blocking: Mutex<mpsc::Receiver<()>>,
}

/// How long the kernel may take to end everything inside.
const DROP_BOUND: Duration = Duration::from_secs(10);

impl Inside {
    /// Starts the entering process. Returns the owner's end of its control channel.
    pub(super) fn spawn(state: &StateDir, layout: &Layout) -> std::io::Result<(Inside, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let log = std::fs::File::options().create(true).append(true).open(layout.own_log())?;
        let mut command = enter::command(theirs.into(), state.lock().try_clone()?.into(), log)?;
        let (started, starting) = mpsc::channel();
        let (end, ended) = watch::channel(None);
        let (end_blocking, ended_blocking) = mpsc::channel();
        std::thread::Builder::new().name("sandbox-owner".to_owned()).spawn(move || {
            let spawned = command.spawn();
            // Closes this process's copies of what the child inherited.
            drop(command);
            let mut child = match spawned {
                Ok(child) => child,
                Err(e) => return drop(started.send(Err(e))),
            };
            let pid = Pid::from_child(&child);
            let process = pidfd_open(pid, PidfdFlags::empty()).map_err(std::io::Error::from);
            if process.is_err() {
                let _ = child.kill();
            }
            let _ = started.send(process);
            let status = child.wait().ok();
            let _ = end.send(status);
            let _ = end_blocking.send(());
        })?;
        let process = starting.recv().map_err(std::io::Error::other)??;
        let control = ours.try_clone()?;
        Ok((Inside { control, process, ended, ended_blocking: Mutex::new(ended_blocking) }, ours))
    }

    /// How the sandbox ended, if it does so in time. It has ended completely: pid 1 inside is
    /// reaped only after everything else there.
    pub(super) async fn ended_within(&self, bound: Duration) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        let seen = tokio::time::timeout(bound, ended.wait_for(Option::is_some)).await;
        seen.ok()?.ok().and_then(|status| *status)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.control.shutdown(Shutdown::Both);
        let ended = self.ended_blocking.get_mut().expect("only this function uses it");
        // A disconnected channel means that the thread is through, too.
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(DROP_BOUND) {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            let _ = ended.recv_timeout(DROP_BOUND);
        }
    }
}
