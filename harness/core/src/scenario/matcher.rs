//! Matchers: what a single observed value must be.
//!
//! A scalar means equal, a list means the same set (used for response flags), `absent` means no value, and a map has
//! one of `contains`, `matches`, `in`, `not`, or `min` and `max`. Matching never looks further than the value it is
//! given. Start at [`Matcher`] and [`Matcher::accepts`].

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one observed value must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Matcher {
    /// Equal to a scalar; the string `absent` means that there is no value.
    Equal(Scalar),
    /// The same set of values, in any order.
    Set(Vec<Scalar>),
    /// One of the forms that are written as a map.
    Form(Form),
}

/// A string, a number or a truth value, compared by what it prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
}

/// The forms of a matcher that are written as a map.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// The value contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<Scalar>,
    /// The value matches this regular expression somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// The value is one of these.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Scalar>>,
    /// The value is not what this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Matcher>>,
    /// The value is a number, at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The value is a number, at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// An observed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Nothing was there.
    Absent,
    /// Text, or a number as it prints.
    Text(Cow<'a, str>),
    /// A set, such as response flags.
    Set(Vec<Cow<'a, str>>),
}

impl Matcher {
    /// Whether the observed value is what the matcher asks for.
    ///
    /// An absent value satisfies only `absent` and `{not: …}` of something present; an empty set is absent.
    #[must_use]
    pub fn accepts(&self, seen: &Seen<'_>) -> bool {
        match (self, seen) {
            (Self::Equal(Scalar::Text(text)), _) if text == "absent" => seen.is_absent(),
            (Self::Set(want), Seen::Set(got)) => same_set(want, got),
            (Self::Set(want), Seen::Absent) => want.is_empty(),
            (Self::Set(want), Seen::Text(got)) => want.len() == 1 && want[0].to_string() == **got,
            (Self::Equal(want), Seen::Text(got)) => want.to_string() == **got,
            (Self::Equal(want), Seen::Set(got)) => got.len() == 1 && want.to_string() == *got[0],
            (Self::Equal(_), Seen::Absent) => false,
            (Self::Form(form), _) => form.accepts(seen),
        }
    }

    /// Checks what the types cannot: a form is not empty and its regular expression compiles.
    ///
    /// # Errors
    /// Says which form is wrong and how.
    pub fn validate(&self) -> Result<(), String> {
        let Self::Form(form) = self else { return Ok(()) };
        if *form == Form::default() {
            return Err("an empty matcher accepts nothing: write one of contains, matches, in, not, min, max".into());
        }
        if let Some(pattern) = &form.matches {
            regex::Regex::new(pattern).map_err(|e| format!("`matches` is no regular expression: {}", reason(&e)))?;
        }
        form.not.as_ref().map_or(Ok(()), |inner| inner.validate())
    }
}

impl Form {
    fn accepts(&self, seen: &Seen<'_>) -> bool {
        if let Some(inner) = &self.not {
            return !inner.accepts(seen) && self.rest_accepts(seen);
        }
        self.rest_accepts(seen)
    }

    fn rest_accepts(&self, seen: &Seen<'_>) -> bool {
        let positive = self.contains.is_some()
            || self.matches.is_some()
            || self.one_of.is_some()
            || self.min.is_some()
            || self.max.is_some();
        if !positive {
            return true;
        }
        let text = match seen {
            Seen::Absent => return false,
            Seen::Text(text) => Cow::Borrowed(&**text),
            Seen::Set(items) if items.is_empty() => return false,
            Seen::Set(items) => Cow::Owned(items.join(",")),
        };
        let number = || text.trim().parse::<f64>().ok();
        self.contains.as_ref().is_none_or(|c| text.contains(&c.to_string()))
            && self.matches.as_ref().is_none_or(|pattern| regex::Regex::new(pattern).is_ok_and(|r| r.is_match(&text)))
            && self.one_of.as_ref().is_none_or(|list| list.iter().any(|s| s.to_string() == *text))
            && self.min.is_none_or(|min| number().is_some_and(|n| n >= min))
            && self.max.is_none_or(|max| number().is_some_and(|n| n <= max))
    }
}

impl Seen<'_> {
    fn is_absent(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Text(_) => false,
            Self::Set(items) => items.is_empty(),
        }
    }
}

