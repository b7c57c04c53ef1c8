//! Where a value was said: the layers of configuration, lowest first.

/// The layer, and for the file the position. A later variant overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said it.
    Default,
    /// The file; both count from 1, the column in characters.
    File {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// The environment variable `HUSHGATE_SET`.
    Environment,
    /// `--set` on the command line.
    Set,
}

impl Origin {
    /// Did somebody say it?
    #[must_use]
    pub const fn is_explicit(self) -> bool {
        !matches!(self, Self::Default)
    }

    /// Line and column in the file, zeros elsewhere.
    #[must_use]
    pub const fn position(self) -> (usize, usize) {
        match self {
            Self::File { line, column } => (line, column),
            Self::Default | Self::Environment | Self::Set => (0, 0),
        }
    }

    /// The layer as people know it; `file` is the name the operator gave.
    #[must_use]
    pub const fn layer(self, file: &str) -> &str {
        match self {
            Self::Default => "default",
            Self::File { .. } => file,
            Self::Environment => "HUSHGATE_SET",
            Self::Set => "--set",
        }
    }
}
