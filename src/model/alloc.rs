// SPDX-License-Identifier: GPL-2.0

//! The one place where the pure code's allocations differ between the module and the host.

use super::Checked;
use kernel::prelude::*;

/// Puts `value` on the heap. Sleeps; not for the I/O path.
///
/// The host's `Box` aborts instead of failing, which tests do not mind.
#[cfg(CONFIG_RUST)]
pub fn boxed<T>(value: T) -> Checked<KBox<T>> {
    Ok(KBox::new(value, GFP_KERNEL)?)
}

/// Puts `value` on the heap (host build).
#[cfg(not(CONFIG_RUST))]
pub fn boxed<T>(value: T) -> Checked<KBox<T>> {
    Ok(KBox::new(value))
}
