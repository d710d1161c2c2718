// SPDX-License-Identifier: GPL-2.0

//! Stand-in for the few names of the kernel's `kernel` crate that EMD's pure code uses, so that the
//! same files compile on the host. Signatures follow `rust/kernel/alloc/kvec.rs` and `error.rs` of
//! the kernel; allocation flags are accepted and ignored.

#![forbid(unsafe_code)]

pub mod error;
mod kvec;

/// Allocation flags (`rust/kernel/alloc.rs`).
pub mod alloc {
    /// Allocation flags; ignored on the host.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags;

    /// An allocation failed.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AllocError;

    std::thread_local! {
        static LEFT: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
    }

    /// Lets `count` more vectors of this thread get memory, and no others; all with [`usize::MAX`].
    pub fn grant(count: usize) {
        LEFT.with(|left| left.set(count));
    }

    /// A vector asks for memory.
    pub(crate) fn ask() -> Result<(), AllocError> {
        LEFT.with(|left| match left.get() {
            0 => Err(AllocError),
            usize::MAX => Ok(()),
            count => {
                left.set(count - 1);
                Ok(())
            }
        })
    }

    /// The flags that the pure code names.
    pub mod flags {
        use super::Flags;
        /// May sleep.
        pub const GFP_KERNEL: Flags = Flags;
        /// May sleep, must not start I/O.
        pub const GFP_NOIO: Flags = Flags;
    }
}

/// What `use kernel::prelude::*` brings.
pub mod prelude {
    pub use crate::alloc::flags::*;
    pub use crate::error::code::*;
    pub use crate::error::{Error, Result};
    pub use crate::kvec::{KVVec, KVec};

    /// A heap box. Made through `crate::model::alloc::boxed`, since the kernel's takes flags.
    pub type KBox<T> = std::boxed::Box<T>;
}
