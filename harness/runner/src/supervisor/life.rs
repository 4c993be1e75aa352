//! Until when a mesh lives: the decision, without anything that acts on it. Start at [`Life::verdict`].

use std::time::Duration;

use super::protocol::Purpose;

/// How long a mesh waits for another test.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// What clients have wanted of a mesh so far.
#[derive(Debug, Default)]
pub(super) struct Life {
    keep: bool,
    tested: bool,
}

/// What a mesh without clients does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays until `down`.
    Stay,
    /// It ends if nobody comes within this time.
    EndAfter(Duration),
    /// It ends now.
    End,
}

impl Life {
    /// A client has come.
    pub(super) fn wanted(&mut self, purpose: Purpose) {
        self.keep |= purpose == Purpose::Keep;
        self.tested |= purpose == Purpose::Test;
    }

    /// Whether it was asked to stay until `down`.
    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// What becomes of the mesh now that nobody uses it. A broken one is of no use to anybody.
    pub(super) fn verdict(&self, broken: bool) -> Verdict {
        match (broken, self.keep, self.tested) {
            (true, ..) | (_, false, false) => Verdict::End,
            (false, true, _) => Verdict::Stay,
            (false, false, true) => Verdict::EndAfter(IDLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wish_counts_and_nobody_keeps_what_is_broken() {
        let life = |purposes: &[Purpose]| {
            let mut life = Life::default();
            purposes.iter().for_each(|p| life.wanted(*p));
            life
        };
        assert_eq!(life(&[Purpose::Run]).verdict(false), Verdict::End);
        assert_eq!(life(&[Purpose::Run, Purpose::Test]).verdict(false), Verdict::EndAfter(IDLE));
        assert_eq!(life(&[Purpose::Test, Purpose::Keep, Purpose::Run]).verdict(false), Verdict::Stay);
        assert_eq!(life(&[Purpose::Keep]).verdict(true), Verdict::End);
        assert!(life(&[Purpose::Keep]).is_kept());
    }
}
