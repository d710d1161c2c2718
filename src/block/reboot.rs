// SPDX-License-Identifier: GPL-2.0

//! The machine's orderly end: a reboot notifier.

use super::hub;
use super::raw;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A registration, by which the [`hub`] hears that the machine ends; it ends when dropped.
///
/// # Invariants
///
/// `block` is registered.
#[pin_data(PinnedDrop)]
pub struct Farewell {
    #[pin]
    block: Opaque<bindings::notifier_block>,
}

// SAFETY: Registration may be ended from any task.
unsafe impl Send for Farewell {}
// SAFETY: There is nothing to share.
unsafe impl Sync for Farewell {}

impl Farewell {
    /// Starts to listen.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(ending),
                        // Before anybody's disks end, and after drivers that may write to ours then (md).
                        priority: c_int::MAX - 1,
                        ..Default::default()
                    })
                };
                // SAFETY: The block is pinned and complete.
                to_result(unsafe { raw::register_reboot_notifier(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Farewell {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant. Waits for a call that is at work.
        unsafe { raw::unregister_reboot_notifier(self.block.get()) };
    }
}

/// # Safety
///
/// Called by the kernel when it restarts, halts or powers off. Process context.
unsafe extern "C" fn ending(
    _block: *mut bindings::notifier_block,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    hub::tell_of_end();
    raw::NOTIFY_DONE
}
