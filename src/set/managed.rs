// SPDX-License-Identifier: GPL-2.0

//! One set: its locks and works, and how its disks are gathered and claimed.

use super::probe::{self, Found};
use super::returned::Returned;
use super::shared::{now, ticks, Shared};
use super::state::Inner;
use crate::array::{Notify, Place};
use crate::block::bdev::{BlockDevice, Dev, Mode};
use crate::block::hub::{self, DiskNews};
use crate::block::noio::{reclaim_may_wait_for, NoIo};
use crate::block::sync_io::SyncIo;
use crate::metadata::{DiskImage, Format};
use crate::model::{Checked, DiskMask, DiskState, Identity, MemberState, Set, Slot, Text};
use crate::personalities::choice::Choice;
use crate::reason;
use crate::uapi::{DevNumber, EventKind, EventRecord, RepairReason};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex, MutexGuard};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

const RECORDER: u64 = 1;
const KEEPER: u64 = 2;

/// How often what is wished for later is looked at.
const LOOK_MS: u32 = 500;

/// One set of disks with common metadata.
///
/// Lives while the manager lists it, a work of it runs, or an array of it does (the array's
/// [`Bell`] holds it; stopping the array breaks that circle).
#[pin_data]
pub struct ManagedSet {
    /// What all sets use.
    pub shared: Arc<Shared>,
    /// Its format.
    pub format: &'static dyn Format,
    /// Its identity.
    pub id: Identity,
    /// Who changes members, or starts and stops arrays. See the locks in [`super`].
    #[pin]
    pub change: Mutex<()>,
    #[pin]
    inner: Mutex<Inner>,
    /// The recorder wants to look again when the clock rings.
    pub wants_tick: AtomicBool,
    /// When the keeper wants to look again, in ticks; 0 for never.
    keeper_at: AtomicU64,
    /// The keeper is to look, and has not begun to.
    pub(super) keeper_wanted: AtomicBool,
    /// The keeper looks.
    pub(super) keeper_runs: AtomicBool,
    /// The set is not active and waits for more of its disks.
    pub waits: AtomicBool,
    /// The machine ends, and all that the disks should hear before is recorded.
    pub(super) settled: AtomicBool,
    /// The set lost a member and has no spare: one of no set would do.
    pub(super) wants_spare: AtomicBool,
    /// None could be had: people know.
    pub(super) told_no_spare: AtomicBool,
    #[pin]
    recorder: Work<ManagedSet, RECORDER>,
    #[pin]
    keeper: Work<ManagedSet, KEEPER>,
}

impl_has_work! {
    impl HasWork<Self, RECORDER> for ManagedSet { self.recorder }
    impl HasWork<Self, KEEPER> for ManagedSet { self.keeper }
}

impl WorkItem<RECORDER> for ManagedSet {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.look();
    }
}

impl WorkItem<KEEPER> for ManagedSet {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.keeper_runs.store(true, Ordering::Release);
        this.keeper_wanted.store(false, Ordering::Release);
        this.keep();
        this.keeper_runs.store(false, Ordering::Release);
    }
}

/// The inner lock, held. Allocations of the holder do no I/O meanwhile.
pub struct Locked<'a> {
    // In this order: the lock is given back before allocations may do I/O again.
    inner: MutexGuard<'a, Inner>,
    _no_io: NoIo,
}

impl Deref for Locked<'_> {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

/// How an array calls its set.
pub struct Bell {
    /// The set.
    pub set: Arc<ManagedSet>,
    /// N of `/dev/emdN`.
    pub number: u32,
}

impl Notify for Bell {
    fn kick(&self) {
        self.set.kick();
    }

