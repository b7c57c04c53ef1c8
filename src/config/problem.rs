//! What is wrong with a configuration, said so that an operator can mend it: where, which key, which value, what is allowed.

use std::collections::BTreeSet;
use std::fmt;

use super::Origin;

/// Does the configuration stand in spite of it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does not.
    Error,
    /// It does, but not all of it has the effect that was asked for.
    Warning,
    /// It does, all of it, and something else might serve better.
    Notice,
}

impl Severity {
    /// The word in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, dotted, with indexes into lists; empty where no key is at fault.
    pub key_path: String,
    /// The layer, and the position in the file.
    pub origin: Origin,
    /// The file, or the other layer, by name.
    pub file: String,
    /// Line in the file from 1; 0 where there is none.
    pub line: usize,
    /// Column in characters from 1; 0 where there is none.
    pub column: usize,
    /// The value and what is allowed.
    pub what: String,
    /// For an unknown key, the known one that was probably meant.
    pub nearest: Option<String>,
    /// How grave it is.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: ", self.severity.name())?;
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        f.write_str(&self.what)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// Collects problems, so that all of them come at once.
#[derive(Debug, Default)]
pub struct Findings {
    file: String,
    problems: Vec<Problem>,
    effects: Vec<Problem>,
    unreadable: BTreeSet<usize>,
}

impl Findings {
    /// None yet, about a file of this name.
    #[must_use]
    pub fn new(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// The configuration cannot stand: `what` is the value and what is allowed.
    pub fn error(&mut self, key: &str, origin: Origin, what: impl Into<String>) {
        let problem = self.problem(key, origin, Severity::Error, what.into());
        self.problems.extend(problem);
    }

    /// The configuration stands, with less effect than was asked for.
    pub fn warning(&mut self, key: &str, origin: Origin, what: impl Into<String>) {
        let problem = self.problem(key, origin, Severity::Warning, what.into());
        self.problems.extend(problem);
    }

    /// The configuration stands as it was meant; `what` is advice.
    pub fn notice(&mut self, key: &str, origin: Origin, what: impl Into<String>) {
        let problem = self.problem(key, origin, Severity::Notice, what.into());
        self.problems.extend(problem);
    }

    /// A value that this version does not honour. It is not mentioned where the value cannot even be read.
    pub fn effect(&mut self, key: &str, origin: Origin, what: &str) {
        let problem = self.problem(key, origin, Severity::Error, what.to_owned());
        self.effects.extend(problem);
    }

    /// A key that nobody knows.
    pub fn unknown(&mut self, key: &str, origin: Origin, nearest: Option<String>) {
        let problem = self.problem(key, origin, Severity::Error, "unknown key".to_owned());
        self.problems.extend(problem.map(|problem| Problem { nearest, ..problem }));
    }

    /// A line that is no TOML. What else is found on the same line is only its echo and is left out.
    pub fn syntax(&mut self, origin: Origin, what: impl Into<String>) {
        self.error("", origin, what);
        self.unreadable.insert(origin.position().0);
    }

    /// Is there an error among them?
    pub fn is_fatal(&self) -> bool {
        self.problems.iter().chain(&self.effects).any(|problem| problem.severity == Severity::Error)
    }

    /// All of them, in the order of the file, then the environment's and the command line's.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut all = self.problems;
        let same = |one: &Problem, two: &Problem| one.origin == two.origin && one.key_path == two.key_path;
        let readable =
            |effect: &Problem| !all.iter().any(|other| other.severity == Severity::Error && same(other, effect));
        let effects: Vec<Problem> = self.effects.into_iter().filter(readable).collect();
        all.extend(effects);
        all.sort_by_key(|problem| problem.origin);
        all
    }

    /// None on a line that is no TOML: whatever seems wrong there is only its echo.
    fn problem(&self, key: &str, origin: Origin, severity: Severity, what: String) -> Option<Problem> {
        let (line, column) = origin.position();
        if line > 0 && self.unreadable.contains(&line) {
            return None;
        }
        let file = match origin {
            Origin::Default => self.file.clone(),
            Origin::File { .. } | Origin::Environment | Origin::Set => origin.layer(&self.file).to_owned(),
        };
        Some(Problem { key_path: key.to_owned(), origin, file, line, column, what, nearest: None, severity })
    }
}
