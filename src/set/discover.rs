// SPDX-License-Identifier: GPL-2.0

//! Disks that come and go, and sets that wait to be complete.

use super::managed::ManagedSet;
use super::manager::{Manager, Operations};
use super::probe::{self, Found, DISK_SECTORS_MIN};
use super::shared::{now, ticks};
use super::start::Policy;
use crate::block::bdev::{BlockDevice, Dev, Mode};
use crate::block::hub::DiskNews;
use crate::metadata::choice::Choice;
use crate::metadata::Format;
use crate::model::{Checked, Identity, Reason};
use crate::reason;
use crate::uapi::EventKind;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long after its arrival a disk is looked at, and how long until the next try.
const SETTLE_MS: u32 = 100;
/// How often a disk is looked at that cannot be opened.
const TRIES_MAX: u8 = 6;

/// The same when its set says that it will be able to use it later.
const PATIENT_TRIES_MAX: u8 = 60;
/// Most disks of which the news is kept.
const NEWS_MAX: usize = 4096;
/// Room for news that is made when the module loads.
const NEWS_ROOM: usize = 256;

/// Drivers whose disks are not looked at unless asked for: floppies, CD-ROMs (`Documentation/
/// admin-guide/devices.txt`).
const MAJORS_LEFT_OUT: [u64; 2] = [2, 11];

/// Something that happened to a disk and has to be looked into.
#[derive(Clone, Copy)]
struct Item {
    dev: Dev,
    news: DiskNews,
    due: u64,
    tries: u8,
}

/// What happened and was not looked into yet, and the whole disks that there are.
pub struct News {
    items: KVec<Item>,
    present: KVec<Dev>,
    lost_some: bool,
}

impl News {
    /// None. Allocates room for what comes when no memory can be had.
    pub fn new() -> Result<Self> {
        Ok(Self {
            items: KVec::with_capacity(NEWS_ROOM, GFP_KERNEL)?,
            present: KVec::with_capacity(NEWS_ROOM, GFP_KERNEL)?,
            lost_some: false,
        })
    }

    /// Whether there is something to look into.
    pub fn is_pending(&self) -> bool {
        !self.items.is_empty()
    }

    fn push(&mut self, item: Item) {
        let full = self.items.len() >= NEWS_MAX;
        if full || self.items.push(item, GFP_NOWAIT).is_err() {
            self.lost_some = true;
        }
    }

    fn note_presence(&mut self, dev: Dev, news: DiskNews) {
        match news {
            DiskNews::Arrived => {
                if !self.present.contains(&dev) && self.present.push(dev, GFP_NOWAIT).is_err() {
                    self.lost_some = true;
                }
            }
            DiskNews::Left => self.present.retain(|known| *known != dev),
            DiskNews::Died => {}
        }
    }

    /// Takes out one item that is due.
    fn next_due(&mut self) -> Option<Item> {
        let at = now();
        let place = self.items.iter().position(|item| item.due <= at)?;
        self.items.remove(place).ok()
    }

    /// Takes out one that says that a disk is gone.
    fn next_gone(&mut self) -> Option<Item> {
        let is_gone = |item: &Item| item.news != DiskNews::Arrived;
        let place = self.items.iter().position(is_gone)?;
        self.items.remove(place).ok()
    }
}

/// A disk that is in no active set, and what is on it.
pub struct SeenDisk {
    /// The disk.
    pub dev: Dev,
    /// Why its metadata is of no use.
    pub damaged: Reason,
}

impl Manager {
    /// Takes note of news. Under locks of the device model.
    pub(super) fn take_note(&self, dev: Dev, news: DiskNews, partition: bool) {
        let wait_ms = match news {
            DiskNews::Arrived => SETTLE_MS,
            DiskNews::Left | DiskNews::Died => 0,
        };
        {
            let mut list = self.news.lock();
            if !partition {
                list.note_presence(dev, news);
            } else if news == DiskNews::Arrived {
                // Partitions are looked at only when a scan asks for them.
                return;
            }
            list.push(Item {
                dev,
                news,
                due: now() + ticks(wait_ms),
                tries: 0,
            });
        }
        self.shared.wish(wait_ms);
    }

    /// The whole disks that there are.
    pub(super) fn present_disks(&self) -> Checked<KVec<Dev>> {
        let mut disks = KVec::with_capacity(NEWS_MAX, GFP_KERNEL)?;
        for &dev in self.news.lock().present.iter() {
            if disks.len() < disks.capacity() && !is_left_out(dev) {
                disks.push(dev, GFP_KERNEL)?;
            }
        }
        Ok(disks)
    }

