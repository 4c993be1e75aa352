//! `doctor`: can this machine run a sandbox? Each answer is a real try, with its remedy.

use std::process::ExitCode;

use super::color;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> ExitCode {
    let checks = egress_sandbox::doctor();
    let mark = |ok: bool| match (ok, color()) {
        (true, true) => "\x1b[32mok\x1b[0m     ",
        (false, true) => "\x1b[31mmissing\x1b[0m",
        (true, false) => "ok     ",
        (false, false) => "missing",
    };
    for check in &checks {
        println!("{} {}: {}", mark(check.ok), check.name, check.seen);
        if !check.ok {
            println!("        {}", check.remedy);
        }
    }
    match checks.iter().filter(|c| !c.ok).count() {
        0 => {
            println!("this machine can run a sandbox");
            ExitCode::SUCCESS
        }
        missing => {
            println!("{missing} of {} checks failed", checks.len());
            ExitCode::from(3)
        }
    }
}
