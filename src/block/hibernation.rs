// SPDX-License-Identifier: GPL-2.0

//! Hibernation: a notifier of power management. Suspend to RAM is none of its business.

use super::hub;
use super::raw;
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A registration, by which the [`hub`] is asked before the machine hibernates, and told after it; it ends when dropped.
/// A kernel that does not sleep never asks.
///
/// # Invariants
///
/// `block` is registered, where there is a chain to register with.
#[pin_data(PinnedDrop)]
pub struct Vigil {
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: Registration may be ended from any task.
unsafe impl Send for Vigil {}
// SAFETY: There is nothing to share.
unsafe impl Sync for Vigil {}

impl Vigil {
    /// Starts to listen.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(sleeping),
                        ..Default::default()
                    })
                };
                // SAFETY: The block is pinned and complete.
                unsafe { register(slot) }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Vigil {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { unregister(self.block.get()) };
    }
}

/// # Safety
///
/// `block` is complete, and stays where it is until [`unregister`].
#[cfg(CONFIG_PM_SLEEP)]
unsafe fn register(block: *mut bindings::notifier_block) -> Result {
    // SAFETY: By the caller's promise.
    kernel::error::to_result(unsafe { raw::register_pm_notifier(block) })
}

/// # Safety
///
/// None.
#[cfg(not(CONFIG_PM_SLEEP))]
unsafe fn register(_block: *mut bindings::notifier_block) -> Result {
    Ok(())
}

/// # Safety
///
/// `block` is one that was [`register`]ed. Waits for a call that is at work.
#[cfg(CONFIG_PM_SLEEP)]
unsafe fn unregister(block: *mut bindings::notifier_block) {
    // SAFETY: By the caller's promise.
    unsafe { raw::unregister_pm_notifier(block) };
}

/// # Safety
///
/// None.
#[cfg(not(CONFIG_PM_SLEEP))]
unsafe fn unregister(_block: *mut bindings::notifier_block) {}

/// # Safety
///
/// Called by the kernel before and after the machine sleeps. Process context.
unsafe extern "C" fn sleeping(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    match action {
        raw::PM_HIBERNATION_PREPARE if !hub::may_hibernate() => raw::NOTIFY_BUSY,
        raw::PM_POST_HIBERNATION => {
            hub::tell_of_waking();
            raw::NOTIFY_DONE
        }
        _ => raw::NOTIFY_DONE,
    }
}
