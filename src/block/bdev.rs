// SPDX-License-Identifier: GPL-2.0

//! Open block devices: the members.
//!
//! C header: `include/linux/blkdev.h`.

use super::{raw, serial};
use crate::model::Text;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::bindings;
use kernel::error::{from_err_ptr, to_result};
use kernel::prelude::*;

/// Number of a block device, `major << 32 | minor`: the same in ioctls, on the host and in the model
/// (`DiskFacts::key`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dev(pub u64);

/// Bits of a minor number in the kernel's own `dev_t` (`include/linux/kdev_t.h`).
const MINOR_BITS: u32 = 20;

impl Dev {
    /// From the kernel's own `dev_t`.
    pub fn from_kernel(dev: bindings::dev_t) -> Self {
        Self(u64::from(dev >> MINOR_BITS) << 32 | u64::from(dev & ((1 << MINOR_BITS) - 1)))
    }

    fn to_kernel(self) -> Result<bindings::dev_t> {
        let (major, minor) = (self.0 >> 32, self.0 & 0xffff_ffff);
        if major >= 1 << (32 - MINOR_BITS) || minor >= 1 << MINOR_BITS {
            return Err(ENXIO);
        }
        Ok((major as u32) << MINOR_BITS | minor as u32)
    }
}

impl fmt::Display for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Who is told that a claimed device died.
struct Holder {
    died: fn(Dev),
}

/// How a device is opened.
#[derive(Clone, Copy)]
pub enum Mode {
    /// For reading, beside others.
    Read,
    /// For reading and writing, claimed exclusively; the function is called when the device dies
    /// (process context, a lock of the block layer held: takes leaf locks only).
    Exclusive(fn(Dev)),
}

/// An open block device.
///
/// # Invariants
///
/// `file` is an open block-device file and `bdev` its device. `holder`, when there is one, is the
/// claim under which it was opened, and lives as long as the opening.
pub struct BlockDevice {
    file: NonNull<bindings::file>,
    bdev: NonNull<bindings::block_device>,
    holder: Option<NonNull<Holder>>,
    serial: Text<{ serial::BYTES }>,
    read_errors: AtomicU64,
    write_errors: AtomicU64,
    /// Tick of the last I/O of users of an array that has it as a member.
    used: AtomicU64,
}

// SAFETY: A block device may be used and closed from any task.
unsafe impl Send for BlockDevice {}
// SAFETY: As above; the fields read are stable or read whole.
unsafe impl Sync for BlockDevice {}

static HOLDER_OPS: bindings::blk_holder_ops = bindings::blk_holder_ops {
    mark_dead: Some(mark_dead),
    sync: None,
    freeze: None,
    thaw: None,
};

/// # Safety
///
/// Called by the block layer with `bd_holder_lock` held, which has to be released, for a device that
/// is open with `HOLDER_OPS`.
unsafe extern "C" fn mark_dead(bdev: *mut bindings::block_device, _surprise: bool) {
    // SAFETY: With `HOLDER_OPS`, `bd_holder` is the `Holder` of a `BlockDevice` that is still open
    // (closing takes `bd_holder_lock`).
    let (died, dev) = unsafe {
        let holder = (*bdev).bd_holder.cast::<Holder>();
        ((*holder).died, Dev::from_kernel((*bdev).bd_dev))
    };
    died(dev);
    // Nothing may follow: who closes the device waits for this only, and may be about to unload the module.
    // SAFETY: The contract of `mark_dead`: the lock is ours to release.
    unsafe { bindings::mutex_unlock(&raw mut (*bdev).bd_holder_lock) };
}

