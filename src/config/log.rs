//! `[log]`: what is written down.

use tracing::level_filters::LevelFilter;

use super::{Reader, kinds};
use crate::telemetry::log::{self, Format};
use crate::telemetry::queries::Extent;

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events of the control path.
    pub events: log::Settings,
    /// Which questions, if any. Default none.
    pub queries: Option<Extent>,
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
        ("off", None),
        ("errors", Some(Extent::Errors)),
        ("anonymous", Some(Extent::Anonymous)),
        ("full", Some(Extent::Full)),
    ];
    Settings {
        events: log::Settings {
            level: reader.read("log.level", kinds::choice(&levels)).unwrap_or(LevelFilter::INFO),
            format: reader.read("log.format", kinds::choice(&formats)),
        },
        queries: reader.read("log.queries", kinds::choice(&queries)),
    }
}