    /// One round of discovery.
    pub(super) fn discover_now(self: &Arc<Self>) {
        let mut operations = self.operations.lock();
        if operations.closed || self.shared.hibernates.load(Ordering::SeqCst) {
            // The end of that looks again.
            return;
        }
        loop {
            let Some(item) = self.news.lock().next_due() else {
                break;
            };
            match item.news {
                DiskNews::Left | DiskNews::Died => self.disk_gone(&mut operations, item.dev),
                DiskNews::Arrived => self.disk_arrived(&mut operations, item),
            }
        }
        self.start_gathered();
        self.lend_spares(&mut operations);
        let (pending, lost_some) = {
            let mut news = self.news.lock();
            let lost = core::mem::replace(&mut news.lost_some, false);
            (news.is_pending(), lost)
        };
        if lost_some {
            log!(
                pr_warn,
                "too many disks came and went at once: scan for sets by hand"
            );
        }
        if pending {
            self.shared.wish(SETTLE_MS);
        }
    }

    #[inline(never)]
    fn disk_arrived(&self, operations: &mut Operations, mut item: Item) {
        if is_left_out(item.dev) {
            return;
        }
        let wanted = self.shared.options.autostart;
        if wanted.is_empty() && self.sets.lock().is_empty() {
            // Nothing starts by itself, and nothing is there that it could be of.
            return;
        }
        let Err(reason) = self.look_for(operations, item.dev, wanted) else {
            return;
        };
        item.tries += 1;
        let tries_max = match reason.errno() == EAGAIN {
            true => PATIENT_TRIES_MAX,
            false => TRIES_MAX,
        };
        if item.tries < tries_max {
            item.due = now() + ticks(SETTLE_MS << item.tries.min(TRIES_MAX));
            self.news.lock().push(item);
        } else {
            log!(pr_debug, "disk {} is left alone: {}", item.dev, reason);
        }
    }

    /// Takes the news of disks that are gone: a person's operation is not to come upon those.
    #[inline(never)]
    pub(super) fn disks_gone(&self, operations: &mut Operations) {
        loop {
            let gone = self.news.lock().next_gone();
            let Some(item) = gone else { return };
            self.disk_gone(operations, item.dev);
        }
    }

    #[inline(never)]
    fn disk_gone(&self, operations: &mut Operations, dev: Dev) {
        operations.seen.retain(|disk| disk.dev != dev);
        let Ok(sets) = self.all_sets() else { return };
        for set in sets {
            let noted = {
                let mut inner = set.lock();
                inner.early.retain(|early| *early != dev);
                inner.note_unplugged(&self.shared, dev)
            };
            if noted {
                set.kick();
                set.kick_keeper();
            } else if set.scatter(dev) {
                self.unlist(&set);
            }
        }
    }

    /// Starts the sets that are complete, or have waited long enough.
    #[inline(never)]
    fn start_gathered(&self) {
        let Ok(sets) = self.all_sets() else { return };
        for set in sets {
            let (complete, due) = {
                let inner = set.lock();
                let idle = inner.active || inner.held || inner.gone || inner.metadata.is_none();
                if idle || !self.shared.options.autostart.has(set.format.name()) {
                    set.waits.store(false, Ordering::Release);
                    continue;
                }
                let due = inner.deadline.is_some_and(|deadline| deadline <= now());
                // One try when complete, one when the time is over.
                let is_new = inner.deadline.is_some() && !inner.tried;
                (inner.is_complete() && is_new, due)
            };
            if !complete && !due {
                if let Some(deadline) = set.lock().deadline {
                    self.shared.wish_at(deadline.saturating_add(1));
                }
                continue;
            }
            set.waits.store(false, Ordering::Release);
            {
                let mut inner = set.lock();
                let was_tried = core::mem::replace(&mut inner.tried, true);
                if due {
                    // What does not start for a reason that may pass has a second try, also what was not complete before: it may be that a
                    // disk was just in use.
                    let wait = self.shared.options.start_timeout_ms;
                    inner.deadline = (!was_tried).then(|| now() + ticks(wait));
                }
            }
            let policy = Policy {
                degraded: due,
                force: false,
            };
            if let Err(reason) = set.start(policy, None) {
                log!(
                    pr_warn,
                    "a {} set is not started: {}",
                    set.format.name(),
                    reason
                );
                self.shared.post(EventKind::Note, &set.id, |event| {
                    event.text = crate::model::Text::from_text(reason.text());
                });
            } else {
                set.tell_refusals();
            }
            // As is one for what it lacked just now.
            let again = {
                let inner = set.lock();
                inner.deadline.filter(|_| !inner.active && !inner.gone)
            };
            if let Some(deadline) = again {
                set.waits.store(true, Ordering::Release);
                self.shared.wish_at(deadline.saturating_add(1));
            }
            self.unlist_if_empty(&set);
        }
    }

