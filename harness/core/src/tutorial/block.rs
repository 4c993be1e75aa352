//! The commands of one block, each with its own output. Start at [`commands`].

use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::page::{Expected, Note, Place, Step};
use super::settings::BlockSettings;
use super::shell_text::Reading;
use super::verify::Verify;

static SHORTCODE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"\{\{<\s*([\w-]+)[^>]*>\}\}"#).expect("a constant pattern"));
static FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"@([\w./-]+)@").expect("a constant pattern"));

/// The lines of a block, without what encloses them.
pub(super) struct Block<'a> {
    pub(super) file: &'a Path,
    /// The number of the first of them.
    pub(super) first: usize,
    pub(super) lines: Vec<String>,
}

/// How a block is written.
pub(super) struct Form<'a> {
    /// Commands begin with `$ `; other lines are output.
    pub(super) prompts: bool,
    /// With istio.io's shortcodes and `@file@`.
    pub(super) istio: bool,
    /// Values of shortcodes.
    pub(super) values: &'a [(&'a str, String)],
}

/// What was found in a block.
#[derive(Default)]
pub(super) struct Found {
    pub(super) steps: Vec<Step>,
    pub(super) problems: Vec<Note>,
}

/// The commands of a block.
pub(super) fn commands(block: &Block<'_>, name: &str, set: &BlockSettings, form: &Form<'_>) -> Found {
    let mut found = Found::default();
    let mut reading = Reading::default();
    let mut begun = 0;
    let mut output: Vec<String> = Vec::new();
    let mut output_at = 0;
    for (n, line) in block.lines.iter().enumerate() {
        if !reading.is_empty() {
            if reading.take(line) {
                found.add(block, name, begun, std::mem::take(&mut reading).text(), set, form);
            }
            continue;
        }
        let command = if form.prompts { line.strip_prefix("$ ") } else { Some(line.as_str()) };
        match command {
            Some(text) if text.trim().is_empty() || (!form.prompts && text.trim_start().starts_with('#')) => {}
            Some(text) => {
                found.printed(block, output_at, &output, set.verify);
                output.clear();
                begun = n;
                if reading.take(text) {
                    found.add(block, name, begun, std::mem::take(&mut reading).text(), set, form);
                }
            }
            None => {
                if output.is_empty() {
                    output_at = n;
                }
                output.push(line.clone());
            }
        }
    }
    found.printed(block, output_at, &output, set.verify);
    if let Some(lacks) = reading.lacks() {
        found.problem(block, begun, format!("the command does not end in its block: {lacks}"));
    }
    found
}

impl Found {
    fn problem(&mut self, block: &Block<'_>, line: usize, message: String) {
        let at = Place { file: block.file.to_owned(), line: block.first + line };
        self.problems.push(Note { at, message });
    }

    fn add(&mut self, block: &Block<'_>, name: &str, line: usize, text: String, set: &BlockSettings, form: &Form<'_>) {
        let mut unknown = Vec::new();
        let mut command = text;
        if form.istio {
            let filled = SHORTCODE.replace_all(&command, |c: &Captures<'_>| {
                match form.values.iter().find(|(key, _)| *key == &c[1]) {
                    Some((_, value)) => value.clone(),
                    None => {
                        unknown.push(c[1].to_owned());
                        String::new()
                    }
                }
            });
            command = FILE.replace_all(&filled, "$1").into_owned();
        }
        for code in unknown {
            let known: Vec<_> = form.values.iter().map(|(key, _)| *key).collect();
            self.problem(block, line, format!("unknown shortcode `{code}` in a command; known: {}", known.join(", ")));
        }
        self.steps.push(Step {
            at: Place { file: block.file.to_owned(), line: block.first + line },
            name: name.to_owned(),
            command,
            expected: None,
            promised: set.path.clone(),
        });
    }

    /// Gives the last command what it prints.
    fn printed(&mut self, block: &Block<'_>, line: usize, output: &[String], verify: Option<Verify>) {
        if let Some(step) = self.steps.last_mut() {
            step.expected = expected(block, line, output, verify);
        }
    }
}

/// Lines as an expected output; `None` where they are blank.
pub(super) fn expected(block: &Block<'_>, line: usize, output: &[String], verify: Option<Verify>) -> Option<Expected> {
    let text = output.join("\n");
    let text = text.trim_matches('\n').trim_end();
    if text.trim().is_empty() {
        return None;
    }
    let blank = output.iter().take_while(|l| l.trim().is_empty()).count();
    Some(Expected {
        at: Place { file: block.file.to_owned(), line: block.first + line + blank },
        text: text.to_owned(),
        verify: verify.unwrap_or(Verify::Reader),
    })
}
