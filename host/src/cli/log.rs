//! The log on stderr.

use std::io::{self, Write};
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::model::untrusted::for_people;

/// Starts the log: warnings, and with `-v` more.
pub(super) fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // It's the first one: nobody else sets it.
    let _ = tracing::subscriber::set_global_default(WhenNeeded { level, log: OnceLock::new() });
}

/// A log that is set up when something is logged. In most requests nothing is.
struct WhenNeeded {
    level: LevelFilter,
    log: OnceLock<Box<dyn Subscriber + Send + Sync>>,
}

impl WhenNeeded {
    fn log(&self) -> &dyn Subscriber {
        let set_up = || {
            let coloured = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
            let log = tracing_subscriber::fmt()
                .with_ansi(coloured)
                .with_max_level(self.level)
                .without_time()
                .with_target(false)
                .with_writer(|| LogLines)
                // To complain about a broken stderr on stderr would be a panic.
                .log_internal_errors(false);
            Box::new(log.finish()) as Box<dyn Subscriber + Send + Sync>
        };
        self.log.get_or_init(set_up)
    }
}

impl Subscriber for WhenNeeded {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.log().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.log().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.log().record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.log().event(event);
    }

    fn enter(&self, span: &Id) {
        self.log().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.log().exit(span);
    }
}

/// What writes the log. A message is one line, and nothing hidden is in it.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        // The colours are the log's own: it escapes those of a message.
        let coloured = text.trim_end_matches('\n').split('\u{1b}').map(for_people).collect::<Vec<_>>().join("\u{1b}");
        writeln!(io::stderr(), "{coloured}").map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
