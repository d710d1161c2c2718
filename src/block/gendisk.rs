// SPDX-License-Identifier: GPL-2.0

//! Arrays as block devices: `struct gendisk` and its queue limits.

use super::bdev::{BlockDevice, Dev};
use super::bio::UserBio;
use super::gate::{Behind, Gated};
use super::{context, raw};
use core::fmt::Write;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Bios over this length are cut by the block layer, as [`Limits`] say, before a [`DiskOwner`] sees them. For shorter ones
/// that is not worth the look at each, as long as blocks are sectors.
pub const LARGE_SECTORS: u32 = 8192;

/// What stands behind a block device.
pub trait DiskOwner: Behind + Sized {
    /// A bio for the device. Process context; may sleep for memory.
    fn submit(this: &Gated<Self>, bio: UserBio);
}

/// Queue limits under construction.
pub struct Limits(bindings::queue_limits);

impl Limits {
    /// Limits that stack over members.
    pub fn stacking() -> Self {
        let mut limits = bindings::queue_limits::default();
        // SAFETY: `limits` is valid for writes.
        unsafe { bindings::blk_set_stacking_limits(&mut limits) };
        limits.features |= raw::BLK_FEAT_WRITE_CACHE
            | raw::BLK_FEAT_FUA
            | raw::BLK_FEAT_IO_STAT
            | raw::BLK_FEAT_NOWAIT;
        Self(limits)
    }

    /// Logical blocks have `bytes` at least. Before members are taken into account: those with smaller ones would be called
    /// misaligned, if physical blocks were smaller.
    pub fn block_at_least(&mut self, bytes: u32) {
        let limits = &mut self.0;
        for size in [
            &mut limits.logical_block_size,
            &mut limits.physical_block_size,
            &mut limits.io_min,
        ] {
            *size = (*size).max(bytes);
        }
    }

    /// Takes a member into account, which starts at `offset_sectors` of `device`.
    pub fn stack(&mut self, device: &BlockDevice, offset_sectors: u64) {
        // SAFETY: Both are valid; the prefix is a C string.
        unsafe {
            bindings::queue_limits_stack_bdev(
                &mut self.0,
                device.raw(),
                offset_sectors,
                c"emd".as_char_ptr(),
            )
        };
        // A disk that has refused to write zeroes keeps the limit for doing so by unmapping, and with two that
        // differ the block layer takes none of the limits.
        if self.0.max_hw_wzeroes_unmap_sectors != self.0.max_write_zeroes_sectors {
            self.0.max_hw_wzeroes_unmap_sectors = 0;
        }
    }

    /// Whether discards are taken.
    pub fn takes_discards(&self) -> bool {
        self.0.max_hw_discard_sectors != 0
    }

    /// Smallest and best I/O in sectors.
    pub fn io_hints(&mut self, min_sectors: u32, best_sectors: u32) {
        self.0.io_min = min_sectors.saturating_mul(512);
        self.0.io_opt = best_sectors.saturating_mul(512);
    }

    /// Largest I/O that is handed over in one bio, in sectors.
    pub fn max_sectors(&mut self, sectors: u32) {
        self.0.max_hw_sectors = sectors;
    }

    /// No discards.
    pub fn no_discard(&mut self) {
        self.0.max_hw_discard_sectors = 0;
        self.0.max_discard_sectors = 0;
        self.0.discard_granularity = 0;
    }

    /// Largest discard that is handed over in one bio, in sectors; none, where members take none.
    pub fn max_discard(&mut self, sectors: u32) {
        self.0.max_hw_discard_sectors = self.0.max_hw_discard_sectors.min(sectors);
        self.0.max_discard_sectors = self.0.max_discard_sectors.min(sectors);
    }

    /// Largest write-zeroes that is handed over in one bio, in sectors; none, where a member takes none.
    pub fn max_write_zeroes(&mut self, sectors: u32) {
        let sectors = sectors.min(self.0.max_write_zeroes_sectors);
        self.0.max_write_zeroes_sectors = sectors;
        // The block layer wants it to be that, or 0.
        if self.0.max_hw_wzeroes_unmap_sectors != 0 {
            self.0.max_hw_wzeroes_unmap_sectors = sectors;
        }
    }

