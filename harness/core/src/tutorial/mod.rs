//! Tutorials: Markdown pages whose commands are run as they stand, and compared with what happens.
//!
//! This is the pure part: reading a page ([`parse`]), comparing outputs ([`verify`]), the servers that stand for the public
//! names of a page ([`world`]), telling text that has become wrong from a mesh that is ([`drift`]), and writing a page as a
//! scenario ([`draft`]). It runs nothing. Start at [`parse::parse`].

mod block;
pub mod client_words;
pub mod draft;
pub mod drift;
mod log_line;
pub mod manifest;
pub mod page;
pub mod parse;
pub mod report;
pub mod settings;
mod shell_text;
#[cfg(test)]
mod tests;
mod token;
pub mod verify;
pub mod world;

pub use page::{Expected, Note, Page, Place, Step};
pub use parse::{Options, parse};
