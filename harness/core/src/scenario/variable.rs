//! Variables as they are written: `${…}` inside a text, and what each asks for.
//!
//! Knows no values: see [`super::expand`]. Start at [`variables`].

use std::fmt;

use super::model::Position;

/// A value inside an object of the cluster, known only when a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The object's kind.
    pub kind: String,
    /// Its name, in the scenario's namespace.
    pub name: String,
    /// A JSON path (RFC 9535) into it.
    pub path: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object.{}.{} {}", self.kind, self.name, self.path)
    }
}

/// One variable as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `${namespace}`.
    Namespace,
    /// `${namespace.NAME}`: one of the scenario's further namespaces.
    OtherNamespace(String),
    /// `${NAME.address}`, counting from 1.
    Address(String, usize),
    /// `${gateway.host}` and its like.
    Gateway(GatewayField),
    /// `${unused.address}`.
    Unused,
    /// `${ca.certificate}` and its like.
    Ca(CaField),
    /// `${object.KIND.NAME JSONPATH}`.
    Object(ObjectRef),
}

/// What of the gateway a variable asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayField {
    /// Its Service's DNS name.
    Host,
    /// Its namespace.
    Namespace,
    /// Its Service's cluster address.
    Address,
    /// The label selector of its pods.
    Selector,
}

/// What of the external servers' CA a variable asks for; each is PEM in base64, as the `data` of a Secret has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaField {
    /// The CA's certificate.
    Certificate,
    /// A client's certificate that `mutual` servers accept.
    ClientCertificate,
    /// That certificate's private key.
    ClientKey,
}

/// Words that begin a variable and so cannot name a destination.
pub const RESERVED: [&str; 5] = ["namespace", "gateway", "unused", "object", "ca"];

impl std::str::FromStr for Variable {
    type Err = String;

    /// Reads what stands between `${` and `}`.
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "unknown variable `${{{text}}}`: expected namespace, namespace.NAME, DESTINATION.address, gateway.host, \
                 gateway.namespace, gateway.address, gateway.selector, unused.address, ca.certificate, ca.client.certificate, \
                 ca.client.key or object.KIND.NAME JSONPATH"
            )
        };
        if let Some(rest) = text.strip_prefix("object.") {
            return object(rest).map(Self::Object);
        }
        let mut parts = text.split('.');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next()) {
            ("namespace", None, None, None) => Ok(Self::Namespace),
            ("namespace", Some(name), None, None) if !name.is_empty() => Ok(Self::OtherNamespace(name.to_owned())),
            ("unused", Some("address"), None, None) => Ok(Self::Unused),
            ("gateway", Some("host"), None, None) => Ok(Self::Gateway(GatewayField::Host)),
            ("gateway", Some("namespace"), None, None) => Ok(Self::Gateway(GatewayField::Namespace)),
            ("gateway", Some("address"), None, None) => Ok(Self::Gateway(GatewayField::Address)),
            ("gateway", Some("selector"), None, None) => Ok(Self::Gateway(GatewayField::Selector)),
            ("ca", Some("certificate"), None, None) => Ok(Self::Ca(CaField::Certificate)),
            ("ca", Some("client"), Some("certificate"), None) => Ok(Self::Ca(CaField::ClientCertificate)),
            ("ca", Some("client"), Some("key"), None) => Ok(Self::Ca(CaField::ClientKey)),
            ("namespace" | "unused" | "gateway" | "object" | "ca", ..) => Err(unknown()),
            (name, Some("address"), None, None) => Ok(Self::Address(name.to_owned(), 1)),
            (name, Some("address"), Some(number), None) => match number.parse() {
                Ok(n) if n > 0 => Ok(Self::Address(name.to_owned(), n)),
                _ => Err(format!("`${{{text}}}`: addresses are counted from 1")),
            },
            _ => Err(unknown()),
        }
    }
}

fn object(rest: &str) -> Result<ObjectRef, String> {
    let shape = || format!("`${{object.{rest}}}`: expected object.KIND.NAME JSONPATH");
    let (object, path) = rest.split_once(char::is_whitespace).ok_or_else(shape)?;
    let (kind, name) = object.split_once('.').ok_or_else(shape)?;
    let path = path.trim();
    if kind.is_empty() || name.is_empty() {
        return Err(shape());
    }
    serde_json_path::JsonPath::parse(path).map_err(|e| format!("`{path}` is no JSON path: {e}"))?;
    Ok(ObjectRef { kind: kind.to_owned(), name: name.to_owned(), path: path.to_owned() })
}

/// One variable in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence<'a> {
    /// Byte offset of its `$`.
    pub offset: usize,
    /// All of it, with `${` and `}`.
    pub text: &'a str,
    /// What it is, or why it is nothing.
    pub variable: Result<Variable, String>,
}

/// The variables of a text, in order.
#[must_use]
pub fn variables(text: &str) -> Vec<Occurrence<'_>> {
    pieces(text).into_iter().filter_map(|piece| if let Piece::Variable(v) = piece { Some(v) } else { None }).collect()
}

/// A text is cut into these.
pub(super) enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// To be replaced.
    Variable(Occurrence<'a>),
}

/// Cuts a text at its variables.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find("${") {
        let offset = from + found;
        if text[..offset].ends_with('$') && offset > from {
            // `$${` stands for `${`: one dollar is dropped.
            pieces.push(Piece::Text(&text[from..offset - 1]));
            pieces.push(Piece::Text("${"));
            from = offset + 2;
            continue;
        }
        pieces.push(Piece::Text(&text[from..offset]));
        let end = text[offset..].find('}').map(|n| offset + n);
        let (whole, variable) = match end {
            Some(end) => (&text[offset..=end], text[offset + 2..end].trim().parse()),
            None => (&text[offset..], Err("a variable begins with `${` and is not closed by `}`".to_owned())),
        };
        pieces.push(Piece::Variable(Occurrence { offset, text: whole, variable }));
        from = offset + whole.len();
    }
    pieces.push(Piece::Text(&text[from..]));
    pieces
}

/// Line and column of a byte offset.
pub(super) fn position_of(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}
