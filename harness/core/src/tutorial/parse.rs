//! Reading a page: Markdown with istio.io's shortcodes, or with fenced blocks as everybody writes them.
//!
//! It finds the commands that a reader would type, with what the page says they print, and never runs anything. Prose in
//! any language is skipped; only blocks, headings, tabs, boilerplates and comments matter. Start at [`parse`].

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::block::{self, Block};
use super::page::{Note, Page, Place};
use super::settings::{self, BlockSettings, Comment};

/// What reading a page needs from elsewhere.
pub struct Options<'a> {
    /// Tabs to read, by value or name; of a set without one of these the first is read.
    pub tabs: &'a [String],
    /// Values of shortcodes inside commands, such as `istio_version`.
    pub values: &'a [(&'a str, String)],
    /// The text of a boilerplate, with its file.
    pub boilerplate: &'a dyn Fn(&str) -> Option<(std::path::PathBuf, String)>,
}

/// How deep boilerplates may include each other.
const DEEPEST: usize = 4;
/// Kinds of `{{< text KIND >}}` that are no commands.
const OTHER_KINDS: [&str; 22] = [
    "plain",
    "text",
    "yaml",
    "json",
    "none",
    "html",
    "css",
    "java",
    "javascript",
    "js",
    "go",
    "python",
    "ruby",
    "xml",
    "ini",
    "toml",
    "csv",
    "markdown",
    "mermaid",
    "rego",
    "proto",
    "conf",
];
/// Words behind a fence that mean a shell.
const SHELLS: [&str; 8] = ["bash", "sh", "shell", "zsh", "console", "shell-session", "terminal", "shellsession"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

static TEXT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"^(\s*)\{\{<\s*text\s+(?:syntax=)?"?([\w+-]*)"?\s*([^>]*?)\s*>\}\}\s*$"#));
static TEXT_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{<\s*/\s*text\s*>\}\}"));
static TAB: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{<\s*tab\s+([^>]*)>\}\}"));
static TAB_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{<\s*/\s*tab\s*>\}\}"));
static TABSET: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{<\s*(/?)\s*tabset\b[^>]*>\}\}"));
static BOILERPLATE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"\{\{<\s*boilerplate\s+"?([\w./-]+)"?\s*>\}\}"#));
static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"([\w-]+)=(?:"([^"]*)"|(\S+))"#));
static FENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\s*)(`{3,}|~{3,})\s*\{?\.?([\w+-]*)(.*)$"));
static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(#{1,6})\s+(.*?)\s*(?:\{#[^}]*\})?\s*#*$"));

/// Reads a page. Whatever is wrong with it stands in [`Page::problems`].
#[must_use]
pub fn parse(path: &Path, text: &str, options: &Options<'_>) -> Page {
    let mut page = Page {
        path: path.to_owned(),
        title: String::new(),
        settings: settings::Settings::default(),
        steps: Vec::new(),
        skipped: Vec::new(),
        problems: Vec::new(),
    };
    let mut reader = Reader { page: &mut page, options, section: String::new(), number: 0, depth: 0 };
    reader.read(path, text);
    if page.title.is_empty() {
        page.title = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    }
    if page.steps.is_empty() && page.problems.is_empty() {
        let why = if page.skipped.is_empty() {
            "the page has no commands: expected blocks as ```bash, ```console or {{< text bash >}}".to_owned()
        } else {
            format!("every command of the page is left out; the first: {}", page.skipped[0])
        };
        page.problems.push(Note { at: Place { file: path.to_owned(), line: 1 }, message: why });
    }
    page
}

struct Reader<'p, 'o> {
    page: &'p mut Page,
    options: &'p Options<'o>,
    section: String,
    number: usize,
    depth: usize,
}

/// A tab that is open, and whether it is read.
struct Tab {
    name: String,
    read: bool,
}

/// One set of tabs.
struct TabSet {
    /// Which of its tabs is read, from 1.
    chosen: usize,
    tabs: usize,
}

impl Reader<'_, '_> {
    fn problem(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        let at = Place { file: file.to_owned(), line };
        self.page.problems.push(Note { at, message: message.into() });
    }

    fn read(&mut self, file: &Path, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        let mut at = self.front_matter(file, &lines);
        let mut sets: Vec<TabSet> = Vec::new();
        let mut tabs: Vec<(Tab, usize)> = Vec::new();
        let mut next = BlockSettings::default();
        while at < lines.len() {
            let line = lines[at];
            let number = at + 1;
            if let Some(found) = TEXT.captures(line) {
                let (kind, attributes) = (found[2].to_owned(), found[3].to_owned());
                let end = (at + 1..lines.len()).find(|n| TEXT_END.is_match(lines[*n]));
                let Some(end) = end else {
                    self.problem(file, number, "the block is not closed: no {{< /text >}} follows");
                    return;
                };
                let block = Block { file, first: number + 1, lines: unindented(&lines[at + 1..end], found[1].len()) };
                self.number += 1;
                let set = std::mem::take(&mut next);
                self.text_block(&block, &kind, &attributes, set, &tabs);
                at = end + 1;
            } else if let Some(found) = FENCE.captures(line) {
                let fence = found[2].to_owned();
                let closes = |l: &str| {
                    let l = l.trim();
                    l.len() >= fence.len() && l.chars().all(|c| fence.starts_with(c))
                };
                let Some(end) = (at + 1..lines.len()).find(|n| closes(lines[*n])) else {
                    self.problem(file, number, format!("the block is not closed: no line {fence} follows"));
                    return;
                };
                let block = Block { file, first: number + 1, lines: unindented(&lines[at + 1..end], found[1].len()) };
                self.number += 1;
                let set = std::mem::take(&mut next);
                self.fenced_block(&block, &found[3].to_lowercase(), set, &tabs);
                at = end + 1;
            } else if let Some(rest) = line.trim_start().strip_prefix("<!--") {
                let Some((comment, end)) = comment(&lines, at, rest) else {
                    self.problem(file, number, "the comment is not closed: no --> follows");
                    return;
                };
                match settings::read(&comment) {
                    Some(Ok(Comment::Block(set))) => next = set,
                    Some(Ok(Comment::Page(set))) if self.page.steps.is_empty() => self.page.settings = *set,
                    Some(Ok(Comment::Page(_))) => {
                        self.problem(file, number, "settings of the page stand behind its first command");
                    }
                    Some(Err(message)) => self.problem(file, number, message),
                    None => {}
                }
                at = end + 1;
            } else {
                self.line(file, &lines, at, &mut sets, &mut tabs);
                at += 1;
            }
        }
    }

    /// A line of prose: a heading, a tab, a boilerplate, or nothing of interest.
    fn line(&mut self, file: &Path, lines: &[&str], at: usize, sets: &mut Vec<TabSet>, tabs: &mut Vec<(Tab, usize)>) {
        let (line, number) = (lines[at], at + 1);
        if let Some(found) = HEADING.captures(line) {
            if found[1].len() == 1 {
                if self.page.title.is_empty() {
                    found[2].clone_into(&mut self.page.title);
                }
            } else {
                self.section = slug(&found[2]);
                self.number = 0;
            }
        }
        if let Some(found) = TABSET.captures(line) {
            if found[1].is_empty() {
                sets.push(TabSet { chosen: self.chosen_tab(&lines[at + 1..]), tabs: 0 });
            } else {
                sets.pop();
            }
        }
        if let Some(found) = TAB.captures(line) {
            let read = sets.last_mut().is_none_or(|set| {
                set.tabs += 1;
                set.tabs == set.chosen
            });
            let name = tab_names(&found[1]).into_iter().next().unwrap_or_default();
            tabs.push((Tab { name, read }, number));
        }
        if TAB_END.is_match(line) {
            tabs.pop();
        }
        if let Some(found) = BOILERPLATE.captures(line) {
            self.boilerplate(file, number, &found[1]);
        }
    }

    /// Which tab of the set that begins before these lines is read: the first that is asked for, else the first.
    fn chosen_tab(&self, lines: &[&str]) -> usize {
        let own = lines.iter().take_while(|l| !TABSET.is_match(l));
        let mut names = own.filter_map(|l| TAB.captures(l)).map(|found| tab_names(&found[1]));
        let asked = |names: Vec<String>| names.iter().any(|name| self.options.tabs.contains(name));
        names.position(asked).map_or(1, |at| at + 1)
    }

    fn boilerplate(&mut self, file: &Path, number: usize, name: &str) {
        if self.depth >= DEEPEST {
            return self.problem(file, number, format!("boilerplate {name}: they include each other"));
        }
        match (self.options.boilerplate)(name) {
            Some((path, text)) => {
                self.depth += 1;
                // Its headings are not the page's own, and its blocks do not count as the section's.
                let (section, count) = (std::mem::replace(&mut self.section, slug(name)), self.number);
                self.number = 0;
                let title = std::mem::replace(&mut self.page.title, "-".to_owned());
                self.read(&path, &text);
                self.page.title = title;
                (self.section, self.number) = (section, count);
                self.depth -= 1;
            }
            None => self.page.skipped.push(Note {
                at: Place { file: file.to_owned(), line: number },
                message: format!("boilerplate {name} is neither beside the page nor known: its commands are not run"),
            }),
        }
    }

    /// Reads the front matter; returns the first line behind it.
    fn front_matter(&mut self, file: &Path, lines: &[&str]) -> usize {
        if lines.first().map(|l| l.trim()) != Some("---") {
            return 0;
        }
        let Some(end) = (1..lines.len()).find(|n| lines[*n].trim() == "---") else {
            self.problem(file, 1, "the front matter is not closed: no second line --- follows");
            return lines.len();
        };
        let title = lines[1..end].iter().find_map(|l| l.strip_prefix("title:"));
        if let Some(title) = title.filter(|_| self.page.title.is_empty()) {
            self.page.title = title.trim().trim_matches(['"', '\'']).to_owned();
        }
        end + 1
    }

    fn text_block(
        &mut self,
        block: &Block<'_>,
        kind: &str,
        attributes: &str,
        set: BlockSettings,
        tabs: &[(Tab, usize)],
    ) {
        if kind != "bash" {
            if !OTHER_KINDS.contains(&kind) {
                let known = OTHER_KINDS.iter().chain(&["bash"]);
                let near = known.map(|k| (strsim::damerau_levenshtein(k, kind), k)).min();
                let hint = near.filter(|(d, _)| *d <= 2).map(|(_, k)| format!("; did you mean `{k}`?"));
                let message = format!("unknown kind of block `{kind}`{}", hint.unwrap_or_default());
                self.problem(block.file, block.first - 1, message);
            }
            return;
        }
        let id = attribute(attributes, "snip_id");
        if id.as_deref() == Some("none") && set.skip.is_none() {
            return self.leave_out(block, "an alternative: istio.io marks it snip_id=none");
        }
        let name = id.unwrap_or_else(|| self.name());
        self.commands(block, name, set, tabs, true, true);
    }

    fn fenced_block(&mut self, block: &Block<'_>, info: &str, set: BlockSettings, tabs: &[(Tab, usize)]) {
        let prompts = block.lines.iter().any(|l| l.starts_with("$ "));
        if SHELLS.contains(&info) || (info.is_empty() && prompts) {
            let name = self.name();
            self.commands(block, name, set, tabs, prompts, false);
        } else if info == "output" {
            // What the command before has printed.
            if let Some(step) = self.page.steps.last_mut().filter(|s| s.expected.is_none()) {
                step.expected = block::expected(block, 0, &block.lines, set.verify);
            }
        }
    }

    fn name(&self) -> String {
        match self.section.as_str() {
            "" => format!("top_{}", self.number),
            section => format!("{section}_{}", self.number),
        }
    }

    fn leave_out(&mut self, block: &Block<'_>, why: &str) {
        let at = Place { file: block.file.to_owned(), line: block.first };
        self.page.skipped.push(Note { at, message: why.to_owned() });
    }

    fn commands(
        &mut self,
        block: &Block<'_>,
        name: String,
        set: BlockSettings,
        tabs: &[(Tab, usize)],
        prompts: bool,
        istio: bool,
    ) {
        if let Some((tab, _)) = tabs.iter().find(|(tab, _)| !tab.read) {
            let why = format!("in tab {:?}, which is not chosen (--tab)", tab.name);
            return self.leave_out(block, &why);
        }
        if let Some(why) = &set.skip {
            return self.leave_out(block, why);
        }
        let form = block::Form { prompts, istio, values: self.options.values };
        let found = block::commands(block, &name, &set, &form);
        self.page.steps.extend(found.steps);
        self.page.problems.extend(found.problems);
    }
}

/// A comment that begins on line `at`; its text, and its last line.
fn comment(lines: &[&str], at: usize, rest: &str) -> Option<(String, usize)> {
    if let Some((text, _)) = rest.split_once("-->") {
        return Some((text.to_owned(), at));
    }
    let end = (at + 1..lines.len()).find(|n| lines[*n].contains("-->"))?;
    let mut text = vec![rest];
    text.extend(&lines[at + 1..end]);
    text.push(lines[end].split("-->").next().unwrap_or_default());
    Some((text.join("\n"), end))
}

/// What a tab is called: its value, its name.
fn tab_names(attributes: &str) -> Vec<String> {
    ["category-value", "name"].iter().filter_map(|key| attribute(attributes, key)).collect()
}

fn attribute(attributes: &str, key: &str) -> Option<String> {
    let found = ATTRIBUTE.captures_iter(attributes).find(|c| &c[1] == key)?;
    found.get(2).or(found.get(3)).map(|m| m.as_str().to_owned())
}

/// Lines of a block that stands in a list, as if it did not.
fn unindented(lines: &[&str], indent: usize) -> Vec<String> {
    let cut = |line: &&str| {
        let own = line.len() - line.trim_start_matches(' ').len();
        line[own.min(indent)..].to_owned()
    };
    lines.iter().map(cut).collect()
}

/// A heading as istio.io names its snippets: blanks become `_`, what is neither letter nor digit goes.
fn slug(heading: &str) -> String {
    let kept = heading.chars().map(|c| if c.is_whitespace() || c == '-' { '_' } else { c });
    kept.filter(|c| c.is_alphanumeric() || *c == '_').collect::<String>().to_lowercase()
}
