// SPDX-License-Identifier: GPL-2.0

//! What the generated `bindings` lack: cast-macro constants and functions of other modules.
//!
//! C headers: `include/linux/blk_types.h`, `include/linux/blkdev.h`, `include/linux/raid/xor.h`.

use kernel::bindings;
use kernel::prelude::*;

/// `blk_opf_t`: operation in the low 8 bits, flags above.
pub type Opf = u32;

/// `REQ_OP_READ`.
pub const REQ_OP_READ: Opf = bindings::req_op_REQ_OP_READ;
/// `REQ_OP_WRITE`.
pub const REQ_OP_WRITE: Opf = bindings::req_op_REQ_OP_WRITE;
/// `REQ_OP_FLUSH`.
pub const REQ_OP_FLUSH: Opf = bindings::req_op_REQ_OP_FLUSH;
/// `REQ_OP_DISCARD`.
pub const REQ_OP_DISCARD: Opf = bindings::req_op_REQ_OP_DISCARD;
/// `REQ_OP_WRITE_ZEROES`.
pub const REQ_OP_WRITE_ZEROES: Opf = bindings::req_op_REQ_OP_WRITE_ZEROES;
/// `REQ_OP_MASK`.
pub const REQ_OP_MASK: Opf = 0xff;
/// `REQ_SYNC`.
pub const REQ_SYNC: Opf = 1 << bindings::req_flag_bits___REQ_SYNC;
/// `REQ_META`.
pub const REQ_META: Opf = 1 << bindings::req_flag_bits___REQ_META;
/// `REQ_NOUNMAP`: zeroes are written such that their room stays reserved.
pub const REQ_NOUNMAP: Opf = 1 << bindings::req_flag_bits___REQ_NOUNMAP;
/// `REQ_FUA`.
pub const REQ_FUA: Opf = 1 << bindings::req_flag_bits___REQ_FUA;
/// `REQ_PREFLUSH`.
pub const REQ_PREFLUSH: Opf = 1 << bindings::req_flag_bits___REQ_PREFLUSH;

/// `REQ_NOWAIT`.
pub const REQ_NOWAIT: Opf = 1 << bindings::req_flag_bits___REQ_NOWAIT;

/// `NOTIFY_DONE`.
pub const NOTIFY_DONE: c_int = 0;
/// What `notifier_from_errno(-EBUSY)` makes: `NOTIFY_STOP_MASK`, and `NOTIFY_OK` with the number on top.
pub const NOTIFY_BUSY: c_int = 0x8000 | (1 + 16);
/// `PM_HIBERNATION_PREPARE` (`include/linux/suspend.h`).
pub const PM_HIBERNATION_PREPARE: c_ulong = 1;
/// `PM_POST_HIBERNATION`.
pub const PM_POST_HIBERNATION: c_ulong = 2;

/// `BLK_STS_NOTSUPP`.
pub const BLK_STS_NOTSUPP: u8 = 1;
/// `BLK_STS_IOERR`.
pub const BLK_STS_IOERR: u8 = 10;
/// `BLK_STS_AGAIN`.
pub const BLK_STS_AGAIN: u8 = 12;
/// `BLK_STS_OFFLINE`.
pub const BLK_STS_OFFLINE: u8 = 16;
/// `BLK_STS_INVAL`.
pub const BLK_STS_INVAL: u8 = 19;

/// `BLK_OPEN_READ`.
pub const BLK_OPEN_READ: bindings::blk_mode_t = 1 << 0;
/// `BLK_OPEN_WRITE`.
pub const BLK_OPEN_WRITE: bindings::blk_mode_t = 1 << 1;

/// `BLKDEV_ZERO_NOFALLBACK`.
pub const BLKDEV_ZERO_NOFALLBACK: u32 = 1 << 1;
/// `BLKDEV_ZERO_KILLABLE`.
pub const BLKDEV_ZERO_KILLABLE: u32 = 1 << 2;

/// `BLK_FEAT_WRITE_CACHE`.
pub const BLK_FEAT_WRITE_CACHE: u32 = 1 << 0;
/// `BLK_FLAG_WRITE_CACHE_DISABLED`, in `queue_limits.flags`.
pub const BLK_FLAG_WRITE_CACHE_DISABLED: u32 = 1 << 0;
/// `BLK_FEAT_FUA`.
pub const BLK_FEAT_FUA: u32 = 1 << 1;
/// `BLK_FEAT_IO_STAT`.
pub const BLK_FEAT_IO_STAT: u32 = 1 << 4;
/// `BLK_FEAT_STABLE_WRITES`.
pub const BLK_FEAT_STABLE_WRITES: u32 = 1 << 5;
/// `BLK_FEAT_SYNCHRONOUS`.
pub const BLK_FEAT_SYNCHRONOUS: u32 = 1 << 6;
/// `BLK_FEAT_NOWAIT`.
pub const BLK_FEAT_NOWAIT: u32 = 1 << 7;
/// `BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE`.
pub const BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE: u32 = 1 << 15;

