//! Starting containers and programs in them, from the node agent's side.
//!
//! It runs this program again ([`super::container`]) and speaks with it over a socket. It decides nothing: the specs
//! say everything. Start at [`Launcher::container`] and [`Launcher::exec`].

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::container::spec::{ContainerSpec, ExecSpec, Process, Report};
use super::container::{CONTAINER, EXEC};
use crate::os::{self, MountAttributes};

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The agent could not run the child.
    #[error("cannot start the container's process: {0}")]
    Agent(#[from] std::io::Error),
    /// The child says why it could not become the program.
    #[error("{0}")]
    Child(String),
}

/// A running program: a container's first process, or an exec.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Names the program's process for as long as anybody holds it.
    pub(crate) pidfd: Arc<OwnedFd>,
    pid: i32,
    /// The controlling end of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Running {
    /// Waits for the end. A signal counts as 128 and its number.
    pub(crate) async fn wait(&mut self) -> i32 {
        match self.child.wait().await {
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt;
                status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
            }
            Err(_) => 255,
        }
    }

    /// Sends a signal to the program alone. One that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Kills the program and what it started in its session.
    pub(crate) fn kill_session(&self) {
        // Only while the leader lives is its number its own.
        if rustix::process::pidfd_send_signal(&self.pidfd, Signal::STOP).is_ok()
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid)
        {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        self.signal(Signal::KILL);
    }
}

/// Runs this program again, from a read-only view of its file: a container must not reach the file itself through
/// `/proc/PID/exe`.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// Makes the read-only view in `state`. The mount lives as long as the sandbox's mount namespace.
    pub(crate) fn new(state: &Path) -> std::io::Result<Self> {
        let program = state.join("program");
        File::create(&program)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let file = std::fs::canonicalize("/proc/self/exe")?;
        let tree = rustix::mount::open_tree(CWD, file, flags)?;
        os::set_mount_attributes(&tree, "", MountAttributes::READ_ONLY, false)?;
        rustix::mount::move_mount(&tree, "", CWD, &program, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { program })
    }

    /// Starts a container; its output goes to `log`.
    pub(crate) async fn container(&self, spec: &ContainerSpec, log: File) -> Result<Running, LaunchError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = std::process::Command::new(&self.program);
        command.arg(CONTAINER).arg(theirs.as_raw_fd().to_string()).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        os::inherit(&mut command, vec![theirs.into()]);
        start(command, ours, serde_json::to_vec(spec)).await
    }

    /// Starts a program in the container whose first process is `container`. Streams are ignored with `tty`.
    pub(crate) async fn exec(
        &self,
        container: &OwnedFd,
        process: Process,
        tty: bool,
        streams: [Stdio; 3],
    ) -> Result<Running, LaunchError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let container = container.try_clone()?;
        let mut command = std::process::Command::new(&self.program);
        command.arg(EXEC).arg(theirs.as_raw_fd().to_string()).arg(container.as_raw_fd().to_string());
        let [stdin, stdout, stderr] = streams;
        command.env_clear().current_dir("/").stdin(stdin).stdout(stdout).stderr(stderr);
        os::inherit(&mut command, vec![theirs.into(), container]);
        start(command, ours, serde_json::to_vec(&ExecSpec { process, tty })).await
    }
}

async fn start(
    command: std::process::Command,
    mut socket: std::os::unix::net::UnixStream,
    spec: serde_json::Result<Vec<u8>>,
) -> Result<Running, LaunchError> {
    let spec = spec.map_err(std::io::Error::from)?;
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    let mut child = command.spawn()?;
    drop(command);
    socket.set_nonblocking(true)?;
    // Most specs fit into the socket's buffer at once.
    let sent = socket.write(&spec).unwrap_or(0);
    let mut socket = UnixStream::from_std(socket)?;
    {
        use tokio::io::AsyncWriteExt;
        let rest = async {
            socket.write_all(&spec[sent..]).await?;
            socket.shutdown().await
        };
        if let Err(error) = rest.await {
            tracing::debug!(%error, "a container's process went away before it read its spec");
        }
    }
    let mut process = None;
    let mut terminal = None;
    let mut failed = None;
    let mut reports = Reports::new(socket);
    while let Some((report, descriptor)) = reports.next().await? {
        match (report, descriptor) {
            (Report::Process(pid), Some(pidfd)) => process = Some((pid, pidfd)),
            (Report::Terminal, descriptor) => terminal = descriptor,
            (Report::Failed(error), _) => failed = Some(error),
            (Report::Process(_), None) => failed = Some("the process came without its pidfd".to_owned()),
        }
    }
    match (process, failed) {
        (Some((pid, pidfd)), None) => Ok(Running { child, pidfd: Arc::new(pidfd), pid, terminal }),
        (_, failed) => {
            let status = child.wait().await?;
            Err(LaunchError::Child(failed.unwrap_or_else(|| format!("ended before it started: {status}"))))
        }
    }
}

/// The reports of one child, each with at most one descriptor.
struct Reports {
    socket: UnixStream,
    bytes: Vec<u8>,
    descriptors: std::collections::VecDeque<OwnedFd>,
}

impl Reports {
    fn new(socket: UnixStream) -> Self {
        Self { socket, bytes: Vec::new(), descriptors: std::collections::VecDeque::new() }
    }

    /// `None` once every process that held the other end has closed it or become its program.
    async fn next(&mut self) -> std::io::Result<Option<(Report, Option<OwnedFd>)>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let report = serde_json::from_slice(&line)?;
                let descriptor = match report {
                    Report::Failed(_) => None,
                    Report::Process(_) | Report::Terminal => self.descriptors.pop_front(),
                };
                return Ok(Some((report, descriptor)));
            }
            let mut buffer = [0; 4096];
            let read = self
                .socket
                .async_io(Interest::READABLE, || {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                    let mut control = RecvAncillaryBuffer::new(&mut space);
                    let mut parts = [IoSliceMut::new(&mut buffer)];
                    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
                    let message = rustix::net::recvmsg(self.socket.as_fd(), &mut parts, &mut control, flags)?;
                    let mut passed = Vec::new();
                    for part in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(rights) = part {
                            passed.extend(rights);
                        }
                    }
                    Ok((message.bytes, passed))
                })
                .await;
            let (count, passed) = match read {
                Ok(pair) => pair,
                // The child closed with part of its spec unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            };
            self.descriptors.extend(passed);
            if count == 0 {
                return Ok(None);
            }
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }
}
