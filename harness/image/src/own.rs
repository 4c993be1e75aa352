//! This project's own programs inside images: the DNS server and the external servers, as static binaries.
//!
//! Given by a path, found beside this program (as a release lays them), or, in a checkout, built by cargo.
//! Start at [`OwnPrograms::ensure`].

use std::path::{Path, PathBuf};

use egress_component::{Host, Tool};

use crate::debian::run;
use crate::error::Error;
use crate::progress::{ImageProgress, Reporter};

/// The two programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPrograms {
    /// `egress-dns`.
    pub dns: PathBuf,
    /// `external-server`.
    pub server: PathBuf,
}

const PROGRAMS: [(&str, &str); 2] =
    [("egress-dns", "EGRESS_CONFORMANCE_EGRESS_DNS"), ("external-server", "EGRESS_CONFORMANCE_EXTERNAL_SERVER")];

/// The platform whose C library can be linked into a program.
const TARGET: &str = concat!(env!("EGRESS_ARCH"), "-unknown-linux-gnu");

impl OwnPrograms {
    /// Finds or builds both.
    ///
    /// # Errors
    /// Where one is neither given, nor beside this program, nor can be built.
    pub async fn ensure(host: &Host, progress: &dyn ImageProgress) -> Result<Self, Error> {
        let mut found = Vec::new();
        for (program, variable) in PROGRAMS {
            found.push(find(host, program, variable)?);
        }
        let built = if found.iter().any(Option::is_none) { Some(build(host, progress).await?) } else { None };
        let place = |index: usize| -> Result<PathBuf, Error> {
            let (program, variable) = PROGRAMS[index];
            let path = match (&found[index], &built) {
                (Some(path), _) => path.clone(),
                (None, Some(dir)) => dir.join(program),
                (None, None) => unreachable!("what is not found is built"),
            };
            require_static(&path).map_err(|why| Error::Own { program, why, variable, target: TARGET })?;
            Ok(path)
        };
        Ok(Self { dns: place(0)?, server: place(1)? })
    }
}

/// The program given by its variable, else one beside this program that is static.
fn find(host: &Host, program: &'static str, variable: &'static str) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = host.get(variable) {
        let path = PathBuf::from(path);
        require_static(&path).map_err(|why| Error::Own { program, why, variable, target: TARGET })?;
        return Ok(Some(path));
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(program)));
    Ok(beside.filter(|path| require_static(path).is_ok()))
}

async fn build(host: &Host, progress: &dyn ImageProgress) -> Result<PathBuf, Error> {
    let (program, variable) = PROGRAMS[0];
    let missing = |why: String| Error::Own { program, why, variable, target: TARGET };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = workspace
        .canonicalize()
        .map_err(|_| missing("it is not beside this program, and the checkout it was built from is gone".to_owned()))?;
    let cargo =
        host.find("cargo").ok_or_else(|| missing("it is not beside this program, and there is no cargo".to_owned()))?;
    let what = "egress-dns and external-server";
    let reporter = Reporter::new(progress, what);
    reporter.started();
    let target = workspace.join("target/static");
    let tool = Tool::new(&cargo, host)
        .keep_env(|name| !of_an_outer_cargo(name))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target)
        .args([
            "build",
            "--locked",
            "--profile",
            "image",
            "--target",
            TARGET,
            "-p",
            "egress-dns",
            "-p",
            "external-server",
        ])
        .dir(&workspace);
    run(&tool, "building the static programs", "build them by hand to see more", reporter).await?;
    let dir = target.join(TARGET).join("image");
    reporter.finished(&dir);
    Ok(dir)
}

/// Whether cargo sets that variable for what it runs. Build scripts of dependencies look at some of them, so everything
/// would be built anew each time this program runs under `cargo test` instead of by itself, and the other way round.
fn of_an_outer_cargo(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_BUILD_TARGET",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "LD_LIBRARY_PATH",
        "OUT_DIR",
    ];
    NAMES.contains(&name) || name.starts_with("CARGO_PKG_")
}

/// Whether the file is an ELF program without an interpreter; if not, why.
fn require_static(path: &Path) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => Err(format!("{} needs a dynamic linker; it is not static", path.display())),
        None => Err(format!("{} is no 64-bit ELF program", path.display())),
    }
}

/// Whether a 64-bit little-endian ELF file names an interpreter (a program header of type `PT_INTERP`, 3).
fn interpreter(elf: &[u8]) -> Option<bool> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = elf.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(start + index * size, 4)? == 3 {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_and_a_script_are_told_from_static_ones() {
        let own = std::env::current_exe().unwrap();
        assert!(require_static(&own).unwrap_err().contains("dynamic linker"));
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(require_static(&script).unwrap_err().contains("no 64-bit ELF"));
        // The same program with its interpreter's header made into something else.
        let mut bytes = std::fs::read(&own).unwrap();
        let start = u64::from_le_bytes(bytes[32..40].try_into().unwrap()) as usize;
        let (size, count) = (usize::from(bytes[54]), usize::from(bytes[56]));
        for at in (0..count).map(|i| start + i * size) {
            if bytes[at] == 3 {
                bytes[at] = 0;
            }
        }
        assert_eq!(interpreter(&bytes), Some(false));
    }
}
