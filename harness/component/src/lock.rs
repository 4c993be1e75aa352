//! One lock per cache key, so that no two processes make the same thing, with a note for whom the others wait.
//!
//! The kernel frees it when its holder ends, however it ends. Lock files stay: removing them would race. Start at [`KeyLock`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A held lock; dropping frees it.
#[derive(Debug)]
pub(crate) struct KeyLock {
    _file: File,
}

/// What one try gave.
#[derive(Debug)]
pub(crate) enum Attempt {
    Held(KeyLock),
    /// Someone else has it; the note that they left.
    Busy(String),
}

impl KeyLock {
    /// Tries once. `note` says who we are and why.
    pub(crate) fn try_acquire(path: &Path, note: &str) -> io::Result<Attempt> {
        let mut file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(note.as_bytes())?;
                Ok(Attempt::Held(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Ok(Attempt::Busy(if holder.is_empty() { "a process that left no note".to_owned() } else { holder }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_try_names_the_holder_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.lock");
        let Attempt::Held(first) = KeyLock::try_acquire(&path, "first").unwrap() else { panic!("the lock was free") };
        assert!(matches!(KeyLock::try_acquire(&path, "second").unwrap(), Attempt::Busy(note) if note == "first"));
        drop(first);
        assert!(matches!(KeyLock::try_acquire(&path, "second").unwrap(), Attempt::Held(_)));
    }
}