    /// Looks at a disk, and takes it into the set that it belongs to; that one. An error is one of opening or
    /// reading, or says what is wrong with its metadata.
    #[inline(never)]
    pub(super) fn look_at(
        &self,
        operations: &mut Operations,
        dev: Dev,
    ) -> Checked<Option<Arc<ManagedSet>>> {
        self.look_for(operations, dev, Choice::ALL)
    }

    /// The same, but disks of formats other than `wanted` are left alone, unless their set is active.
    #[inline(never)]
    fn look_for(
        &self,
        operations: &mut Operations,
        dev: Dev,
        wanted: Choice,
    ) -> Checked<Option<Arc<ManagedSet>>> {
        let sets = self.all_sets()?;
        for set in sets.iter() {
            if set.lock().index_of(dev).is_some() {
                return Ok(Some(set.clone()));
            }
        }
        let device = BlockDevice::open(dev, Mode::Read).map_err(|errno| {
            reason!(
                errno,
                "disk {dev} cannot be opened: errno {}",
                -errno.to_errno()
            )
        })?;
        operations.seen.retain(|disk| disk.dev != dev);
        let found = if device.size_sectors() < DISK_SECTORS_MIN {
            Found::Nothing
        } else {
            probe::probe(&device, operations.io.as_mut())?
        };
        drop(device);
        for set in sets.iter() {
            let stays = matches!(&found, Found::Set { format, id, .. } if set.is(*format, id));
            if stays {
                continue;
            }
            set.lock().early.retain(|early| *early != dev);
            if set.scatter(dev) {
                self.unlist(set);
            }
        }
        match found {
            Found::Nothing => Ok(None),
            Found::Damaged { format, .. } if !wanted.has(format.name()) => Ok(None),
            Found::Damaged { reason, .. } => {
                operations.seen.push(
                    SeenDisk {
                        dev,
                        damaged: reason,
                    },
                    GFP_KERNEL,
                )?;
                Ok(None)
            }
            Found::Set { format, id, .. }
                if !wanted.has(format.name())
                    && !sets
                        .iter()
                        .any(|set| set.is(format, &id) && set.lock().active) =>
            {
                Ok(None)
            }
            Found::Set { format, id, image } => {
                let set = self.set_of(format, &id)?;
                let is_new = !sets.iter().any(|known| Arc::ptr_eq(known, &set));
                let is_active = set.lock().active;
                if is_active {
                    set.take_back(image)?;
                } else {
                    set.waits.store(true, Ordering::Release);
                    if let Err(reason) = set.gather(image) {
                        log!(pr_warn, "disk {}: {}", dev, reason);
                    }
                    if is_new {
                        self.tell_found(&set);
                    }
                    let lends = set.lock().model().is_some_and(|model| model.lends_spares);
                    if lends {
                        // Who lacks one will be told by its keeper.
                        for other in sets.iter() {
                            other.kick_keeper();
                        }
                    }
                }
                Ok(Some(set))
            }
        }
    }
}

fn is_left_out(dev: Dev) -> bool {
    MAJORS_LEFT_OUT.contains(&(dev.0 >> 32))
}

impl ManagedSet {
    /// Whether this is the set of that format with that identity.
    fn is(&self, format: &dyn Format, id: &Identity) -> bool {
        self.id == *id && self.format.name() == format.name()
    }

    /// Tells why volumes did not start.
    #[inline(never)]
    pub(super) fn tell_refusals(&self) {
        let inner = self.lock();
        for (volume, entry) in inner.entries.iter().enumerate() {
            if let (None, Some(why)) = (&entry.running, &entry.why) {
                self.shared.say(
                    EventKind::Note,
                    &self.id,
                    format_args!("volume {volume} is not started: {why}"),
                );
            }
        }
    }
}
