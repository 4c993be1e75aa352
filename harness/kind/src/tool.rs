//! Runs a command to its end, and makes an error of its failure. Start at [`run`].

use std::time::Duration;

use egress_component::Tool;

use crate::error::Error;

/// Runs it; its lines go to the trace. Gives its standard output.
pub(crate) async fn run(tool: &Tool, what: &str, limit: Duration, help: &str) -> Result<String, Error> {
    tracing::debug!(command = tool.display(), "running");
    let failed = |outcome: String, tail: &[String]| Error::Tool {
        what: what.to_owned(),
        outcome,
        command: tool.display(),
        tail: tail.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"),
        help: help.to_owned(),
    };
    let ended = tool
        .run(limit, &mut |line| tracing::trace!(line, "output"))
        .await
        .map_err(|error| failed(error.to_string(), &[]))?;
    if ended.success { Ok(ended.stdout) } else { Err(failed(ended.outcome, &ended.tail)) }
}
