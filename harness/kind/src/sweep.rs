//! Removes what killed owners left: an engine's control groups and folder, or a cluster in the machine's Docker, and the
//! machine's settings that nodes changed. Start at [`sweep`].

use std::path::PathBuf;

use crate::engine;
use crate::error::Error;
use crate::machine::Record;
use crate::state;

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// What is gone.
    pub removed: Vec<String>,
    /// What could not be removed or put back.
    pub left: Vec<String>,
}

/// Sweeps once; nobody starts an engine or cluster meanwhile.
///
/// # Errors
/// Where the folder of all owners cannot be used.
pub fn sweep() -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let settings = state::for_each_dead(|path, settings| {
        let name = state::name_of(path);
        let mut left = Vec::new();
        if name.starts_with(engine::PREFIX) {
            left = engine::remove_dead(&name);
        } else if let Some(record) = Record::load(path) {
            match record.remove(settings) {
                Ok(removed) => swept.removed.extend(removed),
                Err(error) => left.push(error),
            }
        }
        // The folder of what cannot be removed stays, for the next sweep.
        if left.is_empty() {
            match std::fs::remove_dir_all(path) {
                Ok(()) => swept.removed.push(PathBuf::from(path).display().to_string()),
                Err(error) => left.push(format!("{}: {error}", path.display())),
            }
        }
        swept.left.extend(left);
    })?;
    swept.left.extend(settings);
    Ok(swept)
}
