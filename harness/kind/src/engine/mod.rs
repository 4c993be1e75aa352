//! The contained Docker engine: dockerd, containerd and runc of Debian's packages, in namespaces of their own.
//!
//! Pid 1 of its pid namespace ends when the owner's end of a pipe closes, and the kernel then kills everything inside:
//! the owner may die by SIGKILL. Its network namespace has a loopback device and the bridges that Docker makes, and no
//! way out. Its root is made of packages, with the machine's control groups and devices, and nothing else of the machine.
//! Start at [`Engine::start`]; what runs inside is in `enter.sh` and `main.sh`.

mod cgroups;
mod data;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, Tool};
use egress_image::{Archive, ImageProgress, Root};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::door::Dialer;
use crate::error::Error;
use crate::machine::require_space;
use crate::state::StateDir;
use crate::{sweep, tool, wait};
use data::Data;

/// The engine's programs.
pub const ENGINE_ROOT: Root = Root {
    name: "Docker engine",
    packages: &[
        "docker.io",
        "docker-cli",
        "containerd",
        "runc",
        "iptables",
        "iproute2",
        "kmod",
        "mount",
        "procps",
        "tini",
    ],
    script: "mkdir -p mnt/host engine\n",
};

/// Engines' folders begin with this.
pub(crate) const PREFIX: &str = "engine-";
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
/// For `docker load` of more than a gigabyte on a slow disk.
const LOAD: Duration = Duration::from_secs(900);
const COMMAND: Duration = Duration::from_secs(120);

/// What took how long.
pub type Phases = Vec<Phase>;

/// One step of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// Wall-clock time.
    pub took: Duration,
}

/// A running engine; it ends when this is dropped, in good order only by [`Engine::stop`].
#[derive(Debug)]
pub struct Engine {
    state: StateDir,
    data: Data,
    programs: PathBuf,
    host: Host,
    child: Child,
    /// The owner's sign of life.
    lifeline: ChildStdin,
    dialer: Dialer,
}

impl Engine {
    /// Whether this user can have one, with room for a node: what costs nothing to ask before anything is built.
    ///
    /// # Errors
    /// What is missing.
    pub fn preflight(cache: &Cache) -> Result<(), Error> {
        let uid = nix::unistd::geteuid().as_raw();
        if uid != 0 {
            return Err(Error::NotRoot { uid });
        }
        require_space(cache.dir())
    }

