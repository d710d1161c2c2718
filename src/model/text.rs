// SPDX-License-Identifier: GPL-2.0

//! Text of bounded length, and the reasons that go with refusals.
//!
//! Nothing here allocates: a reason must be available when memory is not.

use core::fmt;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// UTF-8 text of at most `N` bytes, kept in place. Longer input is cut at a character boundary.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Empty text.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    /// Text holding as much of `text` as fits.
    pub fn from_text(text: &str) -> Self {
        let mut this = Self::new();
        this.push(text);
        this
    }

    /// Text made of formatted arguments, cut at `N` bytes.
    pub fn from_fmt(args: fmt::Arguments<'_>) -> Self {
        let mut this = Self::new();
        // `write_str` below never fails: text that does not fit is cut.
        let _ = fmt::Write::write_fmt(&mut this, args);
        this
    }

    /// Text from bytes found on a disk: stops at NUL, drops trailing blanks, and shows every byte
    /// that is not printable ASCII as `?`.
    pub fn from_disk(bytes: &[u8]) -> Self {
        let mut this = Self::new();
        for &byte in bytes {
            if byte == 0 {
                break;
            }
            let printable = if (0x20..0x7f).contains(&byte) {
                byte
            } else {
                b'?'
            };
            if let Some(slot) = this.bytes.get_mut(this.len) {
                *slot = printable;
                this.len += 1;
            }
        }
        while this.len > 0 && this.bytes.get(this.len - 1) == Some(&b' ') {
            this.len -= 1;
        }
        this
    }

    fn push(&mut self, text: &str) {
        for ch in text.chars() {
            let mut utf8 = [0u8; 4];
            let encoded = ch.encode_utf8(&mut utf8).as_bytes();
            match self.bytes.get_mut(self.len..self.len + encoded.len()) {
                Some(room) => room.copy_from_slice(encoded),
                None => return,
            }
            self.len += encoded.len();
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why something was refused: an errno for programs and a sentence for people.
#[derive(Clone, Copy)]
pub struct Reason {
    errno: Error,
    // No longer than this: it travels by value, and a kernel stack has just 16 KiB.
    text: Text<120>,
}

impl Reason {
    /// A reason with formatted text. Prefer the [`reason!`](crate::reason) macro.
    pub fn new(errno: Error, args: fmt::Arguments<'_>) -> Self {
        Self {
            errno,
            text: Text::from_fmt(args),
        }
    }

    /// The errno to hand to the caller.
    pub fn errno(&self) -> Error {
        self.errno
    }

    /// The sentence for people.
    pub fn text(&self) -> &str {
        self.text.as_str()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (errno {})", self.text(), -self.errno.to_errno())
    }
}

impl From<Error> for Reason {
    fn from(errno: Error) -> Self {
        Self::new(
            errno,
            format_args!("the operation failed with errno {}", -errno.to_errno()),
        )
    }
}

impl From<AllocError> for Reason {
    fn from(_: AllocError) -> Self {
        Self::new(ENOMEM, format_args!("not enough memory"))
    }
}

/// A result whose failure says why.
pub type Checked<T = ()> = core::result::Result<T, Reason>;

/// Makes a [`Reason`]: `reason!(EINVAL, "chunk of {} sectors is not a power of two", n)`.
#[macro_export]
macro_rules! reason {
    ($errno:expr, $($arg:tt)+) => {
        $crate::model::Reason::new($errno, ::core::format_args!($($arg)+))
    };
}
