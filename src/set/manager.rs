// SPDX-License-Identifier: GPL-2.0

//! The manager: all sets, and the beginning and the end of the control plane.

use super::discover::{News, SeenDisk};
use super::managed::ManagedSet;
use super::shared::Shared;
use super::Options;
use crate::block::bdev::Dev;
use crate::block::class::{Listener, Watch};
use crate::block::context;
use crate::block::gendisk;
use crate::block::hibernation::Vigil;
use crate::block::hub::{self, DiskListener, DiskNews};
use crate::block::queue::{self, Kind, WorkQueue};
use crate::block::reboot::Farewell;
use crate::block::sync_io::SyncIo;
use crate::control::EventRing;
use crate::metadata::Format;
use crate::model::{Checked, Identity};
use crate::reason;
use crate::uapi::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

/// How long after a set could not be stopped at the module's end it is tried again: 100 ms.
const STOP_PAUSE_US: usize = 100_000;

/// How long the machine's end is held up for the last words to be recorded: 3 s.
const SETTLE_TRIES: u32 = 150;
const SETTLE_PAUSE_US: usize = 20_000;

const CLOCK: u64 = 1;
const DISCOVER: u64 = 2;

/// What one operation at a time may use.
pub struct Operations {
    /// For looking at disks.
    pub io: Pin<KBox<SyncIo>>,
    /// What was found on disks that belong to no set that is active.
    pub seen: KVec<SeenDisk>,
    /// The module is on its way out.
    pub closed: bool,
}

/// All sets. See [`super`] for its locks.
#[pin_data]
pub struct Manager {
    pub(super) shared: Arc<Shared>,
    #[pin]
    pub(super) operations: Mutex<Operations>,
    #[pin]
    pub(super) sets: Mutex<KVec<Arc<ManagedSet>>>,
    #[pin]
    pub(super) news: Mutex<News>,
    #[pin]
    watch: Mutex<Option<Pin<KBox<Watch>>>>,
    #[pin]
    farewell: Mutex<Option<Pin<KBox<Farewell>>>>,
    #[pin]
    vigil: Mutex<Option<Pin<KBox<Vigil>>>>,
    clock_queue: WorkQueue,
    #[pin]
    clock: Work<Manager, CLOCK>,
    #[pin]
    discover: Work<Manager, DISCOVER>,
}

impl_has_work! {
    impl HasWork<Self, CLOCK> for Manager { self.clock }
    impl HasWork<Self, DISCOVER> for Manager { self.discover }
}

impl WorkItem<CLOCK> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while this.shared.wait_for_ring() {
            this.ring();
        }
    }
}

impl WorkItem<DISCOVER> for Manager {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.discover_now();
    }
}

impl DiskListener for Manager {
    fn hear(&self, dev: Dev, news: DiskNews, partition: bool) {
        self.take_note(dev, news, partition);
    }

    fn machine_ends(&self) {
        self.settle();
        self.shared.ended.store(true, Ordering::Release);
    }

    /// What is in the image of the memory would be older than what is on the disks, as the last words of arrays are written
    /// after it was made.
    fn may_hibernate(&self) -> bool {
        // Sets become active under this only.
        let _operations = self.operations.lock();
        self.shared.hibernates.store(true, Ordering::SeqCst);
        let is_active = |set: &Arc<ManagedSet>| set.lock().active;
        let refused = match self.all_sets() {
            Ok(sets) => sets.iter().any(is_active),
            Err(_) => true,
        };
        if refused {
            log!(
                pr_err,
                "hibernation is refused while arrays run: what memory knows of them would be older than what is on their \
                 disks when the machine wakes; stop them first (emdadm stop --all)"
            );
            self.shared.hibernates.store(false, Ordering::SeqCst);
        }
        !refused
    }

    fn machine_wakes(&self) {
        self.shared.hibernates.store(false, Ordering::SeqCst);
        self.shared.wish(0);
    }
}

/// Passes on what the device model tells.
struct Ear;

impl Listener for Ear {
    fn arrived(dev: Dev, partition: bool) {
        hub::tell(dev, DiskNews::Arrived, partition);
    }