    /// Starts an engine and waits until it answers.
    ///
    /// # Errors
    /// Where this is not root, a package cannot be had, or the daemon does not come up.
    pub async fn start(cache: &Cache, host: &Host, progress: &dyn ImageProgress) -> Result<Self, Error> {
        Self::preflight(cache)?;
        sweep::sweep()?;
        let programs = ENGINE_ROOT.folder(cache, host, progress).await?;
        let data = Data::take(cache, &programs)?;
        let state = StateDir::create(PREFIX)?;
        let run = state.path().join("run");
        std::fs::create_dir(&run).map_err(Error::io("make", &run))?;
        let main = run.join("main.sh");
        std::fs::write(&main, include_str!("main.sh")).map_err(Error::io("write", &main))?;
        let log = run.join("engine.log");
        let output = File::create(&log).map_err(Error::io("make", &log))?;
        let errors = output.try_clone().map_err(Error::io("open", &log))?;
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "/bin/sh", "-c"])
            .args([include_str!("enter.sh"), "sh"])
            .args([&programs, state.path(), &data.root()])
            .arg(cgroups::parent(&state.name()))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("run", Path::new("unshare")))?;
        let lifeline = child.stdin.take().expect("its standard input is a pipe");
        let namespace = format!("/proc/{}/ns/net", child.id().unwrap_or_default());
        let engine = ready(&mut child, &run).await.and_then(|()| Dialer::new(Path::new(&namespace)));
        let dialer = match engine {
            Ok(dialer) => dialer,
            Err(error) => {
                drop(lifeline);
                let _ = tokio::time::timeout(STOP, child.wait()).await;
                let left = cgroups::remove(&state.name());
                tracing::debug!(?left, "a failed start");
                state.remove()?;
                return Err(error);
            }
        };
        let engine = Self { state, data, programs, host: host.clone(), child, lifeline, dialer };
        engine.write_command_line()?;
        Ok(engine)
    }

    /// The engine's name, unlike every other's of this machine.
    #[must_use]
    pub fn name(&self) -> String {
        self.state.name()
    }

    /// The daemon's socket, which works from the host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_folder().join("docker.sock")
    }

    /// The folder that the daemon sees as `/run/engine`: its socket and log, and what containers may share with the host.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.state.path().join("run")
    }

    /// The daemon's address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The program `docker` that fits the daemon.
    #[must_use]
    pub fn docker_program(&self) -> PathBuf {
        self.commands().join("docker")
    }

    /// A folder for files that live as long as the engine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.path()
    }

    /// The file that names the engine's network namespace, for `nsenter --net=`.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id().unwrap_or_default()).into()
    }

    /// Makes connections inside the engine's network.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The environment in which `docker`, and whatever calls it, speaks to this engine and to no other.
    #[must_use]
    pub fn environment(&self) -> Host {
        let mut path = self.commands().into_os_string();
        path.push(":");
        path.push(self.host.get("PATH").unwrap_or_default());
        self.host
            .clone()
            .with("PATH", path)
            .with("DOCKER_HOST", self.address())
            .with("DOCKER_CONFIG", self.state.path().join("docker-config"))
            .without("DOCKER_CONTEXT")
            .without("DOCKER_TLS_VERIFY")
            .without("DOCKER_CERT_PATH")
    }

    /// Runs `docker` with these arguments and gives its standard output.
    ///
    /// # Errors
    /// Where it fails, with its last lines.
    pub async fn docker(&self, what: &str, args: &[&str]) -> Result<String, Error> {
        self.docker_for(what, args, COMMAND).await
    }

    async fn docker_for(&self, what: &str, args: &[&str], limit: Duration) -> Result<String, Error> {
        let tool = Tool::new(&self.docker_program(), &self.environment()).args(args.iter().copied());
        tool::run(&tool, what, limit, "see the message, and the daemon's log beside its socket").await
    }

    /// Makes the engine answer at this path, too: a place that was known before it started.
    ///
    /// # Errors
    /// Where something is there already.
    pub fn answer_at(&self, path: &Path) -> Result<(), Error> {
        std::os::unix::fs::symlink(self.socket(), path).map_err(Error::io("make", path))
    }

    /// Loads these archives, unless they are loaded, and removes the images of others.
    ///
    /// # Errors
    /// Where an archive is broken, or the disk is full.
    pub async fn load(&self, archives: &[&Archive]) -> Result<Phases, Error> {
        let wanted: BTreeSet<String> = archives.iter().map(|archive| archive.key.clone()).collect();
        let mut loaded = self.data.loaded();
        let mut phases = Vec::new();
        for archive in archives.iter().filter(|archive| !loaded.contains(&archive.key)) {
            let start = Instant::now();
            let path = archive.path.display().to_string();
            self.docker_for("loading images into the engine", &["load", "--quiet", "--input", &path], LOAD).await?;
            let file = archive.path.file_name().unwrap_or_default().to_string_lossy();
            phases.push(Phase { name: format!("docker load {file}"), took: start.elapsed() });
        }
        if loaded != wanted {
            self.docker("removing images of earlier builds", &["image", "prune", "--force"]).await?;
            loaded = wanted;
            self.data.set_loaded(&loaded)?;
        }
        Ok(phases)
    }

    /// Removes all containers, stops the daemon so that its images can be used again, and checks that nothing is left.
    ///
    /// # Errors
    /// Where something is left; the images are then loaded anew by the next engine.
    pub async fn stop(mut self) -> Result<(), Error> {
        let emptied = self.empty().await;
        let told = self.lifeline.write_all(b"stop\n").await.and(self.lifeline.flush().await);
        let ended = tokio::time::timeout(STOP, self.child.wait()).await;
        drop(self.lifeline);
        if !matches!(ended, Ok(Ok(_))) {
            let _ = self.child.kill().await;
        }
        let left: Vec<String> = cgroups::remove(&self.state.name()).iter().map(|p| p.display().to_string()).collect();
        let in_order = emptied.is_ok() && told.is_ok() && matches!(&ended, Ok(Ok(status)) if status.success());
        if in_order {
            self.data.mark_clean(&self.programs)?;
        }
        let settings = self.state.remove()?;
        emptied?;
        let left: Vec<String> = left.into_iter().chain(settings).collect();
        if left.is_empty() { Ok(()) } else { Err(Error::Left { left: left.join(", ") }) }
    }

    async fn empty(&self) -> Result<(), Error> {
        let ids = self.docker("listing containers", &["ps", "--all", "--quiet"]).await?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            let args: Vec<&str> = ["rm", "--force", "--volumes"].into_iter().chain(ids).collect();
            self.docker("removing containers", &args).await?;
        }
        self.docker("removing volumes", &["volume", "prune", "--all", "--force"]).await?;
        self.docker("removing networks", &["network", "prune", "--force"]).await.map(|_| ())
    }

    /// The folder with the `docker` that [`Engine::environment`] puts first.
    fn commands(&self) -> PathBuf {
        self.state.path().join("bin")
    }

    /// `docker` of the engine's root, with the libraries of that root: the machine's may be older.
    fn write_command_line(&self) -> Result<(), Error> {
        let dir = self.commands();
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        let root = self.programs.display();
        let (arch, linker) = match std::env::consts::ARCH {
            "aarch64" => ("aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1"),
            _ => ("x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2"),
        };
        let script = format!(
            "#!/bin/sh\nexec '{root}/usr/{linker}' --library-path '{root}/usr/lib/{arch}' '{root}/usr/bin/docker' \"$@\"\n"
        );
        let path = self.docker_program();
        std::fs::write(&path, script).map_err(Error::io("write", &path))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(Error::io("set the mode of", &path))
    }
}

/// Waits until the daemon's socket answers a ping.
async fn ready(child: &mut Child, run: &Path) -> Result<(), Error> {
    let socket = run.join("docker.sock");
    let failed = |why: String| {
        let mut lines: Vec<String> = Vec::new();
        for name in ["engine.log", "dockerd.log"] {
            let text = std::fs::read_to_string(run.join(name)).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            lines.extend(all[all.len().saturating_sub(10)..].iter().map(|line| format!("    {line}")));
        }
        Error::Engine { why, tail: lines.join("\n") }
    };
    let answered = wait::until(START, async || {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(Err(format!("it ended: {status}")));
        }
        ping(&socket).await.map(Ok).map_err(|error| error.to_string())
    });
    match answered.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(failed(why)),
        Err(seen) => Err(failed(format!("no answer on its socket within {} s: {seen}", START.as_secs()))),
    }
}

/// `GET /_ping`: <https://docs.docker.com/reference/api/engine/>.
async fn ping(socket: &Path) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("expected 200, got {answer:?}")))
    }
}

/// Removes what a killed owner left of an engine besides its folder, and gives what cannot be removed yet: a control group
/// that still has processes, because the kernel is not done with them. (Processes, mounts, networks and firewall rules died
/// with their namespaces.)
pub(crate) fn remove_dead(name: &str) -> Vec<String> {
    cgroups::remove(name).iter().map(|path| path.display().to_string()).collect()
}
