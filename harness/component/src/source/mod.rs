//! The sources: each makes one component in a private folder, from what its pin says.
//!
//! A source never touches the cache's objects and never checks versions: the store does, for all alike.
//! Start at [`Made`].

pub(crate) mod go;
pub(crate) mod oci;
pub(crate) mod pypi;
pub(crate) mod toolchain;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::command::{Ended, Tool};
use crate::error::Error;
use crate::progress::Reporter;

/// The most that one tool may take; far above what a slow machine needs.
pub(crate) const TOOL_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// What a source tells about what it made, for the record: tool versions, hashes of inputs.
pub(crate) type Made = BTreeMap<String, String>;

/// Runs a tool with its lines as progress; a failure carries command, last lines and the remedy.
pub(crate) async fn run(
    tool: &Tool,
    what: String,
    reporter: Reporter<'_>,
    remedy: fn(&[String]) -> &'static str,
) -> Result<Ended, Error> {
    let mut last = String::new();
    let mut on_line = |line: &str| {
        if !line.is_empty() {
            line.clone_into(&mut last);
        }
        reporter.step(if last.is_empty() { &what } else { &last });
    };
    Ok(tool.succeed(&what, TOOL_LIMIT, |tail| remedy(tail).to_owned(), &mut on_line).await?)
}

/// Makes a finished file read-only, executable for all if it is a program.
pub(crate) fn seal(path: &Path, executable: bool) -> Result<(), Error> {
    let mode = if executable { 0o555 } else { 0o444 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::io("set the mode of", path))
}
