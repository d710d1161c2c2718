// SPDX-License-Identifier: GPL-2.0

//! Standard output and standard error.
//!
//! Who reads them may go away (`emdadm formats | head -1`): nobody is told then, and what was asked for is done all the same,
//! with its own exit code. Whoever would go on for ever asks [`is_closed`]. Other errors end the program with 1 ([`error`]).

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// Why standard output takes no more.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Prints a line, as `println!` does, but does not panic when nobody reads it.
macro_rules! say {
    () => {
        $crate::out::line(format_args!(""))
    };
    ($($argument:tt)*) => {
        $crate::out::line(format_args!($($argument)*))
    };
}
pub(crate) use say;

/// Prints a line on standard output: [`say`].
pub fn line(text: fmt::Arguments<'_>) {
    if FAILED.get().is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        let _ = FAILED.set(error);
    }
}

/// Prints a line on standard error.
pub fn complain(text: fmt::Arguments<'_>) {
    // That nobody hears it cannot be told to anybody.
    let _ = writeln!(io::stderr(), "emdadm: {text}");
}

/// Whether nothing can be said any more.
pub fn is_closed() -> bool {
    FAILED.get().is_some()
}

/// What went wrong with standard output. That a reader has enough is nothing wrong.
pub fn error() -> Option<&'static io::Error> {
    FAILED
        .get()
        .filter(|error| error.kind() != ErrorKind::BrokenPipe)
}