    /// Discards of whole units of `unit_sectors`, `max_sectors` at most, if all members forget what they are told to
    /// fill with zeroes.
    pub fn discard_by_zeroes(&mut self, unit_sectors: u32, max_sectors: u32) {
        if self.0.max_hw_wzeroes_unmap_sectors == 0 {
            return self.no_discard();
        }
        // The block layer counts with powers of two.
        let unit_sectors = unit_sectors.max(1).checked_next_power_of_two();
        let Some(granularity) = unit_sectors.and_then(|sectors| sectors.checked_mul(512)) else {
            return self.no_discard();
        };
        self.0.max_hw_discard_sectors = max_sectors.max(granularity / 512);
        self.0.max_discard_sectors = self.0.max_hw_discard_sectors;
        self.0.discard_granularity = granularity;
        self.0.discard_alignment = 0;
    }

    /// Partial stripes cost much; user data must not change while it is written.
    pub fn parity(&mut self) {
        self.0.features |=
            raw::BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE | raw::BLK_FEAT_STABLE_WRITES;
    }
}

/// What belongs to a disk until its last user is gone.
struct Private<O: DiskOwner> {
    fops: bindings::block_device_operations,
    owner: Arc<Gated<O>>,
    shut: Arc<AtomicBool>,
}

/// How many of those there are.
static PRIVATES: AtomicUsize = AtomicUsize::new(0);

/// How long [`wait_for_all_gone`] sleeps in between: 1 ms.
const GONE_PAUSE_US: usize = 1000;

impl<O: DiskOwner> Private<O> {
    fn leak(self) -> Result<*mut Self> {
        let private = KBox::into_raw(KBox::new(self, GFP_KERNEL)?);
        PRIVATES.fetch_add(1, Ordering::Relaxed);
        Ok(private)
    }

