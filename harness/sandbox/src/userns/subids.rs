//! Subordinate ids: which ids beside their own a user may give to the inside of a user namespace.
//!
//! Reads `/etc/subuid` and `/etc/subgid` as subuid(5) describes them. Pure but for that; start at [`Ranges::parse`].

/// How many ids there must be beside the user's own: with it, all of 0 to 65535 exist inside.
pub(crate) const NEEDED: u32 = 65_535;

/// Where ranges usually begin.
const FIRST: u32 = 100_000;

/// One line of a map: ids from `inside` on are those from `outside` on, `count` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The ranges of one user, in the file's order, and the first id behind anybody's range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    own: Vec<(u32, u32)>,
    free: u32,
}

impl Ranges {
    /// Reads the text of such a file. Lines name the user by name or by number; others are not ours to judge.
    pub(crate) fn parse(text: &str, name: Option<&str>, uid: u32) -> Ranges {
        let uid = uid.to_string();
        let mut ranges = Ranges { own: Vec::new(), free: FIRST };
        for line in text.lines() {
            let mut fields = line.trim().split(':');
            let (Some(owner), Some(start), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let (Ok(start), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>()) else { continue };
            ranges.free = ranges.free.max(start.saturating_add(count));
            if count > 0 && (Some(owner) == name || owner == uid) {
                ranges.own.push((start, count));
            }
        }
        ranges
    }

    /// How many ids the user has.
    pub(crate) fn count(&self) -> u32 {
        self.own.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The first id of a range that could be given to the user without touching anybody's.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// The map: inside id 0 is `own`, 1 to [`NEEDED`] come from the ranges. None if they do not suffice.
    pub(crate) fn map(&self, own: u32) -> Option<Vec<Extent>> {
        let mut extents = vec![Extent { inside: 0, outside: own, count: 1 }];
        let mut missing = NEEDED;
        for &(outside, count) in &self.own {
            let count = count.min(missing);
            if count == 0 {
                break;
            }
            extents.push(Extent { inside: NEEDED - missing + 1, outside, count });
            missing -= count;
        }
        (missing == 0).then_some(extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "alice:100000:65536\n\n# comment\nbob:165536:1000\n1002:200000:65536\nbob:300000:65536\nbroken:x:1\n";

    #[test]
    fn a_range_is_found_by_name_and_by_number() {
        let by_name = Ranges::parse(FILE, Some("alice"), 1000);
        let expected =
            [Extent { inside: 0, outside: 1000, count: 1 }, Extent { inside: 1, outside: 100_000, count: NEEDED }];
        assert_eq!(by_name.map(1000).unwrap(), expected);
        assert_eq!(Ranges::parse(FILE, None, 1002).count(), 65_536);
        assert_eq!(Ranges::parse(FILE, Some("carol"), 1003).map(1003), None);
    }

    #[test]
    fn several_ranges_are_joined_without_a_gap() {
        let extents = Ranges::parse(FILE, Some("bob"), 1001).map(1001).unwrap();
        assert_eq!(extents[1], Extent { inside: 1, outside: 165_536, count: 1000 });
        assert_eq!(extents[2], Extent { inside: 1001, outside: 300_000, count: NEEDED - 1000 });
        assert_eq!(extents.iter().map(|e| e.count).sum::<u32>(), 65_536);
    }

    #[test]
    fn too_few_ids_are_no_map() {
        let few = Ranges::parse("dave:100000:65534", Some("dave"), 1004);
        assert_eq!((few.count(), few.map(1004)), (65_534, None));
        assert!(Ranges::parse("dave:100000:65535", Some("dave"), 1004).map(1004).is_some());
    }

    #[test]
    fn the_range_to_propose_lies_behind_all_others() {
        assert_eq!(Ranges::parse(FILE, None, 1).free(), 365_536);
        assert_eq!(Ranges::parse("", None, 1).free(), 100_000);
    }
}
