//! What holds the process back, as metrics name it.

/// A part of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The process is not root and has no capabilities.
    User,
    /// No program that it starts can have more rights than it has.
    NoNewPrivileges,
    /// The files that it may touch are listed (landlock).
    Landlock,
    /// System calls that it has no use for are refused (seccomp).
    Seccomp,
}

/// Which parts are in force, in the order of [`Part::ALL`].
pub type Parts = [bool; Part::ALL.len()];

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::NoNewPrivileges, Self::Landlock, Self::Seccomp];

    /// Its name in metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}