    fn event(&self, kind: EventKind, place: Place) {
        let Place { slot, sector, disk } = place;
        self.set.shared.post(kind, &self.set.id, |event| {
            event.number = Some(self.number);
            event.slot = Some(slot);
            event.value = sector.unwrap_or(0);
            if let Some((dev, start)) = disk {
                event.dev = DevNumber::from_wire(dev.0);
                if let Some(at) = sector.and_then(|sector| start.checked_add(sector)) {
                    event.text = Text::from_fmt(format_args!("sector {at} of the disk"));
                }
            }
        });
    }

    fn mismatch(&self, fixed: Option<(Slot, Choice)>, sector: u64) {
        let post = |event: &mut EventRecord| {
            event.number = Some(self.number);
            event.slot = fixed.map(|(slot, _)| slot);
            event.value = sector;
            if let Some((_, choice)) = fixed {
                event.text = Text::from_text(RepairReason::from(choice).word());
            }
        };
        let set = &self.set;
        set.shared.post(EventKind::Mismatch, &set.id, post);
    }
}

/// Called when a claimed disk dies.
fn died(dev: Dev) {
    hub::tell(dev, DiskNews::Died, false);
}

/// Claims a disk for us alone.
#[inline(never)]
pub fn claim(dev: Dev) -> Checked<Arc<BlockDevice>> {
    let device = BlockDevice::open(dev, Mode::Exclusive(died)).map_err(|errno| {
        if errno == EBUSY {
            reason!(
                EBUSY,
                "disk {dev} is in use (mounted, or held by another driver)"
            )
        } else if errno == EROFS {
            reason!(
                EROFS,
                "disk {dev} is set read-only: nothing is written to it"
            )
        } else {
            reason!(
                errno,
                "disk {dev} cannot be opened: errno {}",
                -errno.to_errno()
            )
        }
    })?;
    Ok(Arc::new(device, GFP_KERNEL)?)
}

impl ManagedSet {
    /// A set of which nothing is known yet. Allocates.
    #[inline(never)]
    pub fn new(
        shared: &Arc<Shared>,
        format: &'static dyn Format,
        id: Identity,
    ) -> Checked<Arc<Self>> {
        let inner = Inner::new()?;
        let shared = shared.clone();
        let set = Arc::pin_init(
            pin_init!(Self {
                shared,
                format,
                id,
                change <- new_mutex!((), "emd_change"),
                inner <- new_mutex!(inner, "emd_set"),
                wants_tick: AtomicBool::new(false),
                keeper_at: AtomicU64::new(0),
                keeper_wanted: AtomicBool::new(false),
                keeper_runs: AtomicBool::new(false),
                waits: AtomicBool::new(false),
                settled: AtomicBool::new(false),
                wants_spare: AtomicBool::new(false),
                told_no_spare: AtomicBool::new(false),
                recorder <- new_work!("emd_recorder"),
                keeper <- new_work!("emd_keeper"),
            }),
            GFP_KERNEL,
        )?;
        reclaim_may_wait_for(|| drop(set.lock()));
        Ok(set)
    }

