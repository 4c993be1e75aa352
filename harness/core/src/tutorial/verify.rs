//! Comparing what a command printed with what the page says.
//!
//! [`Verify::Reader`] compares as a reader does; the other kinds mean what istio.io's own tests mean by the function of
//! that name (`tests/util/verify.sh` of istio/istio.io at 44ec557d). Start at [`compare`].

use serde::{Deserialize, Serialize};

use super::log_line;
use super::token::{alike, line_alike};

/// How an output is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// As a reader does: versions, addresses, ages and generated names may differ, `...` stands for anything, and sample
    /// lines of an access log are compared by what they say.
    Reader,
    /// The whole text is the same.
    Same,
    /// The text is somewhere in the output.
    Contains,
    /// The text is nowhere in the output, and the command succeeds.
    NotContains,
    /// Between lines `...`, each part is somewhere in the output.
    Elided,
    /// A regular expression is found in the output.
    Regex,
    /// The first lines are the same.
    FirstLine,
    /// As many lines, each with as many words, which are equal or of one kind (age, address, generated name).
    Like,
    /// Of lines `+ TEXT` the text is in the output, of lines `- TEXT` it is not.
    Lines,
    /// The command fails.
    Failure,
}

/// A part of the page's text that the output does not bear out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Which line of the expected text, from 0.
    pub line: usize,
    /// What is expected.
    pub expected: String,
    /// What was printed in its place, as far as that can be told.
    pub seen: String,
    /// Whether all that the sample says holds, and only its form is another one.
    pub form_only: bool,
}

