//! The log of the control path: to stderr, pleasant in a terminal, one JSON object a line for collectors.
//!
//! Questions and client addresses are no business of it above debug; what other crates log of connections is kept to warnings.

use std::fmt;
use std::io::{self, IsTerminal as _};

use time::OffsetDateTime;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for a terminal or the journal, JSON for anything else.
    #[default]
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The least severe event that is written. Default info.
    pub level: LevelFilter,
    /// How.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, format: Format::Auto }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It was started before, here or by the program that embeds this library.
    #[error("a log has been set up in this process already")]
    AlreadySet,
}

/// Starts the log of this process.
///
/// # Errors
/// There is one already.
pub fn start(settings: Settings) -> Result<(), LogError> {
    let surroundings = Surroundings {
        terminal: io::stderr().is_terminal(),
        journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter(settings.level)).with_writer(io::stderr);
    match style(settings.format, surroundings) {
        Style::Terminal => builder.compact().with_timer(Seconds).with_target(false).finish().try_init(),
        Style::Plain => builder.compact().with_timer(Seconds).with_target(false).with_ansi(false).finish().try_init(),
        // The journal has a clock of its own.
        Style::Journal => builder.compact().without_time().with_target(false).with_ansi(false).finish().try_init(),
        Style::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init(),
    }
    .map_err(|_| LogError::AlreadySet)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Terminal,
    Plain,
    Journal,
    Json,
}

#[derive(Clone, Copy, Debug)]
struct Surroundings {
    terminal: bool,
    journal: bool,
    colour: bool,
}

const fn style(format: Format, surroundings: Surroundings) -> Style {
    match (format, surroundings) {
        (Format::Auto | Format::Text, Surroundings { terminal: true, colour: true, .. }) => Style::Terminal,
        (Format::Auto | Format::Text, Surroundings { terminal: true, .. }) => Style::Plain,
        (Format::Auto | Format::Text, Surroundings { journal: true, .. }) => Style::Journal,
        (Format::Text, _) => Style::Plain,
        (Format::Auto | Format::Json, _) => Style::Json,
    }
}

fn filter(level: LevelFilter) -> EnvFilter {
    let others = level.min(LevelFilter::WARN);
    EnvFilter::builder().parse_lossy(format!("{others},hushgate={level}"))
}

/// UTC to the second.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = OffsetDateTime::now_utc();
        let (hour, minute, second) = now.to_hms();
        write!(writer, "{} {hour:02}:{minute:02}:{second:02}Z", now.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_set_up_twice_is_an_error_and_no_panic() {
        // Another test of this process may have been first; the second call fails in any case.
        let _ = start(Settings::default());
        assert!(matches!(start(Settings::default()), Err(LogError::AlreadySet)));
    }

    #[test]
    fn format_auto_suits_who_reads() {
        let nobody = Surroundings { terminal: false, journal: false, colour: true };
        assert_eq!(style(Format::Auto, nobody), Style::Json);
        assert_eq!(style(Format::Text, nobody), Style::Plain);
        assert_eq!(style(Format::Auto, Surroundings { terminal: true, ..nobody }), Style::Terminal);
        assert_eq!(style(Format::Auto, Surroundings { terminal: true, colour: false, ..nobody }), Style::Plain);
        assert_eq!(style(Format::Auto, Surroundings { journal: true, ..nobody }), Style::Journal);
        assert_eq!(style(Format::Json, Surroundings { terminal: true, ..nobody }), Style::Json);
    }

    #[test]
    fn other_crates_are_kept_to_warnings() {
        assert_eq!(filter(LevelFilter::TRACE).to_string(), "hushgate=trace,warn");
        assert_eq!(filter(LevelFilter::ERROR).to_string(), "hushgate=error,error");
        assert_eq!(filter(LevelFilter::OFF).to_string(), "hushgate=off,off");
    }
}
