// SPDX-License-Identifier: GPL-2.0

//! A stretch of code whose allocations must not wait for I/O.
//!
//! C header: `include/linux/sched/mm.h` (`memalloc_noio_save`).

use core::marker::PhantomData;
use kernel::bindings;
use kernel::prelude::*;

/// While it lives, every allocation of this task counts as `GFP_NOIO`. For who holds a lock that
/// writes to an array may wait for: memory reclaim may write to that very array.
///
/// # Invariants
///
/// Lives and dies on one task. Nests like a stack.
pub struct NoIo {
    was_set: bool,
    _on_one_task: PhantomData<*mut ()>,
}

impl NoIo {
    /// Begins the stretch.
    pub fn enter() -> Self {
        let task = current!().as_ptr();
        // SAFETY: `task` is the running task, and only it changes its own flags.
        let was_set = unsafe {
            let before = (*task).flags;
            (*task).flags = before | bindings::PF_MEMALLOC_NOIO;
            before & bindings::PF_MEMALLOC_NOIO != 0
        };
        Self {
            was_set,
            _on_one_task: PhantomData,
        }
    }
}

/// Tells lockdep that memory reclaim may wait for the lock that `take` takes (and gives back): reclaim writes to
/// arrays, and their writes wait for its holders. From then on lockdep complains when somebody waits, under that
/// lock, for one under which others allocate. Does nothing on kernels without lockdep.
pub fn reclaim_may_wait_for(take: impl FnOnce()) {
    #[cfg(CONFIG_LOCKDEP)]
    {
        // SAFETY: Both only note for lockdep what this task seems to hold; they come in pairs.
        unsafe { super::raw::fs_reclaim_acquire(bindings::GFP_KERNEL) };
        take();
        // SAFETY: As above.
        unsafe { super::raw::fs_reclaim_release(bindings::GFP_KERNEL) };
    }
    #[cfg(not(CONFIG_LOCKDEP))]
    drop(take);
}

impl Drop for NoIo {
    fn drop(&mut self) {
        if self.was_set {
            return;
        }
        let task = current!().as_ptr();
        // SAFETY: As in `enter`; not being `Send`, this is the same task.
        unsafe { (*task).flags &= !bindings::PF_MEMALLOC_NOIO };
    }
}
