//! Root file systems of Debian packages, made by mmdebstrap: apt resolves and verifies, package scripts run in a chroot.
//!
//! Nothing is installed on the machine: where mmdebstrap is missing, its package is unpacked into a temporary folder.
//! The mirror is the one that the machine's own apt uses. The result is the same bit for bit for the same packages; which
//! versions came is written in its `var/lib/dpkg/status`. Start at [`Root`].

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_component::{Cache, Fields, Host, Making, Tool};

use crate::error::Error;
use crate::layer::{Blob, TIME, hash_file};
use crate::progress::{ImageProgress, Reporter};

/// The release: that of kind's own base image.
const SUITE: &str = "trixie";
/// Signs the release; of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names another mirror than apt's.
const MIRROR: &str = "EGRESS_CONFORMANCE_DEBIAN_MIRROR";
/// Where neither the user nor apt names a mirror.
const PUBLIC_MIRROR: &str = "https://deb.debian.org/debian";
/// Far more than a slow mirror needs.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is left out of every package: nobody reads it in a container.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// In every root: what mmdebstrap takes from this machine goes again, and apt's list of the mirror.
const TIDY: &str = "#!/bin/sh\nset -eu\ncd \"$1\"\nrm -rf etc/hostname etc/resolv.conf etc/apt/sources.list etc/apt/sources.list.d/* var/log/*\n";

/// A root file system: Debian's essential packages and these.
#[derive(Debug, Clone, Copy)]
pub struct Root {
    /// Its name, for people.
    pub name: &'static str,
    /// Packages beside the essential ones.
    pub packages: &'static [&'static str],
    /// Shell commands that change it at the end, in its own folder.
    pub script: &'static str,
}

impl Root {
    fn key(&self, form: &str) -> String {
        let mut fields = Fields::new("egress-image root 1");
        fields.add(b"suite", SUITE.as_bytes()).add(b"form", form.as_bytes());
        fields.add(b"arch", std::env::consts::ARCH.as_bytes());
        for package in self.packages {
            fields.add(b"package", package.as_bytes());
        }
        for part in EXCLUDED {
            fields.add(b"excluded", part.as_bytes());
        }
        fields.add(b"script", TIDY.as_bytes()).add(b"script", self.script.as_bytes());
        fields.finish()
    }

    /// The root as a layer: a tar archive without device files.
    pub(crate) async fn layer(&self, cache: &Cache, host: &Host, progress: &dyn ImageProgress) -> Result<Blob, Error> {
        let dir = self.ensure("tar", cache, host, progress).await?;
        let (path, sum) = (dir.join("root.tar"), dir.join("sha256"));
        let sha256 = std::fs::read_to_string(&sum).map_err(Error::io("read", &sum))?;
        Ok(Blob { path, sha256 })
    }

    /// The root as a folder, to run programs in.
    ///
    /// # Errors
    /// Where it cannot be made; see [`Error`].
    pub async fn folder(&self, cache: &Cache, host: &Host, progress: &dyn ImageProgress) -> Result<PathBuf, Error> {
        Ok(self.ensure("directory", cache, host, progress).await?.join("root"))
    }

    async fn ensure(
        &self,
        form: &str,
        cache: &Cache,
        host: &Host,
        progress: &dyn ImageProgress,
    ) -> Result<PathBuf, Error> {
        let what = format!("Debian {SUITE}: {}", self.name);
        let reporter = Reporter::new(progress, &what);
        let note = format!("process {}, making {what}", std::process::id());
        let mut waiting = |holder: &str| progress.event(crate::progress::ImageEvent::Waiting { what: &what, holder });
        cache
            .ensure_folder(&self.key(form), &note, &mut waiting, async |making: Making<'_>| {
                require_root()?;
                reporter.started();
                let target = making.object.join(if form == "tar" { "root.tar" } else { "root" });
                self.make(form, &target, making.scratch, host, reporter).await?;
                if form == "tar" {
                    let sum = making.object.join("sha256");
                    let sha256 = hash_file(&target)?;
                    std::fs::write(&sum, sha256).map_err(Error::io("write", &sum))?;
                }
                reporter.finished(&target);
                Ok(())
            })
            .await
    }

    async fn make(
        &self,
        form: &str,
        target: &Path,
        scratch: &Path,
        host: &Host,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        let programs = mmdebstrap(host, scratch, reporter).await?;
        let hook = scratch.join("hook");
        std::fs::write(&hook, format!("{TIDY}{}", self.script)).map_err(Error::io("write", &hook))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&hook, mode).map_err(Error::io("set the mode of", &hook))?;
        let mirror = mirror(host).await;
        let mut path = programs.clone().into_os_string();
        path.push(":");
        path.push(host.get("PATH").unwrap_or_default());
        let temporary = scratch.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(Error::io("make", &temporary))?;
        // Package scripts run as other users too.
        for dir in [scratch, &temporary] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
                .map_err(Error::io("set the mode of", dir))?;
        }
        let mut tool = Tool::new(Path::new("/usr/bin/perl"), host)
            .env("SOURCE_DATE_EPOCH", TIME.to_string())
            .env("PATH", path)
            .env("TMPDIR", &temporary)
            .env("LC_ALL", "C.UTF-8")
            .args([programs.join("mmdebstrap").into_os_string()])
            .args(["--mode=root", "--variant=essential", "--skip=output/dev"])
            .args([format!("--format={form}"), format!("--include={}", self.packages.join(","))])
            .args(EXCLUDED.map(|part| format!("--dpkgopt=path-exclude={part}")))
            .args([format!("--customize-hook={}", hook.display())]);
        if Path::new(KEYRING).exists() {
            tool = tool.args([format!("--keyring={KEYRING}")]);
        }
        let tool =
            tool.args([SUITE.into(), target.as_os_str().to_owned(), format!("deb {mirror} {SUITE} main").into()]);
        let help = format!(
            "is the Debian mirror in reach? Another one can be given with {MIRROR}=URL; its signature is checked with {KEYRING} (package debian-archive-keyring)"
        );
        run(&tool, &format!("making {} with mmdebstrap", self.name), &help, reporter).await.map(|_| ())
    }
}