    /// Takes the inner lock.
    pub fn lock(&self) -> Locked<'_> {
        let no_io = NoIo::enter();
        Locked {
            inner: self.inner.lock(),
            _no_io: no_io,
        }
    }

    /// Lets the recorder look. Any context.
    pub fn kick(self: &Arc<Self>) {
        // When it is queued already that is as good; the reference given back is not the last one.
        let _ = self
            .shared
            .recorders
            .enqueue::<Arc<Self>, RECORDER>(self.clone());
    }

    /// Lets the keeper look. Any context.
    pub fn kick_keeper(self: &Arc<Self>) {
        self.keeper_wanted.store(true, Ordering::Release);
        let _ = self
            .shared
            .keepers
            .enqueue::<Arc<Self>, KEEPER>(self.clone());
    }

    /// Whether the keeper is about to look, or looks now.
    pub fn keeper_is_busy(&self) -> bool {
        self.keeper_wanted.load(Ordering::Acquire) || self.keeper_runs.load(Ordering::Acquire)
    }

    /// Lets the recorder look again soon.
    pub fn look_again(&self, milliseconds: u32) {
        self.wants_tick.store(true, Ordering::Release);
        self.shared.wish(milliseconds);
    }

    /// Lets the keeper look again later.
    pub fn keep_later(&self, milliseconds: u32) {
        let at = now() + ticks(milliseconds);
        self.keeper_at.store(at.max(1), Ordering::Release);
        self.look_again(milliseconds.saturating_add(10));
    }

    /// Whether the keeper wanted to look again by now. Once.
    pub fn keeper_is_due(&self) -> bool {
        let at = self.keeper_at.load(Ordering::Acquire);
        if at == 0 {
            return false;
        }
        let due = at <= now();
        if due {
            self.keeper_at.store(0, Ordering::Release);
        } else {
            self.look_again(LOOK_MS);
        }
        due
    }

    /// Takes in what was read of a disk of this set that is not active, and makes the set anew of
    /// all there is.
    #[inline(never)]
    pub fn gather(&self, image: DiskImage) -> Checked {
        let mut inner = self.lock();
        if inner.active || inner.gone {
            return Ok(());
        }
        inner.forget_image(Dev(image.facts.key));
        inner.images.push(image, GFP_KERNEL)?;
        inner.reassemble(self.format);
        let wait = self.shared.options.start_timeout_ms;
        inner.deadline = Some(now() + ticks(wait));
        inner.tried = false;
        self.shared.wish(wait.saturating_add(10));
        match (&inner.metadata, &inner.why) {
            (None, Some(why)) => Err(*why),
            _ => Ok(()),
        }
    }

    /// Forgets a disk of this set that is not active. True when nothing is left of the set.
    #[inline(never)]
    pub fn scatter(&self, dev: Dev) -> bool {
        let mut inner = self.lock();
        if inner.active || !inner.forget_image(dev) {
            return false;
        }
        inner.reassemble(self.format);
        if inner.images.is_empty() {
            inner.gone = true;
        }
        inner.gone
    }

    /// Gives the disks up when no array runs. Called with `change` held, and not the inner lock.
    #[inline(never)]
    pub fn release_if_idle(&self) {
        let released = {
            let mut inner = self.lock();
            if !inner.active || inner.any_running() {
                return;
            }
            inner.active = false;
            inner.returned = Returned::new();
            inner.told_gone = DiskMask::EMPTY;
            inner.hold_remains = DiskMask::EMPTY;
            inner.had_good = DiskMask::EMPTY;
            inner.moves.forget();
            inner.told_old = DiskMask::EMPTY;
            inner.early = KVec::new();
            inner.read_images(self.format, &self.id);
            core::mem::replace(&mut inner.devices, KVec::new())
        };
        drop(released);
    }
}

impl Inner {
    /// Forgets what was read of `dev`. False when nothing was.
    pub(super) fn forget_image(&mut self, dev: Dev) -> bool {
        let before = self.images.len();
        self.images.retain(|image| image.facts.key != dev.0);
        self.images.len() != before
    }

    /// Makes the set anew of the images.
    #[inline(never)]
    pub(super) fn reassemble(&mut self, format: &'static dyn Format) {
        let assembled = assemble(format, &self.images);
        match assembled {
            Ok(metadata) => {
                self.metadata = Some(metadata);
                self.why = None;
                if let Err(reason) = self.make_room() {
                    self.metadata = None;
                    self.why = Some(reason);
                }
            }
            Err(reason) => {
                self.metadata = None;
                self.why = Some(reason);
            }
        }
    }

    /// Puts the claimed disks where the metadata has them.
    #[inline(never)]
    pub(super) fn place_claimed(&mut self, devices: &[Arc<BlockDevice>]) -> Checked {
        self.devices.clear();
        self.make_room()?;
        if let Some(metadata) = &self.metadata {
            self.moves.begin(metadata.set())?;
        }
        for device in devices {
            let index = self
                .known()?
                .disk_by_key(device.dev().0)
                .filter(|&index| usize::from(index) < self.devices.len());
            // A disk that the freshest metadata does not know is not ours to keep.
            if let Some(index) = index {
                self.put_device(index, device.clone())?;
            }
        }
        Ok(())
    }

