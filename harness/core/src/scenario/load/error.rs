//! What is wrong with a scenario file, and where: one message with a place, rendered for a terminal or as plain text.
//!
//! Start at [`LoadErrors::render`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::node::{Malformed, Place};
use crate::scenario::model::Position;

/// Something that is wrong in a file that the caller knows.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) place: Option<Place>,
}

impl Problem {
    /// Something wrong with a file as a whole.
    pub(super) fn whole(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help, place: None }
    }

    /// A file that is no YAML.
    pub(super) fn no_yaml(error: &Malformed) -> Self {
        Self { message: format!("not valid YAML: {}", error.message), help: None, place: error.place }
    }
}

/// One thing that is wrong with a scenario or a manifest.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct LoadError {
    /// What is wrong, in the words of the field.
    pub message: String,
    /// What to write instead, where that can be told.
    #[help]
    pub help: Option<String>,
    /// The file, as it was handed in.
    pub path: PathBuf,
    /// Where. `None`: the file as a whole.
    pub position: Option<Position>,
    /// Its text, for the excerpt.
    #[source_code]
    pub source_text: miette::NamedSource<Arc<str>>,
    /// The part of the text that is wrong, as bytes.
    #[label]
    pub span: Option<miette::SourceSpan>,
}

/// Everything that is wrong with a tree of scenarios.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("{} error(s) in scenario files", .0.len())]
pub struct LoadErrors(#[related] pub Vec<LoadError>);

const RED: &str = "\u{1b}[1;31m";
const BLUE: &str = "\u{1b}[1;34m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[0m";

impl LoadErrors {
    /// The errors as text, each with its place, the line and a help; with ANSI colours or without.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        self.0.iter().map(|error| error.render(color)).collect::<Vec<_>>().join("\n")
    }
}

impl LoadError {
    pub(super) fn new(path: &Path, text: &str, problem: Problem) -> Self {
        let name = path.display().to_string();
        // A place at the end of the text is put on its last line, so that there is something to show.
        let lines = text.lines().count().max(1);
        let place = problem.place.map(|place| match place.position.line {
            line if line <= lines => place,
            _ => {
                let last = text.lines().last().unwrap_or_default();
                let position = Position { line: lines, column: last.trim_end().chars().count() + 1 };
                Place { position, offset: text.trim_end().len(), length: 0 }
            }
        });
        Self {
            message: problem.message,
            help: problem.help,
            path: path.to_path_buf(),
            position: place.map(|p| p.position),
            source_text: miette::NamedSource::new(name, Arc::from(text)),
            span: place.map(|p| (p.offset.min(text.len()), p.length.min(text.len().saturating_sub(p.offset))).into()),
        }
    }

    /// The error as text, ending with a newline; with ANSI colours or without.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &str, text: &str| if color { format!("{code}{text}{RESET}") } else { text.to_owned() };
        let mut out = format!("{}: {}\n", paint(RED, "error"), self.message);
        let path = self.path.display();
        match self.position {
            Some(Position { line, column }) => {
                out.push_str(&format!("  {} {path}:{line}:{column}\n", paint(BLUE, "-->")));
                let bar = paint(BLUE, "|");
                let text = self.source_text.inner().lines().nth(line - 1).unwrap_or_default();
                let width = self.width(text, column);
                let indent: String =
                    text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                out.push_str(&format!("   {bar} {}\n", text.trim_end()));
                out.push_str(&format!("   {bar} {indent}{}\n", paint(RED, &"^".repeat(width))));
            }
            None => out.push_str(&format!("  {} {path}\n", paint(BLUE, "-->"))),
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("  {}: {help}\n", paint(CYAN, "help")));
        }
        out
    }

    /// How many columns of its first line are wrong.
    fn width(&self, line: &str, column: usize) -> usize {
        let rest = line.trim_end().chars().skip(column - 1).count().max(1);
        let Some(span) = self.span else { return 1 };
        let whole = self.source_text.inner().get(span.offset()..span.offset() + span.len()).unwrap_or_default();
        whole.lines().next().unwrap_or_default().chars().count().clamp(1, rest)
    }
}
