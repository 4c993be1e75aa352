//! The shell of a page: one real bash from its first command to its last, so that variables and functions stay.
//!
//! Each command is sourced from a file of its own, as it stands, with both outputs in one file. A command that hangs or
//! asks for input is ended, with all that it started. Start at [`Shell::start`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::wait;

/// How long a command may wait for input before it is told so.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what was told to end may take.
const END: Duration = Duration::from_secs(5);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit(i32),
    /// It waited for input, which a page has none of, and was ended.
    AskedForInput,
    /// It was ended after that long.
    Hung(Duration),
    /// It ended the shell with it.
    Shell,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to both its outputs.
    pub output: String,
}

/// A shell that runs.
pub struct Shell {
    child: Child,
    control: ChildStdin,
    /// Exit codes, one for each command that has ended; `None` at the end: the shell is gone.
    marks: Arc<Mutex<Vec<Option<i32>>>>,
    reader: JoinHandle<()>,
    folder: PathBuf,
    /// Kept open, so that reading from it waits for ever.
    _input: OwnedFd,
    number: usize,
}

impl Shell {
    /// Starts bash in `work`, with these variables; `folder` is for its files.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn start(work: &Path, folder: &Path, variables: &[(&str, std::ffi::OsString)]) -> io::Result<Self> {
        let input = folder.join("input");
        nix::unistd::mkfifo(&input, nix::sys::stat::Mode::S_IRWXU)?;
        let held = std::fs::OpenOptions::new().read(true).write(true).open(&input)?;
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(work);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Of its own group: Ctrl-C is the harness's to deal with.
        command.process_group(0).kill_on_drop(true);
        for (name, value) in variables {
            command.env(name, value);
        }
        let mut child = command.spawn()?;
        let lost = || io::Error::other("the shell has no pipes");
        let (control, marks) = (child.stdin.take().ok_or_else(lost)?, child.stdout.take().ok_or_else(lost)?);
        let seen: Arc<Mutex<Vec<Option<i32>>>> = Arc::default();
        let reader = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut lines = BufReader::new(marks).lines();
                let push = |mark| seen.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
                while let Ok(Some(line)) = lines.next_line().await {
                    push(line.trim().parse().ok());
                }
                push(None);
            }
        });
        Ok(Self { child, control, marks: seen, reader, folder: folder.to_owned(), _input: held.into(), number: 0 })
    }

    /// Runs a command and waits for its end, at most `bound`.
    ///
    /// # Errors
    /// What the operating system says, where the command could not be run at all.
    pub async fn run(&mut self, command: &str, bound: Duration) -> io::Result<Ran> {
        self.number += 1;
        let file = |what: &str| self.folder.join(format!("{}.{what}", self.number));
        let (script, output) = (file("sh"), file("out"));
        std::fs::write(&script, format!("{command}\n"))?;
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let line = format!(
            ". {} <{} >{} 2>&1; printf '%s\\n' \"$?\"\n",
            quoted(&script),
            quoted(&self.folder.join("input")),
            quoted(&output)
        );
        let before = self.marks().len();
        self.control.write_all(line.as_bytes()).await?;
        self.control.flush().await?;
        let ended = self.ended(before, bound).await;
        let bytes = std::fs::read(&output).unwrap_or_default();
        Ok(Ran { ended, output: String::from_utf8_lossy(&bytes).into_owned() })
    }

    fn marks(&self) -> Vec<Option<i32>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ended(&mut self, before: usize, bound: Duration) -> Ended {
        let begun = Instant::now();
        let mut asks_since: Option<Instant> = None;
        let waited = wait::until("the end of the command", bound, || {
            let mark = self.marks().get(before).copied();
            let asks = self.processes().into_iter().any(|pid| reads_input(pid, &self.folder.join("input")));
            asks_since = if asks { asks_since.or_else(|| Some(Instant::now())) } else { None };
            let patient = asks_since.is_none_or(|since| since.elapsed() < PATIENCE);
            async move {
                match mark {
                    Some(Some(code)) => Ok(Ended::Exit(code)),
                    Some(None) => Ok(Ended::Shell),
                    None if !patient => Ok(Ended::AskedForInput),
                    None => Err("it runs".to_owned()),
                }
            }
        });
        let ended = waited.await.unwrap_or_else(|_| Ended::Hung(begun.elapsed()));
        if matches!(ended, Ended::AskedForInput | Ended::Hung(_)) {
            self.end_command(before).await;
        }
        ended
    }

    /// Ends what the command started; where the shell itself waits, the shell.
    async fn end_command(&mut self, before: usize) {
        let shell = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
            for pid in self.processes().into_iter().filter(|pid| *pid != shell) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
            }
            let marked = wait::until("the command's end", END, || {
                let marked = self.marks().len() > before;
                async move { if marked { Ok(()) } else { Err("it runs".to_owned()) } }
            });
            if marked.await.is_ok() {
                return;
            }
        }
        let _ = self.child.start_kill();
    }

    /// Whether the shell still takes commands.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.marks().last() != Some(&None)
    }

    /// Ends the shell, and what its commands left running.
    pub async fn end(mut self) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait().await;
        self.reader.abort();
    }

    /// The shell and everything below it.
    fn processes(&self) -> Vec<i32> {
        let Some(shell) = self.child.id().and_then(|id| i32::try_from(id).ok()) else { return Vec::new() };
        let mut parents: Vec<(i32, i32)> = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse().ok());
            parents.extend(parent.map(|parent| (pid, parent)));
        }
        let mut found = vec![shell];
        let mut at = 0;
        while at < found.len() {
            let below = parents.iter().filter(|(_, parent)| *parent == found[at]).map(|(pid, _)| *pid);
            let below: Vec<i32> = below.collect();
            found.extend(below);
            at += 1;
        }
        found
    }
}

