//! Components out of Go modules: programs built from a pinned package, files taken out of a pinned module.
//!
//! Go itself resolves and verifies (`go.sum`, `-mod=readonly`) and keeps what it downloaded and compiled in its own
//! caches, so an interrupted build goes on where it was. Start at [`build`] and [`take_file`].

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::toolchain::Toolchain;
use super::{Made, run, seal};
use crate::cache::Work;
use crate::command::Tool;
use crate::component::GoModule;
use crate::error::Error;
use crate::hash;
use crate::host::Host;
use crate::progress::Reporter;
use crate::remedy;

/// Go, with everything that would change the result taken out of its environment.
#[derive(Clone, Copy)]
pub(crate) struct Go<'a> {
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) host: &'a Host,
    /// For Go's caches where the user has no home.
    pub(crate) cache_root: &'a Path,
}

/// Go's own two caches.
#[derive(Debug, Deserialize)]
pub(crate) struct GoCaches {
    #[serde(rename = "GOCACHE")]
    pub(crate) build: PathBuf,
    #[serde(rename = "GOMODCACHE")]
    pub(crate) modules: PathBuf,
}

impl Go<'_> {
    fn tool(&self) -> Tool {
        let mut tool = Tool::new(&self.toolchain.go, self.host)
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("GOWORK", "off")
            .without_env(&["GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOTOOLDIR"]);
        if self.toolchain.own {
            tool = tool.without_env(&["GOROOT"]);
        }
        if self.host.get("HOME").is_none() {
            for (name, dir) in [("GOPATH", "go"), ("GOCACHE", "go-build")] {
                if self.host.get(name).is_none() {
                    tool = tool.env(name, self.cache_root.join(dir));
                }
            }
        }
        tool
    }

    /// Where Go keeps its caches.
    pub(crate) async fn caches(&self, reporter: Reporter<'_>) -> Result<GoCaches, Error> {
        let tool = self.tool().args(["env", "-json", "GOCACHE", "GOMODCACHE"]).quiet_stdout();
        let what = "asking Go for its caches".to_owned();
        let ended = run(&tool, what.clone(), reporter, remedy::go).await?;
        serde_json::from_str(&ended.stdout).map_err(|error| Error::Answer {
            what,
            reason: error.to_string(),
            command: tool.display(),
        })
    }

    fn tool_in(&self, module: &GoModule, work: &Work) -> Result<Tool, Error> {
        let dir = work.scratch().join("module");
        for (relative, bytes) in &module.files {
            let path = dir.join(relative);
            let parent = path.parent().unwrap_or(&dir);
            std::fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
        }
        let temporary = work.scratch().join("tmp");
        std::fs::create_dir_all(&temporary).map_err(Error::io("make", &temporary))?;
        Ok(self.tool().dir(&dir).env("GOTMPDIR", temporary))
    }

    fn made(&self, module: &GoModule) -> Made {
        Made::from([
            ("go".to_owned(), self.toolchain.version.clone()),
            ("module".to_owned(), format!("{}@{}", module.path, module.version)),
        ])
    }
}

impl GoCaches {
    /// Whether that module is downloaded, which tells a first build from a later one.
    pub(crate) fn has(&self, module: &GoModule) -> bool {
        self.modules.join(format!("{}@{}", escape(&module.path), escape(&module.version))).exists()
    }
}

/// Upper-case letters are written as `!` and the lower-case one: <https://go.dev/ref/mod#module-cache>.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
        escaped
    })
}

/// What to build.
pub(crate) struct Program<'a> {
    pub(crate) module: &'a GoModule,
    pub(crate) package: &'a str,
    pub(crate) tags: &'a [String],
    pub(crate) ldflags: &'a [String],
}

/// Builds a program to `entry` in the work's object folder.
pub(crate) async fn build(
    go: Go<'_>,
    program: &Program<'_>,
    entry: &str,
    work: &Work,
    reporter: Reporter<'_>,
) -> Result<Made, Error> {
    let output = work.object().join(entry);
    reporter.step(&format!("go build {} with {}", program.package, go.toolchain.version));
    let mut tool = go.tool_in(program.module, work)?.args(["build", "-v", "-trimpath"]);
    if !program.tags.is_empty() {
        tool = tool.args(["-tags".to_owned(), program.tags.join(",")]);
    }
    if !program.ldflags.is_empty() {
        tool = tool.args(["-ldflags".to_owned(), program.ldflags.join(" ")]);
    }
    let tool = tool.args(["-o".as_ref(), output.as_os_str(), program.package.as_ref()]);
    run(&tool, format!("building {}", program.package), reporter, remedy::go).await?;
    seal(&output, true)?;
    Ok(go.made(program.module))
}

/// Copies a file of a module to `entry` in the work's object folder, and compares it with its pinned hash.
pub(crate) async fn take_file(
    go: Go<'_>,
    (module, path, sha256): (&GoModule, &str, &str),
    entry: &str,
    work: &Work,
    reporter: Reporter<'_>,
) -> Result<Made, Error> {
    let dir = download(go, module, work, reporter).await?;
    let (source, output) = (dir.join(path), work.object().join(entry));
    std::fs::copy(&source, &output).map_err(Error::io("copy", &source))?;
    seal(&output, false)?;
    let seen = hash::file(&output).map_err(Error::io("read", &output))?;
    if seen != sha256 {
        return Err(Error::Hash {
            what: format!("{path} of {}@{}", module.path, module.version),
            expected: sha256.to_owned(),
            seen,
            help: "correct the sha256 in components.yaml if the module's version was changed there".to_owned(),
        });
    }
    Ok(go.made(module))
}

/// Downloads a module, which Go compares with `go.sum`, and gives its folder in Go's cache.
async fn download(go: Go<'_>, module: &GoModule, work: &Work, reporter: Reporter<'_>) -> Result<PathBuf, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        version: String,
        dir: PathBuf,
    }
    let tool = go.tool_in(module, work)?.args(["mod", "download", "-json", &module.path]).quiet_stdout();
    let what = format!("downloading the module {}", module.path);
    let ended = run(&tool, what.clone(), reporter, remedy::go).await?;
    let answer = |reason: String| Error::Answer { what: what.clone(), reason, command: tool.display() };
    let found: Download = serde_json::from_str(&ended.stdout).map_err(|error| answer(error.to_string()))?;
    if found.version != module.version {
        return Err(answer(format!("version {} came, expected {}", found.version, module.version)));
    }
    Ok(found.dir)
}

/// Copies a folder of a module to the folder of `entry` (its first part) in the work's object folder.
pub(crate) async fn take_folder(
    go: Go<'_>,
    (module, path): (&GoModule, &str),
    entry: &str,
    work: &Work,
    reporter: Reporter<'_>,
) -> Result<Made, Error> {
    let source = download(go, module, work, reporter).await?.join(path);
    let root = work.object().join(entry.split('/').next().unwrap_or_default());
    copy_folder(&source, &root)?;
    Ok(go.made(module))
}

fn copy_folder(source: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(Error::io("make", to))?;
    for item in std::fs::read_dir(source).map_err(Error::io("read", source))? {
        let item = item.map_err(Error::io("read", source))?;
        let (path, output) = (item.path(), to.join(item.file_name()));
        if path.is_dir() {
            copy_folder(&path, &output)?;
        } else {
            std::fs::copy(&path, &output).map_err(Error::io("copy", &path))?;
            seal(&output, false)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_cache_names_escape_upper_case() {
        assert_eq!(escape("github.com/Azure/Go"), "github.com/!azure/!go");
    }
}
