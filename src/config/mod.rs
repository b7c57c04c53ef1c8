//! The configuration file: every problem at once, spans kept.