impl BlockDevice {
    /// Opens `dev`, and asks it for its serial number. Sleeps, and takes locks of the kernel.
    ///
    /// `EBUSY` when it is claimed by somebody else (a mounted filesystem, md, dm …), `EROFS` when it is to be claimed and is
    /// set read-only.
    pub fn open(dev: Dev, mode: Mode) -> Result<Self> {
        let number = dev.to_kernel()?;
        let (flags, holder) = match mode {
            Mode::Read => (raw::BLK_OPEN_READ, None),
            Mode::Exclusive(died) => {
                let holder = KBox::into_raw(KBox::new(Holder { died }, GFP_KERNEL)?);
                (
                    raw::BLK_OPEN_READ | raw::BLK_OPEN_WRITE,
                    NonNull::new(holder),
                )
            }
        };
        let (token, ops) = match holder {
            Some(holder) => (holder.as_ptr().cast(), &raw const HOLDER_OPS),
            None => (core::ptr::null_mut(), core::ptr::null()),
        };
        // SAFETY: `token` is unique to this opening and lives as long as it does.
        let opened = unsafe { bindings::bdev_file_open_by_dev(number, flags, token, ops) };
        let opened = from_err_ptr(opened);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                if let Some(holder) = holder {
                    // SAFETY: The opening failed, so nobody else has the pointer.
                    drop(unsafe { KBox::from_raw(holder.as_ptr()) });
                }
                return Err(error);
            }
        };
        // SAFETY: `file` is an open block-device file, so both pointers are valid and not null.
        // INVARIANT: As just said.
        let mut device = unsafe {
            Self {
                file: NonNull::new_unchecked(file),
                bdev: NonNull::new_unchecked(bindings::file_bdev(file)),
                holder,
                serial: Text::new(),
                read_errors: AtomicU64::new(0),
                write_errors: AtomicU64::new(0),
                used: AtomicU64::new(0),
            }
        };
        if device.holder.is_some() && device.is_read_only() {
            // The block layer only warns of who writes all the same.
            return Err(EROFS);
        }
        // SAFETY: The device is open, so its disk was added and is there.
        device.serial = unsafe { serial::of_disk(device.disk()) };
        Ok(device)
    }

    /// Notes that at tick `now` users did I/O on an array that has it as a member.
    pub fn note_use(&self, now: u64) {
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// The tick that was noted last.
    pub fn last_use(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The disk that it is, or is a partition of.
    fn disk(&self) -> *mut bindings::gendisk {
        // SAFETY: By the invariants the device is live, and so is its disk.
        unsafe { self.bdev.as_ref().bd_disk }
    }

    /// Closes what was opened to be read, all the way: it does not count as an opener any more. (Dropped in a person's
    /// task it would do so until that leaves the kernel.) Sleeps.
    pub fn close(self) {
        if self.holder.is_none() {
            let file = self.file;
            core::mem::forget(self);
            // SAFETY: The file was ours, nobody else has a reference, and nothing has to be given up but that.
            unsafe { bindings::__fput_sync(file.as_ptr()) };
        }
    }

    /// The raw device.
    pub(super) fn raw(&self) -> *mut bindings::block_device {
        self.bdev.as_ptr()
    }

    fn limits(&self) -> &bindings::queue_limits {
        // SAFETY: The queue lives while the device is open; limits change only field by field.
        unsafe { &(*(*self.bdev.as_ref().bd_disk).queue).limits }
    }

    /// Its number.
    pub fn dev(&self) -> Dev {
        // SAFETY: By the invariants the device is live.
        Dev::from_kernel(unsafe { self.bdev.as_ref().bd_dev })
    }

    /// Size in sectors.
    pub fn size_sectors(&self) -> u64 {
        // SAFETY: As above.
        unsafe { self.bdev.as_ref().bd_nr_sectors }
    }

    /// Whether it is gone from the machine, or on its way. (Of a disk that is gone only the whole has no size any more: its
    /// partitions keep theirs.)
    pub fn is_gone(&self) -> bool {
        // SAFETY: The device keeps its disk, and that its first partition, which is the whole.
        unsafe { (*(*self.disk()).part0).bd_nr_sectors == 0 || !bindings::disk_live(self.disk()) }
    }

    /// The whole disk that it is, or is a partition of.
    pub fn whole(&self) -> Dev {
        // SAFETY: The device keeps its disk, and that its first partition, which is the whole.
        Dev::from_kernel(unsafe { (*(*self.disk()).part0).bd_dev })
    }

    /// Whether somebody, or its driver, does not want it to be written.
    fn is_read_only(&self) -> bool {
        let is_set = |bdev: &bindings::block_device| {
            bdev.__bd_flags.counter as u32 & bindings::BD_READ_ONLY != 0
        };
        // SAFETY: The device keeps its disk, and that its first partition, which is the whole.
        unsafe {
            let disk = &*self.disk();
            is_set(self.bdev.as_ref())
                || is_set(&*disk.part0)
                || disk.state & 1 << bindings::GD_READ_ONLY != 0
        }
    }

    /// Logical block size in bytes.
    pub fn logical_block_bytes(&self) -> u32 {
        self.limits().logical_block_size
    }

    /// Whether what it acknowledged may be lost with the power, before it was flushed.
    pub fn has_write_cache(&self) -> bool {
        let limits = self.limits();
        limits.features & raw::BLK_FEAT_WRITE_CACHE != 0
            && limits.flags & raw::BLK_FLAG_WRITE_CACHE_DISABLED == 0
    }

    /// Whether what it is sent is done when it comes back, by the CPU that sent it: a disk in memory.
    pub fn works_at_once(&self) -> bool {
        self.limits().features & raw::BLK_FEAT_SYNCHRONOUS != 0
    }

    /// Whether it takes discards.
    pub fn takes_discards(&self) -> bool {
        self.limits().max_discard_sectors != 0
    }

    /// Whether it fills itself with zeroes, without being sent them.
    pub fn zeroes_itself(&self) -> bool {
        self.limits().max_write_zeroes_sectors != 0
    }

    /// Has it fill `sectors` from `first` on with zeroes, for good. `EOPNOTSUPP` when it cannot do that by itself,
    /// `EINTR` when the task was killed meanwhile. Sleeps.
    pub fn zero(&self, first: u64, sectors: u64) -> Result {
        // SAFETY: The device is open; the function checks the range, and waits for the end of it.
        to_result(unsafe {
            bindings::blkdev_issue_zeroout(
                self.raw(),
                first,
                sectors,
                bindings::GFP_KERNEL,
                raw::BLKDEV_ZERO_NOFALLBACK | raw::BLKDEV_ZERO_KILLABLE,
            )
        })?;
        // SAFETY: As above.
        to_result(unsafe { bindings::blkdev_issue_flush(self.raw()) })
    }

    /// The serial number that the disk told of itself when it was opened: its last bytes, or nothing.
    pub fn serial(&self) -> Text<{ serial::BYTES }> {
        self.serial
    }

    /// Addresses `bio` to `sector` of this device.
    ///
    /// # Safety
    ///
    /// `bio` is the caller's own, unsent.
    pub(super) unsafe fn address(&self, bio: *mut bindings::bio, sector: u64) {
        let flags = 1u16 << bindings::BIO_REMAPPED | 1u16 << bindings::BIO_BPS_THROTTLED;
        // SAFETY: The bio is the caller's own; the device is live and stays so while bios of its
        // users are in flight (they hold a pass to the array that owns this object).
        unsafe {
            (*bio).bi_flags &= !flags;
            (*bio).bi_bdev = self.raw();
            (*bio).bi_iter.bi_sector = sector;
            // Without control groups for block devices there is nothing to associate with.
            #[cfg(CONFIG_BLK_CGROUP)]
            bindings::bio_associate_blkg(bio);
        }
    }
}

impl BlockDevice {
    /// Counts a read or write of it that failed. Any context.
    pub fn count_error(&self, is_read: bool) {
        let errors = if is_read {
            &self.read_errors
        } else {
            &self.write_errors
        };
        errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads and writes that failed since it was opened.
    pub fn errors(&self) -> (u64, u64) {
        (
            self.read_errors.load(Ordering::Relaxed),
            self.write_errors.load(Ordering::Relaxed),
        )
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // SAFETY: The file is ours; the claim is given up with it, after which nobody has the holder.
        unsafe {
            bindings::bdev_fput(self.file.as_ptr());
            if let Some(holder) = self.holder {
                drop(KBox::from_raw(holder.as_ptr()));
            }
        }
    }
}