/// The folder with mmdebstrap and its helpers.
async fn mmdebstrap(host: &Host, scratch: &Path, reporter: Reporter<'_>) -> Result<PathBuf, Error> {
    if let Some(dir) = host.find("mmdebstrap").and_then(|path| path.parent().map(Path::to_owned)) {
        return Ok(dir);
    }
    let program = |name: &str, purpose: &'static str| {
        host.find(name).ok_or_else(|| Error::NoProgram {
            program: name.to_owned(),
            purpose,
            help: "images are made on Debian and its derivatives; elsewhere install mmdebstrap, or give ready images"
                .to_owned(),
        })
    };
    let (apt, dpkg) = (program("apt-get", "fetch mmdebstrap")?, program("dpkg-deb", "unpack mmdebstrap")?);
    let dir = scratch.join("mmdebstrap");
    std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
    // apt downloads as its own user where that one may write; here it may not, and says so in a warning.
    let fetch = Tool::new(&apt, host).args(["-q", "-o", "APT::Sandbox::User=root", "download", "mmdebstrap"]).dir(&dir);
    run(&fetch, "fetching mmdebstrap", "run `apt-get update` first, or install mmdebstrap", reporter).await?;
    let package = std::fs::read_dir(&dir)
        .map_err(Error::io("read", &dir))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| Error::Answer {
            what: "apt-get download mmdebstrap".to_owned(),
            expected: "a package file".to_owned(),
            seen: "none".to_owned(),
        })?;
    let unpack = Tool::new(&dpkg, host).args(["-x".into(), package.into_os_string(), dir.clone().into_os_string()]);
    run(&unpack, "unpacking mmdebstrap", "see the message", reporter).await?;
    Ok(dir.join("usr/bin"))
}

/// The mirror that is asked: the user's, else that of the machine's apt, else Debian's own.
async fn mirror(host: &Host) -> String {
    if let Some(mirror) = host.get(MIRROR) {
        return mirror.to_string_lossy().into_owned();
    }
    let Some(apt) = host.find("apt-get") else { return PUBLIC_MIRROR.to_owned() };
    let tool = Tool::new(&apt, host)
        .args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Identifier: Packages"])
        .quiet_stdout();
    let listed = match tool.run(Duration::from_secs(30), &mut |_| {}).await {
        Ok(ended) if ended.success => ended.stdout,
        _ => String::new(),
    };
    mirror_in(&listed).unwrap_or(PUBLIC_MIRROR).to_owned()
}

/// The first repository of Debian proper in apt's list (label Debian; that of security updates is Debian-Security).
fn mirror_in(listed: &str) -> Option<&str> {
    listed.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [uri, "Debian", "Debian"] => Some(*uri),
        _ => None,
    })
}

fn require_root() -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let own = Path::new("/proc/self");
    let uid = own.metadata().map_err(Error::io("look at", own))?.uid();
    if uid == 0 { Ok(()) } else { Err(Error::NotRoot { uid }) }
}

/// Runs a tool with its lines as progress; a failure carries command, last lines and the remedy.
pub(crate) async fn run(tool: &Tool, what: &str, help: &str, reporter: Reporter<'_>) -> Result<String, Error> {
    let mut on_line = |line: &str| reporter.step(if line.is_empty() { what } else { line });
    Ok(tool.succeed(what, LIMIT, |_| help.to_owned(), &mut on_line).await?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debian_proper() {
        let listed = "http://a.test/debian-security/ Debian Debian-Security\nhttp://a.test/node nodesource nodesource\n\
            http://a.test/debian/ Debian Debian\nhttp://b.test/debian/ Debian Debian\n";
        assert_eq!(mirror_in(listed), Some("http://a.test/debian/"));
        assert_eq!(mirror_in("http://u.test/ubuntu Ubuntu Ubuntu\n"), None);
    }

    #[test]
    fn the_key_follows_packages_script_and_form() {
        let root = Root { name: "x", packages: &["curl"], script: "" };
        assert_eq!(root.key("tar"), Root { name: "another name", ..root }.key("tar"));
        assert_ne!(root.key("tar"), root.key("directory"));
        assert_ne!(root.key("tar"), Root { packages: &["curl", "jq"], ..root }.key("tar"));
        assert_ne!(root.key("tar"), Root { script: "true", ..root }.key("tar"));
    }
}
