//! The curl commands inside what was executed in a pod, as far as a scenario can send them.
//!
//! Start at [`requests`].

/// A request of a page: curl's own arguments, without those that only say where the outputs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The arguments.
    pub arguments: Vec<String>,
    /// Whether curl was the command itself, so that its exit code is known.
    pub direct: bool,
}

/// Options of curl that take a value, short ones.
const WITH_VALUE: &str = "AHKDFTXbcdemoruwx";
/// Short options that a scenario leaves to the harness.
const OUTPUT: &str = "AKDowsSi";
/// The same, long.
const LONG_OUTPUT: [&str; 7] =
    ["--user-agent", "--config", "--dump-header", "--output", "--write-out", "--silent", "--show-error"];

/// The curl commands in the words of an executed command: itself, or those of a shell's text.
#[must_use]
pub fn requests(command: &[String]) -> Vec<Request> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["curl", rest @ ..] => vec![Request { arguments: kept(rest), direct: true }],
        ["time", "curl", rest @ ..] => vec![Request { arguments: kept(rest), direct: true }],
        [shell, "-c", text] if shell.ends_with("sh") => in_text(text),
        _ => Vec::new(),
    }
}

/// The curl commands of a shell's text, which ends one at `;`, `|`, `&` and a new line.
fn in_text(text: &str) -> Vec<Request> {
    let mut found = Vec::new();
    for command in commands(text) {
        let Some(at) = command.iter().position(|word| word == "curl") else { continue };
        let mut arguments: Vec<&str> = command[at + 1..].iter().map(String::as_str).collect();
        let proxy = command[..at]
            .iter()
            .find_map(|word| word.split_once('='))
            .filter(|(name, _)| ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].contains(name));
        if let Some((_, proxy)) = proxy {
            arguments.extend(["--proxy", proxy]);
        }
        found.push(Request { arguments: kept(&arguments), direct: false });
    }
    found
}

/// Words of each simple command.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';' | '|' | '&' | '\n') => {
                let last = all.len() - 1;
                all[last].extend(word.take());
                all.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => {
                let last = all.len() - 1;
                all[last].extend(word.take());
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    let last = all.len() - 1;
    all[last].extend(word);
    all
}

/// What is left of curl's arguments without those about outputs.
fn kept(arguments: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < arguments.len() {
        let word = arguments[at];
        at += 1;
        if word.starts_with("--") {
            let name = word.split('=').next().unwrap_or(word);
            let takes = !word.contains('=') && LONG_OUTPUT[..5].contains(&name);
            if LONG_OUTPUT.contains(&name) {
                at += usize::from(takes);
            } else {
                kept.push(word.to_owned());
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            for (n, letter) in letters.char_indices() {
                let takes = WITH_VALUE.contains(letter);
                let rest = &letters[n + letter.len_utf8()..];
                let value = match (takes, rest) {
                    (false, _) => None,
                    (true, "") => {
                        at += 1;
                        arguments.get(at - 1).map(|v| (*v).to_owned())
                    }
                    (true, rest) => Some(rest.to_owned()),
                };
                if !OUTPUT.contains(letter) {
                    kept.push(format!("-{letter}"));
                    kept.extend(value);
                }
                if takes {
                    break;
                }
            }
        } else {
            kept.push(word.to_owned());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Vec<Vec<String>> {
        let words: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
        requests(&words).into_iter().map(|r| r.arguments).collect()
    }

    #[test]
    fn what_is_about_outputs_goes() {
        assert_eq!(
            of(&["curl", "-sSL", "-o", "/dev/null", "-D", "-", "http://a.com/x"]),
            [vec!["-L", "http://a.com/x"]]
        );
        assert_eq!(of(&["curl", "-sSI", "https://a.com"]), [vec!["-I", "https://a.com"]]);
        assert_eq!(of(&["curl", "-w", "%{http_code}\n", "-H", "a: b", "u"]), [vec!["-H", "a: b", "u"]]);
        assert_eq!(
            of(&["curl", "-s", "--resolve", "a:443:1.2.3.4", "--output", "x", "u"]),
            [vec!["--resolve", "a:443:1.2.3.4", "u"]]
        );
        assert!(of(&["pilot-agent", "request"]).is_empty());
    }

    #[test]
    fn commands_of_a_shell_are_found() {
        assert_eq!(
            of(&["sh", "-c", "curl -s https://en.w.org/ | grep -o \"<title>.*</title>\"; curl -s 'https://de.w.org/'"]),
            [vec!["https://en.w.org/"], vec!["https://de.w.org/"]]
        );
        assert_eq!(of(&["sh", "-c", "HTTPS_PROXY=p:3128 curl https://a/"]), [vec!["https://a/", "--proxy", "p:3128"]]);
    }
}
