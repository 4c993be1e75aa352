//! Envoy's access log, parsed into fields by the format string that the mesh really uses.
//!
//! A [`Format`] is compiled from that string (text or JSON); [`Format::parse`] turns one line into a [`Record`] whose
//! fields have the names of Istio's JSON access log. Lines that do not fit are kept as [`Unparsed`], never dropped.
//! Nothing here knows what a field means for a scenario.

mod format;
mod json;
mod operator;
mod record;
mod text;

pub use format::{Format, FormatError};
pub use operator::{ISTIO_FIELDS, Operator};
pub use record::{Record, Unparsed};
