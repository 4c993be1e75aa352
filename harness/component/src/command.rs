//! Runs a tool as a child that cannot outlive this process, and hands on its output line by line.
//!
//! Never inherits the process's environment: what a tool sees is given. Start at [`Tool::run`].

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::host::Host;

/// Lines of output kept for error messages.
const TAIL: usize = 15;
/// A silent tool causes an empty line this often, so that a listener sees it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Runs `"$@"` in its own process group, with a watcher that kills the whole group once our end of the pipe on its
/// standard input is closed. The kernel closes it however we end, SIGKILL included.
const GUARD: &str = r#"
exec 3<&0
{ exec >/dev/null 2>&1; while read -r line <&3; do :; done; kill -KILL 0; } &
watcher=$!
"$@" 3<&- </dev/null
code=$?
{ kill -KILL "$watcher"; wait "$watcher"; } 2>/dev/null
exit "$code"
"#;

/// A tool to run.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    quiet_stdout: bool,
}

/// How a tool ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it exited with 0, within its limit.
    pub success: bool,
    /// `exit status: 1` and the like, or the time limit.
    pub outcome: String,
    /// All of its standard output.
    pub stdout: String,
    /// The last lines of both streams, in order of arrival.
    pub tail: Vec<String>,
}

/// A tool that failed, with what a person needs to see why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{what} failed: {outcome}\n  command: {command}{}", last_lines(.tail))]
#[diagnostic(help("{help}"))]
pub struct ToolFailure {
    /// What was being done.
    pub what: String,
    /// Exit status, or the time limit, or why it did not start.
    pub outcome: String,
    /// The command line.
    pub command: String,
    /// The last lines of its output.
    pub tail: Vec<String>,
    /// What to do.
    pub help: String,
}

fn last_lines(tail: &[String]) -> String {
    let lines: String = tail.iter().map(|line| format!("\n    {line}")).collect();
    if lines.is_empty() { lines } else { format!("\n  its last lines:{lines}") }
}

