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