/// `GFP_NOIO` as a raw mask.
pub const GFP_NOIO: bindings::gfp_t =
    1 << bindings::___GFP_DIRECT_RECLAIM_BIT | 1 << bindings::___GFP_KSWAPD_RECLAIM_BIT;
/// For what memory may have to wait for until it is free: as `GFP_NOIO`, and takes what the kernel keeps for that
/// (`__GFP_MEMALLOC`). Gives up rather than wait for it, and warns of nothing.
pub const GFP_LAST_RESORT: bindings::gfp_t = GFP_NOIO
    | 1 << bindings::___GFP_MEMALLOC_BIT
    | 1 << bindings::___GFP_NORETRY_BIT
    | 1 << bindings::___GFP_NOWARN_BIT;
/// May not sleep, takes no reserves (not even for who frees memory: what is left of them has to be enough for all of
/// these), warns of nothing.
pub const GFP_OPPORTUNISTIC: bindings::gfp_t = 1 << bindings::___GFP_KSWAPD_RECLAIM_BIT
    | 1 << bindings::___GFP_NOMEMALLOC_BIT
    | 1 << bindings::___GFP_NOWARN_BIT;

extern "C" {
    /// `mm/page_alloc.c`: from here to the next the task counts as one that may wait for memory reclaim.
    #[cfg(CONFIG_LOCKDEP)]
    pub fn fs_reclaim_acquire(gfp_mask: bindings::gfp_t);
    /// Ends that.
    #[cfg(CONFIG_LOCKDEP)]
    pub fn fs_reclaim_release(gfp_mask: bindings::gfp_t);

    /// `kernel/reboot.c`: `nb` is called before the machine restarts, halts or powers off.
    pub fn register_reboot_notifier(nb: *mut bindings::notifier_block) -> c_int;
    /// Ends that, when no call is at work any more.
    pub fn unregister_reboot_notifier(nb: *mut bindings::notifier_block) -> c_int;

    /// `kernel/power/main.c`: `nb` is called before and after the machine sleeps, in each way.
    #[cfg(CONFIG_PM_SLEEP)]
    pub fn register_pm_notifier(nb: *mut bindings::notifier_block) -> c_int;
    /// Ends that, when no call is at work any more.
    #[cfg(CONFIG_PM_SLEEP)]
    pub fn unregister_pm_notifier(nb: *mut bindings::notifier_block) -> c_int;

    /// `xor_gen` of module `xor` (`lib/raid/xor/xor-core.c`): `dest ^= srcs[0] ^ …`.
    /// Task context only; `bytes` a non-zero multiple of 512; pointers 64-byte aligned.
    pub fn xor_gen(dest: *mut c_void, srcs: *mut *mut c_void, src_cnt: c_uint, bytes: c_uint);

    /// `lib/raid/raid6/algos.c`: P and Q (the last two of `disks` pointers) from data. Task context
    /// only; `disks` at least 4; `bytes` a non-zero multiple of 512; pointers 64-byte aligned.
    pub fn raid6_gen_syndrome(disks: c_int, bytes: usize, ptrs: *mut *mut c_void);

    /// Adds the data `start..=stop` to P and Q. Only where [`raid6_can_xor_syndrome`].
    pub fn raid6_xor_syndrome(
        disks: c_int,
        start: c_int,
        stop: c_int,
        bytes: usize,
        ptrs: *mut *mut c_void,
    );

    /// Whether this machine's code can do [`raid6_xor_syndrome`].
    pub fn raid6_can_xor_syndrome() -> bool;

    /// Two data blocks from P, Q and the others; `faila < failb`, page-aligned, at most a page.
    pub fn raid6_recov_2data(
        disks: c_int,
        bytes: usize,
        faila: c_int,
        failb: c_int,
        ptrs: *mut *mut c_void,
    );

    /// A data block and P from Q and the others; page-aligned, at most a page.
    pub fn raid6_recov_datap(disks: c_int, bytes: usize, faila: c_int, ptrs: *mut *mut c_void);

    /// `crc32c` (`include/linux/crc32.h`): goes on from `crc`, inverts nothing.
    pub fn crc32c(crc: u32, p: *const c_void, len: usize) -> u32;

    /// `xxh64` (`include/linux/xxhash.h`).
    pub fn xxh64(input: *const c_void, length: usize, seed: u64) -> u64;

    /// `jiffies` (`include/linux/jiffies.h`).
    pub static jiffies: c_ulong;
}