    /// Reads the metadata of all claimed disks, for the time when they are not claimed any more.
    #[inline(never)]
    fn read_images(&mut self, format: &'static dyn Format, id: &Identity) {
        self.images.clear();
        let Self {
            devices,
            images,
            io,
            ..
        } = self;
        for device in devices.iter().flatten() {
            // A disk that cannot be read, or left the set, is none that is here.
            if let Ok(image) = reread(format, id, device, io.as_mut()) {
                let _ = images.push(image, GFP_KERNEL);
            }
        }
    }

    /// Reads the metadata of the set's disks, of which those that cannot be read are left out, and of `others`.
    #[inline(never)]
    pub(super) fn read_all(
        &mut self,
        set: &ManagedSet,
        others: &[Arc<BlockDevice>],
    ) -> Checked<KVec<DiskImage>> {
        let mut images = KVec::new();
        let Self { devices, io, .. } = self;
        for device in devices.iter().flatten() {
            if let Ok(image) = reread(set.format, &set.id, device, io.as_mut()) {
                images.push(image, GFP_KERNEL)?;
            }
        }
        for device in others {
            let image = reread(set.format, &set.id, device, io.as_mut())?;
            images.push(image, GFP_KERNEL)?;
        }
        Ok(images)
    }

    /// Refuses a claimed disk whose metadata is not of the set any more, or cannot be read.
    pub(super) fn check_own(&mut self, set: &ManagedSet, device: &BlockDevice) -> Checked {
        reread(set.format, &set.id, device, self.io.as_mut()).map(drop)
    }

    /// Whether all members that may be expected are here.
    pub fn is_complete(&self) -> bool {
        self.model().is_some_and(is_complete)
    }
}

/// Reads a claimed disk's metadata again; it still has to be of this set.
#[inline(never)]
pub(super) fn reread(
    format: &'static dyn Format,
    id: &Identity,
    device: &BlockDevice,
    io: Pin<&mut SyncIo>,
) -> Checked<DiskImage> {
    match probe::probe_one(format, device, io)? {
        Found::Set {
            id: found, image, ..
        } if found == *id => Ok(image),
        Found::Damaged { reason, .. } => Err(reason),
        _ => Err(reason!(
            EAGAIN,
            "disk {} changed while it was looked at: scan again",
            device.dev()
        )),
    }
}

/// Makes a set of one image: all other disks are missing in it.
#[inline(never)]
pub fn assemble_one(
    format: &'static dyn Format,
    image: &DiskImage,
) -> Checked<KBox<dyn crate::metadata::MetadataSet>> {
    format.assemble(&[image])
}

/// Makes a set of images.
#[inline(never)]
pub fn assemble(
    format: &'static dyn Format,
    images: &KVec<DiskImage>,
) -> Checked<KBox<dyn crate::metadata::MetadataSet>> {
    if images.is_empty() {
        return Err(reason!(ENODEV, "no disk of the set is here"));
    }
    let mut all = KVec::with_capacity(images.len(), GFP_KERNEL)?;
    for image in images.iter() {
        all.push(image, GFP_KERNEL)?;
    }
    format.assemble(&all)
}

fn is_complete(set: &Set) -> bool {
    set.live_volumes().all(|(_, volume)| {
        volume.members.iter().all(|member| {
            let Some(disk) = member.disk.and_then(|disk| set.disk(disk)) else {
                return true;
            };
            // What is recorded as failed is not waited for.
            disk.facts.is_some()
                || disk.state == DiskState::Failed
                || member.state == MemberState::Failed
        })
    })
}
