//! Asks a program for its version and compares it with the pinned one.
//!
//! Never guesses: what does not answer in the expected form is an error with the end of its output. Start at [`check`].

use std::path::Path;
use std::time::Duration;

use semver::Version;

use crate::command::Tool;
use crate::component::{Component, VersionCheck};
use crate::error::Error;
use crate::host::Host;

/// A version question takes well below a second; a loaded machine may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the program with its version arguments; the version is an error if it is not the pinned one.
/// A component without a check (a file) has the pinned version. `help` is what to do if it is another.
pub(crate) async fn check(component: &Component, path: &Path, host: &Host, help: &str) -> Result<String, Error> {
    let Some(question) = &component.check else { return Ok(component.version.clone()) };
    let no_version = |reason: String| Error::NoVersion {
        name: component.name.to_string(),
        path: path.to_owned(),
        reason,
        help: help.to_owned(),
    };
    let tool = Tool::new(path, host).args(&question.args);
    let mut output = String::new();
    let ended = tool
        .run(LIMIT, &mut |line| {
            output.push_str(line);
            output.push('\n');
        })
        .await
        .map_err(|error| no_version(error.to_string()))?;
    let Some(seen) = read(question, &output).filter(|_| ended.success) else {
        return Err(no_version(format!("{} gave {} and {:?}", tool.display(), ended.outcome, ended.tail.join("\n"))));
    };
    if question.any || seen == component.version {
        return Ok(seen);
    }
    Err(Error::Version {
        name: component.name.to_string(),
        path: path.to_owned(),
        expected: component.version.clone(),
        seen,
        help: help.to_owned(),
    })
}

fn read(check: &VersionCheck, output: &str) -> Option<String> {
    Some(check.pattern.captures(output)?.get(1)?.as_str().to_owned())
}

/// Reads Go's way of writing versions: `go1.26.8`, `1.26`, `go1.27rc1`, `devel go1.28-3f2a1b`, `go1.26.3 X:exp`.
pub(crate) fn go_version(text: &str) -> Option<Version> {
    let word = text.trim().trim_start_matches("devel ").split_whitespace().next()?;
    let word = word.strip_prefix("go").unwrap_or(word);
    let end = word.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(word.len());
    let (numbers, rest) = word.split_at(end);
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let major = parts.next()??;
    let minor = parts.next().unwrap_or(Some(0))?;
    let patch = parts.next().unwrap_or(Some(0))?;
    let mut version = Version::new(major, minor, patch);
    if rest.starts_with("rc") || rest.starts_with("beta") {
        version.pre = semver::Prerelease::new(rest).ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_of_all_forms() {
        let parse = |text| go_version(text).map(|v| v.to_string());
        assert_eq!(parse("go1.26.8").as_deref(), Some("1.26.8"));
        assert_eq!(parse("1.26").as_deref(), Some("1.26.0"));
        assert_eq!(parse("go1.27rc1").as_deref(), Some("1.27.0-rc1"));
        assert_eq!(parse("devel go1.28-3f2a1b Mon").as_deref(), Some("1.28.0"));
        assert_eq!(parse("go1.26.3 X:jsonv2").as_deref(), Some("1.26.3"));
        assert_eq!(parse("gccgo"), None);
        assert!(go_version("go1.26rc1") < go_version("1.26.0"));
    }
}
