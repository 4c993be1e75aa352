//! Text formats: literal text with operators between.
//!
//! A value ends where the literal behind its operator begins. Where that literal also stands inside a value, the
//! earliest split that makes the whole line fit is taken; splits that failed are remembered, so the time grows with the
//! line's length and not with the number of splits.

use std::collections::HashSet;

use super::operator::Operator;
use super::record::{Record, Unparsed};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Value(Operator),
}

/// Compiles a text format. Percent signs are doubled to stand for themselves.
pub(super) fn compile(format: &str) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    let mut literal = String::new();
    let mut rest = format.trim_end_matches('\n');
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let end = operator_end(rest).ok_or_else(|| format!("an operator is not closed: %{rest}"))?;
        if !literal.is_empty() {
            segments.push(Segment::Literal(std::mem::take(&mut literal)));
        } else if matches!(segments.last(), Some(Segment::Value(_))) {
            return Err(format!("nothing stands between two operators before %{}%", &rest[..end]));
        }
        segments.push(Segment::Value(Operator::read(&rest[..end])?));
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        segments.push(Segment::Literal(literal));
    }
    Ok(segments)
}

/// Where an operator's closing percent sign is: arguments may hold percent signs (`START_TIME(%Y)`).
fn operator_end(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

struct Walk<'a> {
    segments: &'a [Segment],
    line: &'a str,
    failed: HashSet<(usize, usize)>,
    /// Where the first split stopped to fit, and what it wanted there.
    stopped: Option<(usize, String)>,
    values: Vec<(usize, usize)>,
    steps: usize,
}

/// More steps than any line of a real proxy needs; a line made to be ambiguous is given back instead.
const STEPS: usize = 100_000;

/// Writes a record as the proxy would: absent fields as `-`, no line break at the end.
pub(super) fn render(segments: &[Segment], record: &Record) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Literal(text) => text.clone(),
        Segment::Value(operator) => record.get(&operator.field).unwrap_or("-").to_owned(),
    };
    segments.iter().map(text).collect()
}

/// Parses one line.
pub(super) fn parse(segments: &[Segment], line: &str) -> Result<Record, Unparsed> {
    let line = line.trim_end_matches(['\n', '\r']);
    let mut walk = Walk { segments, line, failed: HashSet::new(), stopped: None, values: Vec::new(), steps: 0 };
    if !walk.fits(0, 0) {
        let (at, expected) = walk.stopped.unwrap_or_default();
        return Err(Unparsed { line: line.to_owned(), at, expected });
    }
    let mut record = Record::default();
    let operators = segments.iter().filter_map(|s| match s {
        Segment::Value(operator) => Some(operator),
        Segment::Literal(_) => None,
    });
    // Values were noted from the last to the first.
    for (operator, (start, end)) in operators.zip(walk.values.iter().rev()) {
        record.set(&operator.field, operator.clean(&line[*start..*end]));
    }
    Ok(record)
}

impl Walk<'_> {
    /// Whether the line from `at` on fits the segments from `n` on; notes the values on the way back.
    fn fits(&mut self, n: usize, at: usize) -> bool {
        if self.failed.contains(&(n, at)) {
            return false;
        }
        let rest = &self.line[at..];
        let segments = self.segments;
        let fits = match segments.get(n) {
            None => rest.is_empty() || self.wanted(at, "the line's end"),
            Some(Segment::Literal(text)) => {
                if rest.starts_with(text.as_str()) {
                    self.fits(n + 1, at + text.len())
                } else {
                    let text = format!("{text:?}");
                    self.wanted(at, &text)
                }
            }
            Some(Segment::Value(operator)) => self.value(operator, n, at),
        };
        if !fits {
            self.failed.insert((n, at));
        }
        fits
    }

    fn value(&mut self, operator: &Operator, n: usize, at: usize) -> bool {
        let next = match self.segments.get(n + 1) {
            Some(Segment::Literal(next)) => Some(next.as_str()),
            _ => None,
        };
        let line = self.line;
        let mut from = at;
        let mut any = false;
        loop {
            let end = match next {
                None => line.len(),
                Some(next) => match line[from..].find(next) {
                    Some(found) => from + found,
                    None if any => return false,
                    None => return self.wanted(at, &format!("a value of {} and what follows it", operator.field)),
                },
            };
            any = true;
            let value = &line[at..end];
            if operator.numeric && value != "-" && !value.bytes().all(|b| b.is_ascii_digit()) {
                // Every later end makes the value longer, never a number.
                return self.wanted(at, &format!("a number for {}", operator.field));
            }
            if operator.word && value.contains(' ') {
                return self.wanted(at, &format!("a value of {} without blanks", operator.field));
            }
            self.steps += 1;
            if self.steps > STEPS {
                return self.wanted(at, "a line that can be read in one way");
            }
            if self.fits(n + 1, end) {
                self.values.push((at, end));
                return true;
            }
            if next.is_none() || end == line.len() {
                return false;
            }
            from = end + line[end..].chars().next().map_or(1, char::len_utf8);
        }
    }

    fn wanted(&mut self, at: usize, what: &str) -> bool {
        self.stopped.get_or_insert_with(|| (at, what.to_owned()));
        false
    }
}