    fn left(dev: Dev, partition: bool) {
        hub::tell(dev, DiskNews::Left, partition);
    }
}

impl Manager {
    /// Starts to listen for disks. There is one manager in a module; end it with
    /// [`Manager::shutdown`] before it is dropped.
    pub fn start(
        module: &'static ThisModule,
        options: Options,
        events: Arc<EventRing>,
    ) -> Result<Arc<Self>> {
        let shared = Shared::new(module, options, events)?;
        let operations = Operations {
            io: KBox::pin_init(SyncIo::new()?, GFP_KERNEL)?,
            seen: KVec::new(),
            closed: false,
        };
        let news = News::new()?;
        let clock_queue = WorkQueue::new(c"emd_clock", Kind::Unbound)?;
        let manager = Arc::pin_init(
            pin_init!(Self {
                shared,
                operations <- new_mutex!(operations, "emd_operations"),
                sets <- new_mutex!(KVec::new(), "emd_sets"),
                news <- new_mutex!(news, "emd_news"),
                watch <- new_mutex!(None, "emd_watch"),
                farewell <- new_mutex!(None, "emd_farewell"),
                vigil <- new_mutex!(None, "emd_vigil"),
                clock_queue,
                clock <- new_work!("emd_clock"),
                discover <- new_work!("emd_discover"),
            }),
            GFP_KERNEL,
        )?;
        let _ = manager
            .clock_queue
            .enqueue::<Arc<Self>, CLOCK>(manager.clone());
        let watched = hub::listen(manager.clone())
            .and_then(|()| KBox::pin_init(Watch::new::<Ear>(module), GFP_KERNEL));
        let heard = watched.and_then(|watch| {
            *manager.watch.lock() = Some(watch);
            let farewell = KBox::pin_init(Farewell::new(), GFP_KERNEL)?;
            *manager.farewell.lock() = Some(farewell);
            let vigil = KBox::pin_init(Vigil::new(), GFP_KERNEL)?;
            *manager.vigil.lock() = Some(vigil);
            Ok(())
        });
        if let Err(errno) = heard {
            manager.shutdown();
            return Err(errno);
        }
        Ok(manager)
    }

    /// Ends it: nobody listens, no set is active, no work runs. Arrays are not open any more, or
    /// the module could not go.
    pub fn shutdown(&self) {
        // First deaf: the watch's end says of every disk that it left.
        hub::forget();
        let watch = self.watch.lock().take();
        drop(watch);
        let farewell = self.farewell.lock().take();
        drop(farewell);
        let vigil = self.vigil.lock().take();
        drop(vigil);
        let mut sets = {
            let mut operations = self.operations.lock();
            operations.closed = true;
            core::mem::take(&mut *self.sets.lock())
        };
        for set in sets.iter() {
            // What is in flight comes back to this code, so it stays until all is back. (The module is not in use: it is
            // I/O to members that hangs, or a task's that waits for a record.)
            while let Err(reason) = set.stop_all() {
                log!(pr_err, "a set could not be stopped yet: {}", reason);
                context::sleep_us(STOP_PAUSE_US);
            }
        }
        sets.clear();
        self.shared.stop_clock();
        self.clock_queue.flush();
        // A task that has ended kicks its recorder with its last words.
        queue::flush_system();
        self.shared.recorders.flush();
        self.shared.keepers.flush();
        // What keepers had to be recorded.
        self.shared.recorders.flush();
        // Tasks that have ended may still be on their last lines there.
        queue::flush_system();
        gendisk::wait_for_all_gone();
    }

    /// The machine ends: has recorded what is quiet as clean, and how far tasks got. Where a user still writes, or a
    /// disk does not answer, it is given up at last.
    fn settle(&self) {
        self.shared.ending.store(true, Ordering::Release);
        for set in self.sets.lock().iter() {
            set.settled.store(false, Ordering::Release);
        }
        for _ in 0..SETTLE_TRIES {
            let mut settled = true;
            for set in self.sets.lock().iter() {
                if !set.settled.load(Ordering::Acquire) {
                    settled = false;
                    set.kick();
                }
            }
            if settled {
                return;
            }
            context::sleep_us(SETTLE_PAUSE_US);
        }
        log!(
            pr_warn,
            "the machine ends with arrays that are not recorded as clean"
        );
    }

