// SPDX-License-Identifier: GPL-2.0

//! Error codes (`rust/kernel/error.rs`).

/// A kernel error: a negative errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

impl Error {
    /// The negative errno.
    pub const fn to_errno(self) -> i32 {
        self.0
    }

    /// From a negative errno.
    pub const fn from_errno(errno: i32) -> Self {
        Self(errno)
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Error({})", self.0)
    }
}

impl From<crate::alloc::AllocError> for Error {
    fn from(_: crate::alloc::AllocError) -> Self {
        code::ENOMEM
    }
}

/// The kernel's usual result.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Error codes (`include/uapi/asm-generic/errno*.h`).
pub mod code {
    use super::Error;

    macro_rules! codes {
        ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
            $($(#[$doc])* pub const $name: Error = Error(-$value);)*
        };
    }

    codes! {
        /// Operation not permitted.
        EPERM = 1;
        /// No such file or directory.
        ENOENT = 2;
        /// I/O error.
        EIO = 5;
        /// No such device or address.
        ENXIO = 6;
        /// Argument list too long.
        E2BIG = 7;
        /// Try again.
        EAGAIN = 11;
        /// Out of memory.
        ENOMEM = 12;
        /// Permission denied.
        EACCES = 13;
        /// Bad address.
        EFAULT = 14;
        /// Device or resource busy.
        EBUSY = 16;
        /// Already there.
        EEXIST = 17;
        /// No such device.
        ENODEV = 19;
        /// Invalid argument.
        EINVAL = 22;
        /// Inappropriate ioctl.
        ENOTTY = 25;
        /// File too large.
        EFBIG = 27;
        /// No space left.
        ENOSPC = 28;
        /// Read-only.
        EROFS = 30;
        /// Out of domain.
        EDOM = 33;
        /// Out of range.
        ERANGE = 34;
        /// Value too large.
        EOVERFLOW = 75;
        /// Not supported.
        EOPNOTSUPP = 95;
    }
}
