//! Which expected hop a seen hop stands for.
//!
//! The alignment with the fewest differences: a hop too many or too few costs more than any wrong field, so a finding
//! names the hop that is really the odd one. Hops of different kinds never stand for each other. A hop that may be taken
//! several times in a row stands for a run of seen ones; a run of a wrong length costs less than hops left over, so the
//! finding is about the number.

/// One row of the alignment: indices into expected and seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// Both are there.
    Both(usize, usize),
    /// The same expected hop once more.
    Again(usize, usize),
    /// Expected, and not seen.
    Missing(usize),
    /// Seen, and not expected.
    Extra(usize),
}

/// What leaving a hop without a counterpart costs; differences within a pair cost 1 each, less than this in all.
const GAP: usize = 1000;
/// What a run of a wrong length costs.
const COUNT: usize = 500;

/// What aligning needs to know of the hops.
pub(super) struct Hops<D, R> {
    /// How many are expected.
    pub(super) expected: usize,
    /// How many were seen.
    pub(super) seen: usize,
    /// The number of wrong fields of an expected and a seen hop; `None` for different kinds.
    pub(super) difference: D,
    /// Whether the run of seen hops from the second number on, so many as the third says, is as often as the expected
    /// hop may be taken; `None` where that hop is taken once and no more.
    pub(super) repeats: R,
}

/// Aligns expected hops with seen ones.
pub(super) fn align<D, R>(hops: &Hops<D, R>) -> Vec<Row>
where
    D: Fn(usize, usize) -> Option<usize>,
    R: Fn(usize, usize, usize) -> Option<bool>,
{
    let (expected, seen) = (hops.expected, hops.seen);
    // cost[e][s]: the best for what is left from expected e and seen s on, and the length of the run that it begins with.
    let mut cost = vec![vec![(0, Choice::Nothing); seen + 1]; expected + 1];
    for e in (0..=expected).rev() {
        for s in (0..=seen).rev() {
            let runs = if e < expected { runs(hops, e, s) } else { Vec::new() };
            let runs = runs.into_iter().map(|(length, own)| (own + cost[e + 1][s + length].0, Choice::Run(length)));
            let missing = (e < expected).then(|| (GAP + cost[e + 1][s].0, Choice::Missing));
            let extra = (s < seen).then(|| (GAP + cost[e][s + 1].0, Choice::Extra));
            let best = runs.chain(missing).chain(extra).min_by_key(|(cost, _)| *cost);
            cost[e][s] = best.unwrap_or((0, Choice::Nothing));
        }
    }
    let mut rows = Vec::new();
    let (mut e, mut s) = (0, 0);
    loop {
        match cost[e][s].1 {
            Choice::Nothing => return rows,
            Choice::Run(length) => {
                rows.push(Row::Both(e, s));
                rows.extend((s + 1..s + length).map(|again| Row::Again(e, again)));
                (e, s) = (e + 1, s + length);
            }
            Choice::Missing => {
                rows.push(Row::Missing(e));
                e += 1;
            }
            Choice::Extra => {
                rows.push(Row::Extra(s));
                s += 1;
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    Nothing,
    Run(usize),
    Missing,
    Extra,
}

/// The lengths of runs that an expected hop can stand for, each with its cost.
fn runs<D, R>(hops: &Hops<D, R>, e: usize, from: usize) -> Vec<(usize, usize)>
where
    D: Fn(usize, usize) -> Option<usize>,
    R: Fn(usize, usize, usize) -> Option<bool>,
{
    let mut found = Vec::new();
    let mut differences = 0;
    for s in from..hops.seen {
        let Some(wrong) = (hops.difference)(e, s) else { break };
        differences += wrong;
        let length = s + 1 - from;
        let count = match (hops.repeats)(e, from, length) {
            None if length > 1 => break,
            None | Some(true) => 0,
            Some(false) => COUNT,
        };
        found.push((length, differences.min(COUNT - 1) + count));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upper and lower case of a letter are one kind with one wrong field; `x3` behind a letter is how often.
    fn rows(expected: &str, seen: &str) -> Vec<Row> {
        let mut e: Vec<(u8, Option<usize>)> = Vec::new();
        for byte in expected.bytes() {
            match byte {
                b'1'..=b'9' => e.last_mut().unwrap().1 = Some(usize::from(byte - b'0')),
                letter => e.push((letter, None)),
            }
        }
        let s: Vec<_> = seen.bytes().collect();
        align(&Hops {
            expected: e.len(),
            seen: s.len(),
            difference: |i: usize, j: usize| e[i].0.eq_ignore_ascii_case(&s[j]).then(|| usize::from(e[i].0 != s[j])),
            repeats: |i: usize, _, length| e[i].1.map(|times| times == length),
        })
    }

    #[test]
    fn the_odd_hop_is_named() {
        use Row::{Both, Extra, Missing};
        assert_eq!(rows("sgd", "sgd"), [Both(0, 0), Both(1, 1), Both(2, 2)]);
        assert_eq!(rows("sgd", "sd"), [Both(0, 0), Missing(1), Both(2, 1)]);
        assert_eq!(rows("sd", "sDd"), [Both(0, 0), Extra(1), Both(1, 2)]);
        assert_eq!(rows("sd", "sD"), [Both(0, 0), Both(1, 1)]);
        assert_eq!(rows("s", "d"), [Missing(0), Extra(0)]);
        assert_eq!(rows("", "s"), [Extra(0)]);
        assert_eq!(rows("", ""), []);
    }

    #[test]
    fn a_hop_stands_for_a_run_where_it_may_be_taken_several_times() {
        use Row::{Again, Both, Extra, Missing};
        assert_eq!(rows("sg3d", "sgggd"), [Both(0, 0), Both(1, 1), Again(1, 2), Again(1, 3), Both(2, 4)]);
        assert_eq!(rows("sg3d", "sggd"), [Both(0, 0), Both(1, 1), Again(1, 2), Both(2, 3)]);
        assert_eq!(rows("sg3d", "sd"), [Both(0, 0), Missing(1), Both(2, 1)]);
        assert_eq!(rows("sgd", "sggd").iter().filter(|row| matches!(row, Extra(_))).count(), 1);
        assert_eq!(rows("sd1d2", "sDdd"), [Both(0, 0), Both(1, 1), Both(2, 2), Again(2, 3)]);
        assert_eq!(rows("d2", "dG"), [Both(0, 0), Extra(1)]);
    }
}