/// The text as istio.io's tests and readers see it: no carriage returns, no blanks at the ends of lines.
fn tidy(text: &str) -> String {
    let text = text.replace('\r', "");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// What of the expected text does not hold; `None` when all of it does. `seen` is what the command wrote to both its
/// outputs, `exit` its exit code.
#[must_use]
pub fn compare(verify: Verify, expected: &str, seen: &str, exit: i32) -> Option<Mismatch> {
    let (expected, seen) = (tidy(expected), tidy(seen));
    let wrong = |line: usize, part: &str, seen: &str| {
        Some(Mismatch { line, expected: part.to_owned(), seen: seen.to_owned(), form_only: false })
    };
    match verify {
        Verify::Reader => reader(&expected, &seen),
        Verify::Same if expected == seen => None,
        Verify::Same => first_difference(&expected, &seen),
        Verify::Contains if seen.contains(&expected) => None,
        Verify::Contains => wrong(0, &expected, &seen),
        Verify::NotContains if seen.contains(&expected) => wrong(0, &format!("nowhere: {expected}"), &expected),
        Verify::NotContains if exit != 0 => wrong(0, "exit code 0", &format!("exit code {exit}")),
        Verify::NotContains => None,
        Verify::Elided => elided(&expected, |part| seen.contains(&part.join("\n")), &seen),
        Verify::Regex => match regex::Regex::new(&expected) {
            Ok(pattern) if pattern.is_match(&seen) => None,
            Ok(_) => wrong(0, &expected, &seen),
            Err(error) => wrong(0, &format!("a regular expression: {error}"), &expected),
        },
        Verify::FirstLine => {
            let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
            if first(&expected) == first(&seen) { None } else { wrong(0, &first(&expected), &first(&seen)) }
        }
        Verify::Like => like(&expected, &seen),
        Verify::Lines => lines(&expected, &seen),
        Verify::Failure if exit != 0 => None,
        Verify::Failure => wrong(0, "a failure", "exit code 0"),
    }
}

fn first_difference(expected: &str, seen: &str) -> Option<Mismatch> {
    let mut theirs = seen.lines();
    for (line, wanted) in expected.lines().enumerate() {
        let got = theirs.next().unwrap_or("(nothing)");
        if wanted != got {
            return Some(Mismatch { line, expected: wanted.into(), seen: got.into(), form_only: false });
        }
    }
    let more: Vec<_> = theirs.collect();
    let line = expected.lines().count();
    Some(Mismatch { line, expected: "no more lines".into(), seen: more.join("\n"), form_only: false })
}

fn like(expected: &str, seen: &str) -> Option<Mismatch> {
    let mut theirs = seen.lines();
    for (line, wanted) in expected.lines().enumerate() {
        let got = theirs.next().unwrap_or("(nothing)");
        if !line_alike(wanted, got) {
            return Some(Mismatch { line, expected: wanted.into(), seen: got.into(), form_only: false });
        }
    }
    if theirs.next().is_some() { first_difference(expected, seen) } else { None }
}

fn lines(expected: &str, seen: &str) -> Option<Mismatch> {
    let wrong = |line: usize, rule: &str, seen: &str| {
        Some(Mismatch { line, expected: rule.to_owned(), seen: seen.to_owned(), form_only: false })
    };
    for (n, rule) in expected.lines().enumerate() {
        if let Some(text) = rule.strip_prefix("+ ").filter(|text| !seen.contains(text)) {
            return wrong(n, &format!("+ {text}"), seen);
        }
        if let Some(text) = rule.strip_prefix("- ").filter(|text| seen.contains(text)) {
            return wrong(n, &format!("- {text}"), text);
        }
    }
    None
}

/// Splits at lines `...` and asks for each part, with the number of its first line.
fn elided(expected: &str, holds: impl Fn(&[&str]) -> bool, seen: &str) -> Option<Mismatch> {
    for (line, part) in parts(expected) {
        if !holds(&part) {
            return Some(Mismatch { line, expected: part.join("\n"), seen: seen.to_owned(), form_only: false });
        }
    }
    None
}

fn parts(expected: &str) -> Vec<(usize, Vec<&str>)> {
    let mut parts: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut open = false;
    for (n, line) in expected.lines().enumerate() {
        if line.trim() == "..." {
            open = false;
        } else if open && let Some((_, part)) = parts.last_mut() {
            part.push(line);
        } else {
            parts.push((n, vec![line]));
            open = true;
        }
    }
    parts
}

/// Lines that tools add on their own and no page shows.
fn is_remark(line: &str) -> bool {
    line.starts_with("Warning: ") || line.starts_with("Defaulted container ")
}

fn reader(expected: &str, seen: &str) -> Option<Mismatch> {
    let kept: Vec<&str> = seen.lines().filter(|line| !is_remark(line)).collect();
    let mut form = None;
    let expected_lines: Vec<&str> = expected.lines().filter(|line| !is_remark(line)).collect();
    let whole = expected_lines.iter().all(|line| line.trim() != "...");
    if let Some(line) = expected_lines.iter().position(|line| log_line::is_sample(line)) {
        // A sample of a log: each line of it must be among those that were printed, by what it says.
        for (n, sample) in expected_lines.iter().enumerate().filter(|(_, l)| log_line::is_sample(l)) {
            match log_line::find(sample, &kept) {
                log_line::Match::Same => {}
                log_line::Match::OtherForm(seen) => {
                    form = form
                        .or_else(|| Some(Mismatch { line: n, expected: (*sample).to_owned(), seen, form_only: true }));
                }
                log_line::Match::None(nearest) => {
                    return Some(Mismatch {
                        line: n.max(line),
                        expected: (*sample).to_owned(),
                        seen: nearest.unwrap_or_else(|| kept.join("\n")),
                        form_only: false,
                    });
                }
            }
        }
        return form;
    }
    if !whole {
        return elided(expected, |part| found_in(part, &kept), seen);
    }
    let mut theirs = kept.iter().filter(|l| !l.trim().is_empty());
    for (n, wanted) in expected_lines.iter().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let got = theirs.next().copied().unwrap_or("(nothing)");
        if !alike(wanted, got) {
            return Some(Mismatch { line: n, expected: (*wanted).into(), seen: got.into(), form_only: false });
        }
    }
    let more: Vec<&str> = theirs.copied().collect();
    if more.is_empty() {
        return None;
    }
    let line = expected_lines.len();
    Some(Mismatch { line, expected: "no more lines".into(), seen: more.join("\n"), form_only: false })
}

/// Whether the lines of a part stand one after another in the output; the first and the last may be parts of lines.
fn found_in(part: &[&str], seen: &[&str]) -> bool {
    (0..=seen.len().saturating_sub(part.len())).any(|at| {
        part.iter().zip(seen.iter().skip(at)).all(|(p, s)| alike(p, s) || s.contains(p.trim()))
            && at + part.len() <= seen.len()
    })
}
