//! What long work says while it goes on: a spinner on a terminal, plain lines elsewhere, always on standard error.
//!
//! It never writes results. Start at [`Progress`] and [`Console`].

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress_component::ProgressEvent;
use egress_image::ImageEvent;
use egress_sandbox::Event;
use indicatif::{ProgressBar, ProgressStyle};

/// Listens to long work.
pub trait Progress: Send + Sync {
    /// Something begins, or goes on in a new state.
    fn working(&self, what: &str);
    /// A phase ended.
    fn phase(&self, what: &str, took: Duration);
    /// A line that stays.
    fn line(&self, text: &str);

    /// What a sandbox reports while it starts.
    fn sandbox_event(&self, event: &Event) {
        match event {
            Event::PhaseStarted { phase } => self.working(&format!("sandbox: {phase}")),
            Event::PhaseFinished { phase, elapsed } => self.phase(&format!("sandbox: {phase}"), *elapsed),
            Event::Fault(fault) => self.line(&fault.to_string()),
            other => self.line(&format!("{other:?}")),
        }
    }
}

/// Says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn working(&self, _: &str) {}
    fn phase(&self, _: &str, _: Duration) {}
    fn line(&self, _: &str) {}
}

/// Progress on standard error.
#[derive(Clone)]
pub struct Console {
    bar: Option<ProgressBar>,
    last: Arc<Mutex<(String, Duration)>>,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// A spinner if standard error is a terminal, else plain lines.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, last: Arc::default() }
    }

    /// Ends the spinner; lines that are printed now are not drawn over.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A result on standard output, above the spinner.
    pub fn print(&self, text: &str) {
        let print = || drop(writeln!(std::io::stdout(), "{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// A line that stays, unless the same was said just before, or another within the last ten seconds of this work:
    /// builds print thousands of lines, and a log wants a sign of life.
    fn say_once(&self, text: &str, elapsed: Duration) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let soon = elapsed >= last.1 && elapsed < last.1 + Duration::from_secs(10);
        if last.0 != text && !soon {
            self.line(&format!("{text} ({} s)", elapsed.as_secs()));
            *last = (text.to_owned(), elapsed);
        }
    }
}

impl Progress for Console {
    fn working(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    fn phase(&self, what: &str, took: Duration) {
        self.line(&format!("  {:>6.2} s  {what}", took.as_secs_f64()));
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Standard error that is closed is nobody to tell.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }
}

impl egress_image::ImageProgress for Console {
    fn event(&self, event: ImageEvent<'_>) {
        match event {
            ImageEvent::Started { what } => self.line(&format!("making {what}")),
            ImageEvent::Waiting { what, holder } => {
                self.say_once(&format!("{what}: waiting for {holder}"), Duration::ZERO);
            }
            ImageEvent::Step { what, elapsed, message } => match &self.bar {
                Some(bar) => bar.set_message(format!("{what}: {message}")),
                None => self.say_once(&format!("{what}: {message}"), elapsed),
            },
            ImageEvent::Finished { what, elapsed, .. } => self.phase(what, elapsed),
            _ => {}
        }
    }
}

impl egress_component::Progress for Console {
    fn event(&self, event: ProgressEvent<'_>) {
        let seconds = |elapsed: Duration| elapsed.as_secs();
        match event {
            ProgressEvent::Started { component, version, source, position, total } => {
                self.line(&format!("[{position}/{total}] {component} {version} ({source})"));
            }
            ProgressEvent::Finished { component, elapsed, size, .. } => {
                self.line(&format!("  {component} ready after {} s, {} MB", seconds(elapsed), size / 1_000_000));
            }
            ProgressEvent::Waiting { component, elapsed, holder } => {
                self.say_once(&format!("  {component}: waiting for {holder}"), elapsed);
            }
            ProgressEvent::Step { component, elapsed, message } => {
                let text = format!("  {component}: {message}");
                if self.bar.is_some() { self.working(&text) } else { self.say_once(&text, elapsed) }
            }
            _ => {}
        }
    }
}