    /// # Safety
    ///
    /// `private` is from [`Self::leak`], and nobody uses it any more.
    unsafe fn free(private: *mut Self) {
        // SAFETY: By the requirement.
        drop(unsafe { KBox::from_raw(private) });
        // At last: who waits for it may unload the module.
        PRIVATES.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until nothing is left of the disks that were removed. Somebody may have a reference (who reads `/proc/diskstats`,
/// say) that keeps no module loaded, and the disk's last user comes back to this code. Sleeps.
pub fn wait_for_all_gone() {
    while PRIVATES.load(Ordering::Acquire) != 0 {
        context::sleep_us(GONE_PAUSE_US);
    }
}

/// An array's block device. Removed when dropped.
///
/// # Invariants
///
/// `disk` was added; its `private_data` is a leaked `Private<O>`, freed by `free_disk`.
pub struct Disk {
    disk: NonNull<bindings::gendisk>,
    /// Nobody may open it. Set under the disk's `open_mutex`.
    shut: Arc<AtomicBool>,
}

// SAFETY: A gendisk may be removed from any task.
unsafe impl Send for Disk {}
// SAFETY: As above.
unsafe impl Sync for Disk {}

impl Disk {
    /// Makes the block device `name` in front of `owner`, with partitions. The partition table is
    /// read before this returns, so `owner` must be ready to work.
    pub fn add<O: DiskOwner>(
        owner: Arc<Gated<O>>,
        limits: &Limits,
        name: core::fmt::Arguments<'_>,
        size_sectors: u64,
        read_only: bool,
        module: &'static ThisModule,
    ) -> Result<Self> {
        let fops = bindings::block_device_operations {
            submit_bio: Some(submit::<O>),
            open: Some(open::<O>),
            free_disk: Some(free::<O>),
            owner: module.as_ptr(),
            ..Default::default()
        };
        let shut = Arc::new(AtomicBool::new(false), GFP_KERNEL)?;
        let private = Private {
            fops,
            owner,
            shut: shut.clone(),
        };
        let private = private.leak()?;
        let mut limits = limits.0;
        // SAFETY: `limits` is valid; the lock class is static.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(&mut limits, -1, kernel::static_lock_class!().as_ptr())
        });
        let disk = match disk {
            Ok(disk) => disk,
            Err(error) => {
                // SAFETY: Nobody else has the pointer yet.
                unsafe { Private::free(private) };
                return Err(error);
            }
        };
        // SAFETY: The disk is ours and not added yet. Once it is, its last reference frees `private` through
        // `free_disk`; one that could not be added is released without that (`disk_release` asks for `GD_ADDED`), and
        // nobody else has it.
        unsafe {
            (*disk).private_data = private.cast();
            (*disk).fops = &raw const (*private).fops;
            let mut writer = NameWriter {
                name: &mut (*disk).disk_name,
                used: 0,
            };
            let named = writer.write_fmt(name);
            bindings::set_capacity(disk, size_sectors);
            if read_only {
                bindings::set_disk_ro(disk, true);
            }
            let added = if named.is_err() {
                Err(EINVAL)
            } else {
                to_result(bindings::device_add_disk(
                    core::ptr::null_mut(),
                    disk,
                    core::ptr::null_mut(),
                ))
            };
            if let Err(error) = added {
                bindings::put_disk(disk);
                Private::free(private);
                return Err(error);
            }
            Ok(Self {
                disk: NonNull::new_unchecked(disk),
                shut,
            })
        }
    }

    /// Its number.
    pub fn dev(&self) -> Dev {
        // SAFETY: By the invariant; `part0` is set from the allocation on.
        Dev::from_kernel(unsafe { (*self.disk.as_ref().part0).bd_dev })
    }

    /// Has the limits take `device` into account, which joins as a member at `offset_sectors` of it; `own` adds again what
    /// the array says of itself, told what the limits were.
    /// `EINVAL` when its logical blocks are larger, or the limits cannot be had.
    ///
    /// Waits for submitters of I/O, which wait for nothing but I/O; new ones wait meanwhile. Takes a lock of the kernel under
    /// which others wait for memory.
    pub fn stack_member(
        &self,
        device: &BlockDevice,
        offset_sectors: u64,
        own: impl FnOnce(&mut Limits, &Limits),
    ) -> Result {
        // SAFETY: By the invariant; the queue lives as long as the disk.
        let queue = unsafe { (*self.disk.as_ptr()).queue };
        // SAFETY: As above. This is `queue_limits_start_update`; who commits gives the lock back.
        let mut limits = unsafe {
            bindings::mutex_lock(&raw mut (*queue).limits_lock);
            Limits((*queue).limits)
        };
        let before = Limits(limits.0);
        limits.stack(device, offset_sectors);
        // Who has the disk open is not asked again whether it bears that: reads that cannot be done at once are told so.
        limits.0.features |= before.0.features & raw::BLK_FEAT_NOWAIT;
        own(&mut limits, &before);
        if limits.0.logical_block_size > before.0.logical_block_size {
            // SAFETY: Locked above; `queue_limits_cancel_update`.
            unsafe { bindings::mutex_unlock(&raw mut (*queue).limits_lock) };
            return Err(EINVAL);
        }
        // SAFETY: An update was started above, and ends here.
        to_result(unsafe { bindings::queue_limits_commit_update_frozen(queue, &mut limits.0) })
    }

    /// How often it (and its partitions) is open right now.
    pub fn openers(&self) -> i32 {
        // SAFETY: As above. Partitions count on the whole disk too.
        unsafe { (*self.disk.as_ref().part0).bd_openers.counter }
    }

    /// Lets nobody open it from now on, unless it is open: then this changes nothing and is false.
    ///
    /// What the last one to close it had written is with the owner by then. May sleep; waits for those who are about
    /// to open or to close it, so for I/O too.
    pub fn shut(&self) -> bool {
        // SAFETY: By the invariant; the mutex was set up with the disk.
        let mutex = unsafe { &raw mut (*self.disk.as_ptr()).open_mutex };
        // SAFETY: It lives as long as `self`. The block layer counts openers, and asks `open`, with it held.
        unsafe { bindings::mutex_lock(mutex) };
        let is_unused = self.openers() == 0;
        if is_unused {
            self.shut.store(true, Ordering::Relaxed);
        }
        // SAFETY: Locked above.
        unsafe { bindings::mutex_unlock(mutex) };
        is_unused
    }

    /// Takes [`Disk::shut`] back.
    pub fn unshut(&self) {
        self.shut.store(false, Ordering::Relaxed);
    }

    /// Shows `device` as a member in sysfs (`slaves`, `holders`).
    pub fn link_member(&self, device: &BlockDevice) -> Result {
        // SAFETY: Both live; the device is claimed (it has a holder).
        to_result(unsafe { bindings::bd_link_disk_holder(device.raw(), self.disk.as_ptr()) })
    }

    /// Takes that back.
    pub fn unlink_member(&self, device: &BlockDevice) {
        // SAFETY: Both live, and were linked.
        unsafe { bindings::bd_unlink_disk_holder(device.raw(), self.disk.as_ptr()) };
    }

    /// Tells user space that something about the disk changed.
    pub fn notify(&self) {
        // SAFETY: By the invariant.
        unsafe {
            let device = &raw mut (*self.disk.as_ref().part0).bd_device;
            bindings::kobject_uevent(
                &raw mut (*device).kobj,
                bindings::kobject_action_KOBJ_CHANGE,
            );
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // SAFETY: By the invariant the disk was added and this reference is ours.
        unsafe {
            bindings::del_gendisk(self.disk.as_ptr());
            bindings::put_disk(self.disk.as_ptr());
        }
    }
}

/// Writes a disk's name in place.
struct NameWriter<'a> {
    name: &'a mut [c_char; 32],
    used: usize,
}

impl Write for NameWriter<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            // The last byte stays NUL.
            if self.used + 1 >= self.name.len() {
                return Err(core::fmt::Error);
            }
            self.name[self.used] = byte as c_char;
            self.used += 1;
        }
        Ok(())
    }
}

