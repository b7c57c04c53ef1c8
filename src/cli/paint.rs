//! A little colour, where a person looks: standard output is a terminal and `NO_COLOR` is not set.

use std::io::IsTerminal as _;

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colour,
}

impl Paint {
    /// What suits standard output.
    #[must_use]
    pub fn for_output() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        if std::io::stdout().is_terminal() && !unwanted && !dumb { Self::Colour } else { Self::Plain }
    }

    /// A heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What did not.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(Paint::Plain.bad("failed"), "failed");
        assert_eq!(Paint::Colour.bad("failed"), "\u{1b}[31mfailed\u{1b}[0m");
    }
}