/// The last line of a regex error, which says what is wrong; the lines before show the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn same_set(want: &[Scalar], got: &[Cow<'_, str>]) -> bool {
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v.dedup();
        v
    };
    sorted(want.iter().map(Scalar::to_string).collect()) == sorted(got.iter().map(ToString::to_string).collect())
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[Scalar]| items.iter().map(Scalar::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Equal(scalar) => scalar.fmt(f),
            Self::Set(items) => write!(f, "[{}]", list(items)),
            Self::Form(form) => {
                let mut parts = Vec::new();
                if let Some(c) = &form.contains {
                    parts.push(format!("containing {:?}", c.to_string()));
                }
                if let Some(m) = &form.matches {
                    parts.push(format!("matching /{m}/"));
                }
                if let Some(items) = &form.one_of {
                    parts.push(format!("one of {}", list(items)));
                }
                if let Some(inner) = &form.not {
                    parts.push(format!("not {inner}"));
                }
                if let Some(min) = form.min {
                    parts.push(format!("at least {min}"));
                }
                if let Some(max) = form.max {
                    parts.push(format!("at most {max}"));
                }
                f.write_str(&parts.join(" and "))
            }
        }
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Text(text) => text.fmt(f),
            Self::Set(items) if items.is_empty() => f.write_str("absent"),
            Self::Set(items) => f.write_str(&items.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(yaml: &str) -> Matcher {
        serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"))
    }

    fn text(value: &str) -> Seen<'_> {
        Seen::Text(Cow::Borrowed(value))
    }

    fn set<'a>(items: &[&'a str]) -> Seen<'a> {
        Seen::Set(items.iter().map(|item| Cow::Borrowed(*item)).collect())
    }

    #[test]
    fn a_scalar_means_equal_as_it_prints() {
        assert!(matcher("200").accepts(&text("200")));
        assert!(!matcher("200").accepts(&text("2000")));
        assert!(matcher("\"200\"").accepts(&text("200")));
        assert!(matcher("true").accepts(&text("true")));
        assert!(matcher("1.5").accepts(&text("1.5")));
        assert!(!matcher("200").accepts(&Seen::Absent));
        assert!(!matcher("UH").accepts(&set(&["UH", "NR"])));
        assert!(matcher("UH").accepts(&set(&["UH"])));
    }

    #[test]
    fn absent_means_no_value_and_an_empty_set_has_none() {
        let absent = matcher("absent");
        assert!(absent.accepts(&Seen::Absent));
        assert!(absent.accepts(&set(&[])));
        assert!(!absent.accepts(&text("-")));
        assert!(!absent.accepts(&text("")));
        assert!(!absent.accepts(&set(&["UH"])));
    }

    #[test]
    fn a_list_means_the_same_set_in_any_order() {
        let flags = matcher("[UF, URX]");
        assert!(flags.accepts(&set(&["URX", "UF"])));
        assert!(!flags.accepts(&set(&["UF"])));
        assert!(!flags.accepts(&set(&["UF", "URX", "UH"])));
        assert!(!flags.accepts(&Seen::Absent));
        assert!(matcher("[]").accepts(&Seen::Absent));
        assert!(matcher("[UH]").accepts(&text("UH")));
        assert!(!matcher("[UF, URX]").accepts(&text("UF,URX")));
    }

    #[test]
    fn forms_look_into_the_value() {
        assert!(matcher("{contains: listing}").accepts(&text("Directory listing")));
        assert!(!matcher("{contains: listing}").accepts(&text("Directory")));
        assert!(matcher("{contains: 20}").accepts(&text("1200")));
        assert!(matcher("{matches: '^10\\.96\\.'}").accepts(&text("10.96.0.1")));
        assert!(!matcher("{matches: '^10\\.96\\.'}").accepts(&text("110.96.0.1")));
        assert!(matcher("{in: [52, 56]}").accepts(&text("56")));
        assert!(!matcher("{in: [52, 56]}").accepts(&text("0")));
        assert!(matcher("{contains: URX}").accepts(&set(&["UF", "URX"])));
    }

    #[test]
    fn bounds_are_inclusive_and_need_a_number() {
        let between = matcher("{min: 1, max: 2.5}");
        for (value, wanted) in [("1", true), ("2.5", true), ("0.9", false), ("2.6", false), ("many", false)] {
            assert_eq!(between.accepts(&text(value)), wanted, "{value}");
        }
        assert!(!between.accepts(&Seen::Absent));
    }

    #[test]
    fn not_turns_the_inner_matcher_around_and_the_rest_still_holds() {
        assert!(matcher("{not: absent}").accepts(&text("x")));
        assert!(!matcher("{not: absent}").accepts(&Seen::Absent));
        assert!(matcher("{not: {contains: x}}").accepts(&Seen::Absent));
        let both = matcher("{not: {contains: bad}, contains: good}");
        assert!(both.accepts(&text("good")));
        assert!(!both.accepts(&text("good and bad")));
        assert!(!both.accepts(&Seen::Absent));
    }

    #[test]
    fn validation_finds_what_accepts_nothing() {
        assert!(matcher("{}").validate().is_err());
        assert!(matcher("{not: {}}").validate().is_err());
        let broken = matcher("{not: {matches: 'a(b'}}").validate().unwrap_err();
        assert_eq!(broken, "`matches` is no regular expression: unclosed group");
        assert_eq!(matcher("{min: 0}").validate(), Ok(()));
    }

    #[test]
    fn unknown_forms_are_refused() {
        assert!(serde_saphyr::from_str::<Matcher>("{containz: x}").is_err());
    }

    #[test]
    fn matchers_and_values_print_as_a_reader_would_say_them() {
        for (yaml, wanted) in [
            ("200", "200"),
            ("[UF, URX]", "[UF, URX]"),
            ("{contains: a}", "containing \"a\""),
            ("{in: [52, 56]}", "one of 52, 56"),
            ("{not: {matches: x}}", "not matching /x/"),
            ("{min: 1, max: 2}", "at least 1 and at most 2"),
        ] {
            assert_eq!(matcher(yaml).to_string(), wanted);
        }
        assert_eq!(set(&[]).to_string(), "absent");
        assert_eq!(set(&["UF", "URX"]).to_string(), "UF,URX");
    }
}
