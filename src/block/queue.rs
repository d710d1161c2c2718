// SPDX-License-Identifier: GPL-2.0

//! Workqueues of our own, so that the I/O path never waits behind somebody else's work.

use core::ops::Deref;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::workqueue::{HasDelayedWork, Queue, Work, WorkItem};

/// How a queue runs its work.
#[derive(Clone, Copy)]
pub enum Kind {
    /// On the CPU that queued it, many at once, high priority: the data path.
    PerCpu,
    /// Anywhere, many at once: long tasks.
    Unbound,
}

/// A workqueue with a rescuer (`WQ_MEM_RECLAIM`). Waits for its work when dropped.
///
/// # Invariants
///
/// `queue` is a live workqueue, owned.
pub struct WorkQueue {
    queue: NonNull<bindings::workqueue_struct>,
}

// SAFETY: Workqueues may be used from anywhere.
unsafe impl Send for WorkQueue {}
// SAFETY: As above.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Makes one.
    pub fn new(name: &'static CStr, kind: Kind) -> Result<Self> {
        let base = bindings::wq_flags_WQ_MEM_RECLAIM;
        let (flags, active) = match kind {
            Kind::PerCpu => (
                base | bindings::wq_flags_WQ_PERCPU | bindings::wq_flags_WQ_HIGHPRI,
                0,
            ),
            Kind::Unbound => (base | bindings::wq_flags_WQ_UNBOUND, 0),
        };
        // SAFETY: The name is a C string without conversions, so it needs no further arguments.
        let queue = unsafe { bindings::alloc_workqueue_noprof(name.as_char_ptr(), flags, active) };
        Ok(Self {
            queue: NonNull::new(queue).ok_or(ENOMEM)?,
        })
    }

    /// Waits until all work queued so far is done.
    pub fn flush(&self) {
        // SAFETY: By the invariant.
        unsafe { bindings::__flush_workqueue(self.queue.as_ptr()) };
    }
}

/// Takes delayed work whose time has not come out of the kernel's hands, and waits for the end of what is at it now
/// (`cancel_delayed_work_sync`). Nothing of it runs afterwards, unless somebody queues it again. May sleep; not for the work itself, which
/// would wait for its own end.
pub fn cancel_delayed<T, const ID: u64>(work: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    let object = Arc::as_ptr(work);
    // SAFETY: The object lives as long as `work`, and its `Work` is part of a `delayed_work` (`HasDelayedWork`), which `DelayedWork::new`
    // has initialised.
    let was_pending = unsafe {
        let raw = Work::raw_get(T::raw_get_work(object.cast_mut()));
        let delayed = kernel::container_of!(raw, bindings::delayed_work, work);
        bindings::cancel_delayed_work_sync(delayed)
    };
    if was_pending {
        // SAFETY: Queueing turned a reference into the raw pointer that `run` would have got. It never will now, so it is ours.
        drop(unsafe { Arc::from_raw(object) });
    }
}

/// The system's queue for work that any CPU may do, and that may take a while.
pub fn system() -> &'static Queue {
    // SAFETY: The kernel makes it at boot and never frees it.
    unsafe { Queue::from_raw(bindings::system_dfl_wq) }
}

/// Waits until all work queued so far on [`system`] is done. For the end of the module, whose code must
/// not be running there any more.
pub fn flush_system() {
    // SAFETY: As in `system`; the caller is no work of that queue (it is the module's end).
    unsafe { bindings::__flush_workqueue(bindings::system_dfl_wq) };
}

impl Deref for WorkQueue {
    type Target = Queue;
    fn deref(&self) -> &Queue {
        // SAFETY: By the invariant it is live as long as `self`.
        unsafe { Queue::from_raw(self.queue.as_ptr()) }
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is ours.
        unsafe { bindings::destroy_workqueue(self.queue.as_ptr()) };
    }
}
