// SPDX-License-Identifier: GPL-2.0

//! Arrival of disks: a `class_interface` on the block class.
//!
//! `block_class` is not exported, but every gendisk's device points at it from its allocation on.

use super::bdev::Dev;
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::prelude::*;
use kernel::types::Opaque;

/// Who hears of disks.
pub trait Listener: 'static {
    /// A disk or partition is there. It cannot be opened yet: look at it later, from other work.
    /// Process context, under a lock of the device model: do not open or close disks here.
    fn arrived(dev: Dev, partition: bool);

    /// A disk or partition goes away. The same context.
    fn left(dev: Dev, partition: bool);
}

/// A registration; ends when dropped.
///
/// # Invariants
///
/// `interface` is registered.
#[pin_data(PinnedDrop)]
pub struct Watch {
    #[pin]
    interface: Opaque<bindings::class_interface>,
}

// SAFETY: Registration may be ended from any task.
unsafe impl Send for Watch {}
// SAFETY: There is nothing to share.
unsafe impl Sync for Watch {}

impl Watch {
    /// Starts to listen; `L::arrived` is called for all present disks at once. Disks of `module`
    /// (arrays) are left out.
    pub fn new<L: Listener>(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // One module has one watch, so a static is enough for the callbacks to know it by.
        OWN_MODULE.store(module.as_ptr(), core::sync::atomic::Ordering::Relaxed);
        try_pin_init!(Self {
            interface <- Opaque::try_ffi_init(|slot: *mut bindings::class_interface| {
                let class = block_class()?;
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    slot.write(bindings::class_interface {
                        class,
                        add_dev: Some(added::<L>),
                        remove_dev: Some(removed::<L>),
                        ..Default::default()
                    })
                };
                // SAFETY: The interface is pinned and complete.
                to_result(unsafe { bindings::class_interface_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Watch {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant.
        unsafe { bindings::class_interface_unregister(self.interface.get()) };
    }
}

static OWN_MODULE: core::sync::atomic::AtomicPtr<bindings::module> =
    core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());

/// The block class, read from a disk made for the purpose.
fn block_class() -> Result<*const bindings::class> {
    // SAFETY: Null limits are allowed; the lock class is static.
    let disk = from_err_ptr(unsafe {
        bindings::__blk_alloc_disk(
            core::ptr::null_mut(),
            -1,
            kernel::static_lock_class!().as_ptr(),
        )
    })?;
    const EMPTY: &bindings::block_device_operations = &bindings::block_device_operations {
        submit_bio: None,
        poll_bio: None,
        open: None,
        release: None,
        ioctl: None,
        compat_ioctl: None,
        check_events: None,
        unlock_native_capacity: None,
        getgeo: None,
        set_read_only: None,
        free_disk: None,
        swap_slot_free_notify: None,
        report_zones: None,
        devnode: None,
        get_unique_id: None,
        owner: core::ptr::null_mut(),
        pr_ops: core::ptr::null(),
        alternative_gpt_sector: None,
    };
    // SAFETY: The disk is ours; its device has its class since the allocation. It was never added,
    // so putting it is all there is to do (its release looks at `fops`).
    unsafe {
        (*disk).fops = EMPTY;
        let class = (*(*disk).part0).bd_device.class;
        bindings::put_disk(disk);
        Ok(class)
    }
}

/// The number of the block device behind `device`; `None` for arrays of our own.
///
/// # Safety
///
/// `device` is a live device of the block class.
unsafe fn identify(device: *mut bindings::device) -> Option<(Dev, bool)> {
    // SAFETY: Devices of the block class are embedded in a `block_device`, whose disk is set up
    // before the device is added.
    unsafe {
        let bdev = kernel::container_of!(device, bindings::block_device, bd_device);
        let fops = (*(*bdev).bd_disk).fops;
        let own = OWN_MODULE.load(core::sync::atomic::Ordering::Relaxed);
        if !fops.is_null() && !own.is_null() && (*fops).owner == own {
            return None;
        }
        Some((
            Dev::from_kernel((*device).devt),
            (*bdev).__bd_flags.counter & 0xff != 0,
        ))
    }
}

/// # Safety
///
/// Called by the device model with a live device of the block class.
unsafe extern "C" fn added<L: Listener>(device: *mut bindings::device) -> c_int {
    // SAFETY: By the requirement of this function.
    if let Some((dev, partition)) = unsafe { identify(device) } {
        L::arrived(dev, partition);
    }
    0
}

/// # Safety
///
/// Called by the device model with a live device of the block class.
unsafe extern "C" fn removed<L: Listener>(device: *mut bindings::device) {
    // SAFETY: By the requirement of this function.
    if let Some((dev, partition)) = unsafe { identify(device) } {
        L::left(dev, partition);
    }
}
