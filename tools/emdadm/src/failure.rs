// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, said so that a person knows what to do, and the exit codes.

use std::fmt;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// The kernel refused, or reading or writing failed.
pub const EXIT_REFUSED: u8 = 1;
/// Wrong usage.
pub const EXIT_USAGE: u8 = 2;
/// Done, but something is degraded, failed, damaged, read-only or not started.
pub const EXIT_NOT_ALL_WELL: u8 = 3;
/// Module, array, set, device or metadata is not there.
pub const EXIT_NOT_THERE: u8 = 4;

/// Time ran out.
pub const EXIT_TIMEOUT: u8 = 5;

/// `ENOENT`, `ENXIO`, `ENODEV`: there is no such array, set or device, or the array is not started.
const ERRNOS_NOT_THERE: [i32; 3] = [2, 6, 19];

/// How a command ended that did what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All is well.
    Done,
    /// Something is not.
    NotAllWell,
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The kernel refused; its reason, word for word.
    Refused {
        /// errno.
        errno: i32,
        /// The kernel's text.
        reason: String,
    },
    /// Reading or writing failed.
    Io(String),
    /// Wrong usage that the command line's grammar does not catch.
    Usage(String),
    /// Not there.
    NotThere(String),
    /// Looked at, and nothing there.
    NothingFound {
        /// What was looked for.
        text: String,
        /// What is said of where it was looked: an object that the error is put into.
        report: serde_json::Value,
    },
    /// Time ran out.
    Timeout(String),
}

/// A command's result.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused { errno, .. } if ERRNOS_NOT_THERE.contains(errno) => EXIT_NOT_THERE,
            Failure::Refused { .. } | Failure::Io(_) => EXIT_REFUSED,
            Failure::Usage(_) => EXIT_USAGE,
            Failure::NotThere(_) | Failure::NothingFound { .. } => EXIT_NOT_THERE,
            Failure::Timeout(_) => EXIT_TIMEOUT,
        }
    }

    /// For `--json`: one object.
    pub fn to_json(&self) -> String {
        let errno = match self {
            Failure::Refused { errno, .. } => Some(errno),
            _ => None,
        };
        let error = serde_json::json!({
            "text": self.to_string(), "errno": errno, "exit_code": self.exit_code()
        });
        let mut object = serde_json::Map::new();
        if let Failure::NothingFound { report, .. } = self {
            object.extend(report.as_object().cloned().unwrap_or_default());
        }
        object.insert("error".into(), error);
        serde_json::Value::Object(object).to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { reason, .. } => f.write_str(reason),
            Failure::Io(text)
            | Failure::Usage(text)
            | Failure::NotThere(text)
            | Failure::NothingFound { text, .. }
            | Failure::Timeout(text) => f.write_str(text),
        }
    }
}
