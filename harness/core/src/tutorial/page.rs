//! What a page is, once it has been read: its settings, its steps in order, and what is wrong with it.
//!
//! Plain data. Start at [`Page`].

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::settings::Settings;
use super::verify::Verify;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A tutorial: one Markdown page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Its file.
    pub path: PathBuf,
    /// From the front matter, else the first heading, else the file's name.
    pub title: String,
    /// What the page tells the harness.
    pub settings: Settings,
    /// The commands, in order.
    pub steps: Vec<Step>,
    /// Commands of the page that are not run.
    pub skipped: Vec<Note>,
    /// What makes the page unfit to run.
    pub problems: Vec<Note>,
}

/// One command of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where its first line is.
    pub at: Place,
    /// `SECTION_N`, as istio.io names its snippets: N counts the blocks of a section.
    pub name: String,
    /// The command as it goes to the shell.
    pub command: String,
    /// What the page says it prints.
    pub expected: Option<Expected>,
    /// The hops that the page promises, in order: `sidecar`, `gateway`, names of destinations; an empty list is a request
    /// that never leaves its client.
    pub promised: Option<Vec<String>>,
}

/// What a page says that a command prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Where its first line is.
    pub at: Place,
    /// The text, without the newline at its end.
    pub text: String,
    /// How it is compared.
    pub verify: Verify,
}

/// Something about a line of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Which line.
    pub at: Place,
    /// What about it.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}
