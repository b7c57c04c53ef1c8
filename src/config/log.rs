//! `[log]`: what is written down.

use tracing::level_filters::LevelFilter;

use super::{Reader, kinds};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Which questions are logged, and how much of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queries {
    /// None.
    #[default]
    Off,
    /// Those that failed.
    Errors,
    /// All, without names and addresses.
    Anonymous,
    /// All, with everything.
    Full,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events below this are left out. Default info.
    pub level: LevelFilter,
    /// How a line looks. Default auto.
    pub format: Format,
    /// Which questions. Default off.
    pub queries: Queries,
}

/// Reads it.
pub fn read(reader: &mut Reader<'_>) -> Settings {
    let levels = [
        ("off", Some(LevelFilter::OFF)),
        ("error", Some(LevelFilter::ERROR)),
        ("warn", Some(LevelFilter::WARN)),
        ("info", Some(LevelFilter::INFO)),
        ("debug", Some(LevelFilter::DEBUG)),
        ("trace", Some(LevelFilter::TRACE)),
    ];
    let formats = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
    let queries = [
        ("off", Queries::Off),
        ("errors", Queries::Errors),
        ("anonymous", Queries::Anonymous),
        ("full", Queries::Full),
    ];
    Settings {
        level: reader.read("log.level", kinds::choice(&levels)).unwrap_or(LevelFilter::INFO),
        format: reader.read("log.format", kinds::choice(&formats)),
        queries: reader.read("log.queries", kinds::choice(&queries)),
    }
}
