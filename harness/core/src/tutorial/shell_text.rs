//! Where a command of a page ends: continuation lines, heredocs and quotes, as a shell reads them.
//!
//! It understands only as much of the shell's grammar as decides whether a command goes on. Start at [`Reading`].

/// A command that is being read line by line.
#[derive(Debug, Default)]
pub(super) struct Reading {
    lines: Vec<String>,
    /// Delimiters of heredocs whose text has begun or will, in order; whether tabs may stand before them.
    heredocs: Vec<(String, bool)>,
    quote: Option<char>,
    continues: bool,
    /// Brackets of compound commands and substitutions that are open: `$(`, `<(`, `{`, `do`.
    depth: usize,
}

impl Reading {
    /// Takes the next line. Returns whether the command is complete with it.
    pub(super) fn take(&mut self, line: &str) -> bool {
        self.lines.push(line.to_owned());
        if let Some((delimiter, tabs)) = self.heredocs.first() {
            let text = if *tabs { line.trim_start_matches('\t') } else { line };
            // What is indented in a page's list was indented with it, and some pages indent the delimiter too.
            if text == delimiter || line.trim() == delimiter.as_str() {
                self.heredocs.remove(0);
            }
            return self.complete();
        }
        self.scan(line);
        self.complete()
    }

    fn complete(&self) -> bool {
        self.heredocs.is_empty() && self.quote.is_none() && !self.continues && self.depth == 0
    }

    /// What has not come yet, in words; `None` when the command is complete.
    pub(super) fn lacks(&self) -> Option<String> {
        if let Some((delimiter, _)) = self.heredocs.first() {
            return Some(format!("a heredoc is not closed: no line `{delimiter}`"));
        }
        if let Some(quote) = self.quote {
            return Some(format!("a quote {quote} is not closed"));
        }
        if self.depth > 0 {
            return Some("a bracket is not closed".to_owned());
        }
        self.continues.then(|| "the line ends with a backslash, and nothing follows".to_owned())
    }

    /// The command so far.
    pub(super) fn text(&self) -> String {
        self.lines.join("\n")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn scan(&mut self, line: &str) {
        self.continues = false;
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let c = chars[at];
            match (self.quote, c) {
                (Some('\''), _) => {
                    if c == '\'' {
                        self.quote = None;
                    }
                }
                (_, '\\') => {
                    self.continues = at + 1 == chars.len();
                    at += 1;
                }
                (Some(quote), _) => {
                    if c == quote {
                        self.quote = None;
                    }
                }
                (None, '\'' | '"' | '`') => self.quote = Some(c),
                (None, '#') if at == 0 || chars[at - 1].is_whitespace() => return,
                (None, '(') => self.depth += 1,
                (None, ')') => self.depth = self.depth.saturating_sub(1),
                (None, '<') if chars.get(at + 1) == Some(&'<') => {
                    if chars.get(at + 2) == Some(&'<') {
                        at += 2;
                    } else {
                        at = self.heredoc(&chars, at + 2);
                        continue;
                    }
                }
                (None, _) => {}
            }
            at += 1;
        }
    }

    /// Reads a heredoc's delimiter; returns where the scan goes on.
    fn heredoc(&mut self, chars: &[char], mut at: usize) -> usize {
        let tabs = chars.get(at) == Some(&'-');
        if tabs {
            at += 1;
        }
        while chars.get(at).is_some_and(|c| *c == ' ') {
            at += 1;
        }
        let mut delimiter = String::new();
        while let Some(c) = chars.get(at).filter(|c| !c.is_whitespace() && !"|;&<>()".contains(**c)) {
            if !matches!(c, '\'' | '"' | '\\') {
                delimiter.push(*c);
            }
            at += 1;
        }
        if !delimiter.is_empty() {
            self.heredocs.push((delimiter, tabs));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_taken(text: &str) -> usize {
        let mut reading = Reading::default();
        for (n, line) in text.lines().enumerate() {
            if reading.take(line) {
                return n + 1;
            }
        }
        panic!("not complete: {:?}", reading.lacks());
    }

    #[test]
    fn a_command_ends_where_a_shell_says_so() {
        assert_eq!(lines_taken("kubectl get pod\noutput"), 1);
        assert_eq!(lines_taken("kubectl get \\\n  pod\noutput"), 2);
        assert_eq!(lines_taken("kubectl apply -f - <<EOF\na: b\n\nEOF\noutput"), 4);
        assert_eq!(lines_taken("cat <<\\EOF > a.conf\nx $y '\nEOF\noutput"), 3);
        assert_eq!(lines_taken("cat <<'END' | sort\nx\nEND\noutput"), 3);
        assert_eq!(lines_taken("echo 'a\nb'\noutput"), 2);
        assert_eq!(lines_taken("kubectl exec a -- sh -c 'curl x; curl y'\n"), 1);
        assert_eq!(lines_taken("echo \"it's\" # don't\noutput"), 1);
        assert_eq!(lines_taken("kubectl apply -f <(istioctl kube-inject -f a.yaml)\nx"), 1);
        assert_eq!(lines_taken("export A=$(kubectl get pod \\\n -o name)\nx"), 2);
        assert_eq!(lines_taken("cat <<< word\nx"), 1);
        assert_eq!(lines_taken("grep -o \"<title>.*</title>\"\nx"), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let lacks = |text: &str| {
            let mut reading = Reading::default();
            assert!(text.lines().all(|line| !reading.take(line)) || text == "echo x");
            reading.lacks().unwrap_or_default()
        };
        assert!(lacks("cat <<EOF\nx").contains("no line `EOF`"));
        assert!(lacks("echo 'x").contains("quote"));
        assert!(lacks("echo \\").contains("backslash"));
        assert!(lacks("echo $(ls").contains("bracket"));
        assert_eq!(lacks("echo x"), "");
    }
}
