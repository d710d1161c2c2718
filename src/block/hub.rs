// SPDX-License-Identifier: GPL-2.0

//! Who is told that a disk came, left or died, or that the machine ends or hibernates: the one global of the module.
//!
//! The kernel's callbacks for these (`class.rs`, `bdev.rs`, `reboot.rs`, `hibernation.rs`) have no place for a pointer of ours.

use super::bdev::Dev;
use core::sync::atomic::{AtomicU8, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What happened to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskNews {
    /// It is there.
    Arrived,
    /// It goes away in good order, or is gone.
    Left,
    /// Its driver gave it up while we held it.
    Died,
}

/// Who is told.
pub trait DiskListener: Send + Sync {
    /// Process context, under locks of the device model: take note, and look at it later.
    fn hear(&self, dev: Dev, news: DiskNews, partition: bool);

    /// The machine is about to end in good order. Process context; may take a moment.
    fn machine_ends(&self);

    /// The machine is about to hibernate: whether it may. If so, [`machine_wakes`](Self::machine_wakes) follows. Process
    /// context.
    fn may_hibernate(&self) -> bool;

    /// It has come back, or does not hibernate after all. Process context.
    fn machine_wakes(&self);
}

kernel::sync::global_lock! {
    // SAFETY: `listen` initialises it before `STATE` is `READY`, and it is used only after that.
    unsafe(uninit) static LISTENER: Mutex<Option<Arc<dyn DiskListener>>> = None;
}

const UNUSED: u8 = 0;
const BEING_MADE: u8 = 1;
const READY: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNUSED);

/// From now on `listener` is told. `EBUSY` when another call made the same at this moment.
pub fn listen(listener: Arc<dyn DiskListener>) -> Result {
    match STATE.compare_exchange(UNUSED, BEING_MADE, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // SAFETY: Only one caller ever gets here.
            unsafe { LISTENER.init() };
            STATE.store(READY, Ordering::Release);
        }
        Err(READY) => {}
        Err(_) => return Err(EBUSY),
    }
    *LISTENER.lock() = Some(listener);
    Ok(())
}

/// Nobody is told any more.
pub fn forget() {
    if STATE.load(Ordering::Acquire) == READY {
        let old = LISTENER.lock().take();
        drop(old);
    }
}

fn listener() -> Option<Arc<dyn DiskListener>> {
    if STATE.load(Ordering::Acquire) != READY {
        return None;
    }
    LISTENER.lock().clone()
}

/// Tells the listener, if there is one. Process context.
pub fn tell(dev: Dev, news: DiskNews, partition: bool) {
    if let Some(listener) = listener() {
        listener.hear(dev, news, partition);
    }
}

/// Asks it whether the machine may hibernate. Process context.
pub fn may_hibernate() -> bool {
    listener().is_none_or(|listener| listener.may_hibernate())
}

/// Tells it that the machine has hibernated, or does not do so after all. Process context.
pub fn tell_of_waking() {
    if let Some(listener) = listener() {
        listener.machine_wakes();
    }
}

/// Tells it that the machine ends. Process context; may take a moment.
pub fn tell_of_end() {
    if let Some(listener) = listener() {
        listener.machine_ends();
    }
}