/// Whether a process waits to read from the page's (empty) input at this moment.
fn reads_input(pid: i32, input: &Path) -> bool {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let is_input = std::fs::read_link(folder.join("fd/0")).is_ok_and(|target| target == input);
    let reading = format!("{} 0x0 ", nix::libc::SYS_read);
    is_input && std::fs::read_to_string(folder.join("syscall")).is_ok_and(|call| call.starts_with(&reading))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell() -> (tempfile::TempDir, Shell) {
        let folder = tempfile::tempdir().expect("a folder");
        let shell = Shell::start(folder.path(), folder.path(), &[]).await.expect("bash");
        (folder, shell)
    }

    const BOUND: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn variables_stay_and_both_outputs_come_back() {
        let (_folder, mut shell) = shell().await;
        let set = shell.run("export A=1\nB=$(cat <<EOF\ntwo\nEOF\n)", BOUND).await.expect("it runs");
        assert_eq!(set.ended, Ended::Exit(0));
        let said = shell.run("echo $A $B; echo err >&2; false", BOUND).await.expect("it runs");
        assert_eq!((said.ended, said.output.as_str()), (Ended::Exit(1), "1 two\nerr\n"));
        shell.end().await;
    }

    #[tokio::test]
    async fn a_command_that_hangs_or_asks_is_ended_and_the_shell_goes_on() {
        let (_folder, mut shell) = shell().await;
        let hung = shell.run("echo before; sleep 1000", Duration::from_millis(300)).await.expect("it runs");
        assert!(matches!(hung.ended, Ended::Hung(_)), "{hung:?}");
        // bash adds that it was terminated.
        assert!(hung.output.starts_with("before\n"), "{hung:?}");
        let asked = shell.run("cat", BOUND).await.expect("it runs");
        assert_eq!(asked.ended, Ended::AskedForInput);
        let after = shell.run("echo after", BOUND).await.expect("it runs");
        assert_eq!((after.ended, after.output.as_str()), (Ended::Exit(0), "after\n"));
        let gone = shell.run("exit 3", BOUND).await.expect("it runs");
        assert_eq!(gone.ended, Ended::Shell);
        assert!(!shell.lives());
        shell.end().await;
    }
}
