// SPDX-License-Identifier: GPL-2.0

//! That the machine is about to stop: a notifier of the kernel's, called after user space's last word and before devices are shut down.
//!
//! C header: `include/linux/reboot.h` (`register_reboot_notifier`).

use super::{hub, raw};
use core::ffi::c_void;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// `NOTIFY_DONE`: nothing to say about it.
const NOTIFY_DONE: c_int = 0;

/// A registration; ends when dropped. From a restart, a halt or a power-off on [`hub::tell_of_the_end`] is called.
///
/// # Invariants
///
/// `notifier` is registered.
#[pin_data(PinnedDrop)]
pub struct RebootWatch {
    #[pin]
    notifier: Opaque<bindings::notifier_block>,
}

// SAFETY: Registration may be ended from any task.
unsafe impl Send for RebootWatch {}
// SAFETY: There is nothing to share.
unsafe impl Sync for RebootWatch {}

impl RebootWatch {
    /// Starts to listen.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            notifier <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(called),
                        ..Default::default()
                    })
                };
                // SAFETY: The notifier is pinned and complete.
                to_result(unsafe { raw::register_reboot_notifier(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for RebootWatch {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { raw::unregister_reboot_notifier(self.notifier.get()) };
    }
}

/// # Safety
///
/// Called by the kernel, in process context; its arguments are not looked at.
unsafe extern "C" fn called(
    _notifier: *mut bindings::notifier_block,
    _action: c_ulong,
    _data: *mut c_void,
) -> c_int {
    hub::tell_of_the_end();
    NOTIFY_DONE
}