/// # Safety
///
/// Called by the block layer as `submit_bio` of a disk made by `Disk::add::<O>`.
unsafe extern "C" fn submit<O: DiskOwner>(bio: *mut bindings::bio) {
    // SAFETY: The bio is addressed to such a disk, which stays while `submit_bio` runs.
    unsafe {
        let private = (*(*(*bio).bi_bdev).bd_disk)
            .private_data
            .cast::<Private<O>>();
        let queue = (*(*(*bio).bi_bdev).bd_disk).queue;
        // Of larger blocks, parts may lie in memory in a way that no member takes: that is refused here. (What is cut
        // at sectors, as buffers are, can always be cut so that it fits.)
        let may_be_refused = (*queue).limits.logical_block_size > 512;
        // What is larger than anything that the limits allow comes in parts.
        let is_large = (*bio).bi_iter.bi_size >> 9 > LARGE_SECTORS;
        let bio = match is_large || may_be_refused {
            true => bindings::bio_split_to_limits(bio),
            false => bio,
        };
        if let Some(user) = UserBio::from_raw(bio) {
            O::submit(&(*private).owner, user);
        }
    }
}

/// # Safety
///
/// Called by the block layer as `open` of a disk made by `Disk::add::<O>`, with its `open_mutex` held.
unsafe extern "C" fn open<O: DiskOwner>(
    disk: *mut bindings::gendisk,
    _mode: bindings::blk_mode_t,
) -> c_int {
    // SAFETY: The disk is such a one, and stays while it is being opened.
    let private = unsafe { &*(*disk).private_data.cast::<Private<O>>() };
    match private.shut.load(Ordering::Relaxed) {
        true => ENXIO.to_errno(),
        false => 0,
    }
}

/// # Safety
///
/// Called by the block layer when the last reference to a disk made by `Disk::add::<O>` is gone.
unsafe extern "C" fn free<O: DiskOwner>(disk: *mut bindings::gendisk) {
    // SAFETY: `private_data` is the leaked box, and nobody uses it any more.
    unsafe { Private::free((*disk).private_data.cast::<Private<O>>()) };
}
