//! Which expected hop a seen hop stands for.
//!
//! The alignment with the fewest differences: a hop too many or too few costs more than any wrong field, so a finding
//! names the hop that is really the odd one. Hops of different kinds never stand for each other.

/// One row of the alignment: indices into expected and seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// Both are there.
    Both(usize, usize),
    /// Expected, and not seen.
    Missing(usize),
    /// Seen, and not expected.
    Extra(usize),
}

/// What leaving a hop without a counterpart costs; differences within a pair cost 1 each, less than this in all.
const GAP: usize = 1000;

/// Aligns `expected` hops with `seen` ones; `difference` is the number of wrong fields, `None` for different kinds.
pub(super) fn align(expected: usize, seen: usize, difference: impl Fn(usize, usize) -> Option<usize>) -> Vec<Row> {
    // cost[e][s]: the best for what is left from expected e and seen s on.
    let mut cost = vec![vec![0; seen + 1]; expected + 1];
    let pair = |e: usize, s: usize| difference(e, s).map(|d| d.min(GAP - 1));
    for e in (0..=expected).rev() {
        for s in (0..=seen).rev() {
            let missing = (e < expected).then(|| GAP + cost[e + 1][s]);
            let extra = (s < seen).then(|| GAP + cost[e][s + 1]);
            let both = (e < expected && s < seen).then(|| Some(pair(e, s)? + cost[e + 1][s + 1])).flatten();
            cost[e][s] = [both, missing, extra].into_iter().flatten().min().unwrap_or(0);
        }
    }
    let mut rows = Vec::new();
    let (mut e, mut s) = (0, 0);
    while e < expected || s < seen {
        let left = cost[e][s];
        let both = (e < expected && s < seen).then(|| Some(pair(e, s)? + cost[e + 1][s + 1])).flatten();
        if both == Some(left) {
            rows.push(Row::Both(e, s));
            (e, s) = (e + 1, s + 1);
        } else if e < expected && GAP + cost[e + 1][s] == left {
            rows.push(Row::Missing(e));
            e += 1;
        } else {
            rows.push(Row::Extra(s));
            s += 1;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(expected: &str, seen: &str) -> Vec<Row> {
        let (e, s): (Vec<_>, Vec<_>) = (expected.bytes().collect(), seen.bytes().collect());
        // Upper and lower case of a letter are one kind with one wrong field.
        align(e.len(), s.len(), |i, j| e[i].eq_ignore_ascii_case(&s[j]).then(|| usize::from(e[i] != s[j])))
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
}