    /// The clock rang: lets everybody look who wished it.
    fn ring(self: &Arc<Self>) {
        let mut due = self.news.lock().is_pending();
        // The list's lock is a leaf, and kicking takes no lock.
        for set in self.sets.lock().iter() {
            if set.wants_tick.load(Ordering::Acquire) {
                set.kick();
            }
            due |= set.waits.load(Ordering::Acquire) || set.wants_spare.load(Ordering::Acquire);
        }
        if due {
            self.look_for_disks();
        }
    }

    /// Lets discovery look.
    pub(super) fn look_for_disks(self: &Arc<Self>) {
        let _ = self
            .shared
            .keepers
            .enqueue::<Arc<Self>, DISCOVER>(self.clone());
    }

    /// All sets.
    #[inline(never)]
    pub(super) fn all_sets(&self) -> Checked<KVec<Arc<ManagedSet>>> {
        // Allocates outside of the lock.
        let mut all = KVec::new();
        loop {
            let wanted = self.sets.lock().len();
            all.reserve(wanted, GFP_KERNEL)?;
            let sets = self.sets.lock();
            if sets.len() <= all.capacity() {
                for set in sets.iter() {
                    all.push(set.clone(), GFP_KERNEL)?;
                }
                return Ok(all);
            }
        }
    }

    /// The set with this identity, made when there is none. Called with `operations` held.
    #[inline(never)]
    pub(super) fn set_of(
        &self,
        format: &'static dyn Format,
        id: &Identity,
    ) -> Checked<Arc<ManagedSet>> {
        for set in self.all_sets()? {
            if set.id == *id && set.format.name() == format.name() {
                return Ok(set);
            }
        }
        let set = ManagedSet::new(&self.shared, format, *id)?;
        self.list(&set)?;
        Ok(set)
    }

    /// Takes a set into the list. What it is has to be told once it is known: [`Self::tell_found`].
    #[inline(never)]
    pub(super) fn list(&self, set: &Arc<ManagedSet>) -> Checked {
        // Allocates outside of the lock, which the clock needs: it brings the recorder back to what could not be written.
        loop {
            let room = self.sets.lock().len() + 1;
            let mut longer = KVec::with_capacity(room, GFP_KERNEL)?;
            let mut sets = self.sets.lock();
            if sets.len() < longer.capacity() {
                for other in sets.iter() {
                    longer.push(other.clone(), GFP_KERNEL)?;
                }
                longer.push(set.clone(), GFP_KERNEL)?;
                core::mem::swap(&mut *sets, &mut longer);
                drop(sets);
                break;
            }
        }
        Ok(())
    }

    /// Tells of a set that was not listed before.
    #[inline(never)]
    pub(super) fn tell_found(&self, set: &ManagedSet) {
        let inner = set.lock();
        let volumes = inner
            .model()
            .map_or(0, |model| model.live_volumes().count());
        drop(inner);
        self.shared.post(EventKind::SetFound, &set.id, |event| {
            event.value = volumes as u64;
        });
    }

    /// Takes a set out of the list.
    #[inline(never)]
    pub(super) fn unlist(&self, set: &Arc<ManagedSet>) {
        let before = {
            let mut sets = self.sets.lock();
            let before = sets.len();
            sets.retain(|other| !Arc::ptr_eq(other, set));
            before != sets.len()
        };
        if before {
            set.lock().gone = true;
            self.shared.post(EventKind::SetGone, &set.id, |_| {});
        }
    }

    /// Takes a set out of the list of which no disk is here any more. Called with `operations` held, after its disks may have
    /// been given up.
    #[inline(never)]
    pub(super) fn unlist_if_empty(&self, set: &Arc<ManagedSet>) {
        let is_empty = {
            let inner = set.lock();
            !inner.active && inner.images.is_empty()
        };
        if is_empty {
            self.unlist(set);
        }
    }

    /// Refuses operations when the module is on its way out.
    pub(super) fn check_open(operations: &Operations) -> Checked {
        if operations.closed {
            return Err(reason!(ESHUTDOWN, "the module is being removed"));
        }
        Ok(())
    }
}
