// SPDX-License-Identifier: GPL-2.0

//! What the running context allows.

use kernel::bindings;
use kernel::prelude::*;

/// Whether the caller runs inside some `submit_bio` of this very task, preemptible, with interrupts
/// on and outside RCU.
///
/// True when a bio-based member (a ramdisk, device mapper, md …) completed a bio synchronously. There
/// a driver may do what it may do in its own `submit_bio`: compute, allocate with `GFP_NOIO`, submit
/// more bios (they are queued on `current->bio_list`, the stack does not grow). Everywhere else, a
/// completion has to hand its work to a workqueue. Saves the hop, decides nothing.
#[cfg(all(target_arch = "x86_64", CONFIG_PREEMPT_RCU))]
pub fn inside_submit() -> bool {
    let count: u64;
    let flags: u64;
    // `arch/x86/include/asm/preempt.h`; a migration in between does no harm, since a preemptible task
    // reads 0 on either CPU.
    // SAFETY: `__preempt_count` is a per-CPU variable that the kernel exports, read relative to the GS base as
    // the kernel itself does; reading the flags has no effect. Both touch no memory but the stack.
    unsafe {
        core::arch::asm!(
            "movl %gs:__preempt_count(%rip), {count:e}",
            "pushfq",
            "popq {flags}",
            count = out(reg) count,
            flags = out(reg) flags,
            options(att_syntax),
        );
    }
    const NEED_RESCHED_INVERTED: u64 = 0x8000_0000;
    const INTERRUPTS_ON: u64 = 1 << 9;
    if count & !NEED_RESCHED_INVERTED != 0 || flags & INTERRUPTS_ON == 0 {
        return false;
    }
    let task = current!().as_ptr();
    // SAFETY: `task` is the running task: it stays alive, and only it changes these two fields.
    unsafe { !(*task).bio_list.is_null() && (*task).rcu_read_lock_nesting == 0 }
}

/// On other architectures, and where a task cannot tell that it is in an RCU section, every completion
/// takes the hop.
#[cfg(not(all(target_arch = "x86_64", CONFIG_PREEMPT_RCU)))]
pub fn inside_submit() -> bool {
    false
}

/// The CPU the caller runs on; a hint only.
pub fn cpu_hint() -> usize {
    // SAFETY: Reads a per-CPU variable; there are no requirements.
    unsafe { bindings::raw_smp_processor_id() as usize }
}

/// How many CPUs there are beside the one that the caller runs on; a hint only.
pub fn other_cpus() -> u32 {
    // SAFETY: The kernel's count, which it changes as a whole; it is read as one.
    let online = unsafe { (&raw const bindings::__num_online_cpus.counter).read_volatile() };
    u32::try_from(online).map_or(0, |online| online.saturating_sub(1))
}

/// Whether the caller is freeing memory: what it asks for comes from what the kernel keeps for that, unless it says
/// otherwise.
pub fn frees_memory() -> bool {
    let task = current!().as_ptr();
    // SAFETY: `task` is the running task: it stays alive, and only it changes its own flags.
    unsafe { (*task).flags & bindings::PF_MEMALLOC != 0 }
}

/// Ticks since boot.
pub fn jiffies() -> c_ulong {
    // SAFETY: `jiffies` is always valid and read whole.
    unsafe { core::ptr::read_volatile(&raw const super::raw::jiffies) }
}

/// Milliseconds as ticks.
pub fn ticks(milliseconds: u32) -> c_ulong {
    // SAFETY: A pure function.
    unsafe { bindings::__msecs_to_jiffies(milliseconds) }
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    // SAFETY: There are no requirements.
    let seconds = unsafe { bindings::ktime_get_real_seconds() };
    u64::try_from(seconds).unwrap_or(0)
}

/// Nanoseconds since boot.
pub fn now_nanoseconds() -> u64 {
    // SAFETY: There are no requirements.
    let time = unsafe { bindings::ktime_get() };
    u64::try_from(time).unwrap_or(0)
}

/// Random bytes, good enough for identities.
pub fn random() -> [u64; 2] {
    let mut words = [0u64; 2];
    // SAFETY: `words` is valid for writes of its own size.
    unsafe { bindings::get_random_bytes(words.as_mut_ptr().cast(), size_of_val(&words)) };
    words
}

/// Says that the caller may sleep here, though it seldom does. The debug guest's kernel (`make test-debug`) holds it to that each time;
/// in other kernels it is nothing.
#[inline(always)]
#[track_caller]
pub fn may_sleep() {
    #[cfg(CONFIG_DEBUG_ATOMIC_SLEEP)]
    kernel::task::might_sleep();
}

/// Sleeps about `microseconds`. Process context only.
pub fn sleep_us(microseconds: usize) {
    may_sleep();
    // SAFETY: The caller may sleep (documented requirement of this function).
    unsafe { bindings::fsleep(microseconds) };
}