impl Tool {
    /// A program, with the environment of that host.
    #[must_use]
    pub fn new(program: &Path, host: &Host) -> Self {
        Self {
            program: program.to_owned(),
            args: Vec::new(),
            env: host.variables().clone(),
            dir: None,
            quiet_stdout: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Takes environment variables away.
    #[must_use]
    pub fn without_env(mut self, names: &[&str]) -> Self {
        names.iter().for_each(|name| {
            self.env.remove(std::ffi::OsStr::new(name));
        });
        self
    }

    /// Keeps only the environment variables of which `keep` says so.
    #[must_use]
    pub fn keep_env(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.env.retain(|name, _| keep(&name.to_string_lossy()));
        self
    }

    /// Sets its working folder.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Its standard output is an answer to parse, not news: only standard error goes to `on_line`.
    #[must_use]
    pub fn quiet_stdout(mut self) -> Self {
        self.quiet_stdout = true;
        self
    }

    /// The command line for people, quoted where a shell needs it.
    #[must_use]
    pub fn display(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end or to the limit, then it is killed; so it is when the future is dropped.
    /// `on_line` gets each line of output, and an empty one when the tool is silent for long.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn run(&self, limit: Duration, on_line: &mut (dyn FnMut(&str) + Send)) -> std::io::Result<Ended> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(GUARD).arg("sh").arg(&self.program).args(&self.args);
        command.env_clear().envs(&self.env).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn()?;
        // Held until the end: closing it kills the group.
        let lifeline = child.stdin.take();
        let (sender, mut lines) = mpsc::channel(64);
        let readers = [
            child.stdout.take().map(|out| tokio::spawn(forward(out, true, sender.clone()))),
            child.stderr.take().map(|err| tokio::spawn(forward(err, false, sender))),
        ];
        let mut seen = Seen::default();
        let work = async {
            loop {
                match tokio::time::timeout(HEARTBEAT, lines.recv()).await {
                    Ok(Some((is_stdout, line))) => {
                        if !(is_stdout && self.quiet_stdout) {
                            on_line(&line);
                        }
                        seen.add(is_stdout, line);
                    }
                    Ok(None) => break child.wait().await,
                    Err(_) => on_line(""),
                }
            }
        };
        let result = tokio::time::timeout(limit, work).await;
        drop(lifeline);
        readers.into_iter().flatten().for_each(|reader| reader.abort());
        let (success, outcome) = match result {
            Ok(status) => {
                let status = status?;
                (status.success(), status.to_string())
            }
            Err(_) => (false, format!("no end within {} s, killed", limit.as_secs())),
        };
        Ok(Ended { success, outcome, stdout: seen.stdout, tail: seen.tail.into() })
    }

    /// The same for a tool that must succeed. `help` is told the last lines, and says what to do.
    ///
    /// # Errors
    /// [`ToolFailure`] where it cannot be started, fails, or takes too long.
    pub async fn succeed(
        &self,
        what: &str,
        limit: Duration,
        help: impl Fn(&[String]) -> String + Send,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ended, ToolFailure> {
        tracing::debug!(command = self.display(), "running");
        let failed = |outcome: String, tail: Vec<String>| ToolFailure {
            what: what.to_owned(),
            outcome,
            command: self.display(),
            help: help(&tail),
            tail,
        };
        match self.run(limit, on_line).await {
            Ok(ended) if ended.success => Ok(ended),
            Ok(ended) => Err(failed(ended.outcome, ended.tail)),
            Err(error) => Err(failed(error.to_string(), Vec::new())),
        }
    }
}

#[derive(Default)]
struct Seen {
    stdout: String,
    tail: VecDeque<String>,
}

impl Seen {
    fn add(&mut self, is_stdout: bool, line: String) {
        if is_stdout {
            self.stdout.push_str(&line);
            self.stdout.push('\n');
        }
        if !line.trim().is_empty() {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }
}

async fn forward(stream: impl AsyncRead + Unpin, is_stdout: bool, lines: mpsc::Sender<(bool, String)>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if lines.send((is_stdout, text)).await.is_err() {
            return;
        }
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        Tool::new(Path::new("/bin/sh"), &Host::current()).args(["-c", script])
    }

    #[tokio::test]
    async fn gives_lines_status_and_both_streams() {
        let mut heard = Vec::new();
        let ended = shell("echo out; echo err >&2; exit 3")
            .run(Duration::from_secs(20), &mut |line| heard.push(line.to_owned()))
            .await
            .unwrap();
        assert!(!ended.success);
        assert_eq!(ended.outcome, "exit status: 3");
        assert_eq!(ended.stdout, "out\n");
        heard.sort();
        assert_eq!(heard, ["err", "out"]);
    }

    #[tokio::test]
    async fn keeps_only_the_last_lines() {
        let ended = shell("i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); done")
            .run(Duration::from_secs(20), &mut |_| {})
            .await
            .unwrap();
        assert_eq!(ended.tail.len(), TAIL);
        assert_eq!(ended.tail.last().map(String::as_str), Some("39"));
    }

    /// A grandchild, as the compilers of `go build` are, dies with the future that ran the tool.
    #[tokio::test]
    async fn the_limit_kills_grandchildren_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; echo ready; wait", pid_file.display());
        let ended = shell(&script).run(Duration::from_secs(2), &mut |_| {}).await.unwrap();
        assert!(!ended.success);
        assert!(ended.outcome.contains("within 2 s"), "{}", ended.outcome);
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        // Dead or not yet reaped (state Z).
        let gone = crate::wait::until(Duration::from_secs(10), |_| {
            let state = std::fs::read_to_string(&stat).unwrap_or_default();
            Ok::<_, ()>((state.is_empty() || state.contains(") Z ")).then_some(()))
        })
        .await;
        assert_eq!(gone, Ok(Some(())), "process {} is still there", pid.trim());
    }

    #[test]
    fn command_lines_are_quoted() {
        let tool = Tool::new(Path::new("/bin/go"), &Host::current()).args(["build", "-ldflags", "-s -w", "it's"]);
        assert_eq!(tool.display(), r"/bin/go build -ldflags '-s -w' 'it'\''s'");
    }
}
