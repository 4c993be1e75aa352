//! Files of container output.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes a log that a container writes through one descriptor and may open again by name.
///
/// Appending only, so that both ways of writing keep each other's lines; open to everybody, because Envoy re-opens
/// `/dev/stdout` under a user id of its own.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
    Ok(file)
}
