//! Runs a command to its end, and makes an error of its failure. Start at [`run`].

use std::time::Duration;

use egress_component::Tool;

use crate::error::Error;

/// Runs it; its lines go to the trace. Gives its standard output.
pub(crate) async fn run(tool: &Tool, what: &str, limit: Duration, help: &str) -> Result<String, Error> {
    let mut on_line = |line: &str| tracing::trace!(line, "output");
    Ok(tool.succeed(what, limit, |_| help.to_owned(), &mut on_line).await?.stdout)
}
