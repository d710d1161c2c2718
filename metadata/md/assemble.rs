// SPDX-License-Identifier: GPL-2.0

//! From the disks of an array to a set: which superblock counts, and what may be done with the set. What each
//! disk is, is in `standing`; the model's disks are in `read_disks`, its volume in `read_volume`.

use super::super::DiskImage;
use super::head::Head;
use super::layout::*;
use super::probe::{examine, identity, Exam, View};
use super::set::{MdSet, Touched};
use super::standing::Standing;
use crate::model::alloc::boxed;
use crate::model::{
    note, Access, Checked, CrashPolicy, Identity, Member, MemberState, Reason, Set, Text,
    UpdatePlan, DISKS_MAX,
};
use crate::reason;
use kernel::prelude::*;

/// The name of a disk: its number is all that the other disks know of it.
pub fn label_of(number: u32) -> Text<32> {
    Text::from_fmt(format_args!("device {number}"))
}

/// The identity of a volume.
pub fn volume_identity(uuid: &[u8; 16]) -> Identity {
    let mut bytes = [0u8; 17];
    let _ = super::super::bytes::put(&mut bytes, 0, uuid);
    Identity::new(&bytes)
}

/// An empty set.
#[inline(never)]
pub fn empty_set(head: &Head, name: [u8; 32]) -> Checked<KBox<MdSet>> {
    boxed(MdSet {
        set: Set {
            format: head.version.name(),
            id: identity(&head.uuid),
            name: Text::from_disk(&name),
            generation: head.events,
            lends_spares: false,
            disks: KVec::new(),
            volumes: KVec::new(),
            bad_ranges: KVec::new(),
            notes: KVec::new(),
        },
        plan: UpdatePlan::new(),
        version: head.version,
        head: *head,
        name,
        in_flight: false,
        frozen: None,
        left_log: false,
        row_sectors: 0,
        log_head: KVVec::from_elem(0, super::left_log::HEAD_BYTES, GFP_KERNEL)?,
        bitmap: None,
        zeros: KVVec::from_elem(0, SUPER_BYTES, GFP_KERNEL)?,
        disks: KVec::new(),
        touched: Touched::default(),
        lacks_spare: false,
        owes_events: None,
    })
}

/// What assembly works on.
pub(super) struct Reader<'a> {
    pub(super) views: KVec<View<'a>>,
    /// The disk of each view.
    pub(super) standings: KVec<Standing>,
    pub(super) newest: usize,
    pub(super) set: KBox<MdSet>,
    pub(super) verdict: Verdict,
}

/// What speaks against using an array.
#[derive(Clone, Copy, Default)]
pub(super) struct Verdict {
    /// It is not used at all, because …
    pub(super) refused: Option<Reason>,
    /// It is only read, because …
    pub(super) read_only: Option<Reason>,
    /// It has a partial parity log.
    pub(super) has_log: bool,
}

/// [`crate::metadata::Format::assemble`].
pub fn assemble(version: Version, images: &[&DiskImage]) -> Checked<KBox<MdSet>> {
    let mut reader = start(version, images)?;
    reader.judge()?;
    reader.list_disks()?;
    reader.list_missing()?;
    let shape = reader.shape();
    match shape {
        Ok(shape) => reader.make_volume(&shape)?,
        Err(why) => {
            reader.verdict.refused = Some(why);
            reader.make_unknown_volume()?;
        }
    }
    reader.read_logs()?;
    reader.read_bitmap()?;
    reader.finish()
}

#[inline(never)]
fn start<'a>(version: Version, images: &[&'a DiskImage]) -> Checked<Reader<'a>> {
    if images.len() > DISKS_MAX {
        return Err(reason!(
            E2BIG,
            "{} disks are more than {DISKS_MAX}",
            images.len()
        ));
    }
    let mut views: KVec<View<'a>> = KVec::with_capacity(images.len(), GFP_KERNEL)?;
    let mut notes = KVec::new();
    let mut why = None;
    for image in images {
        if let Some(reason) = take(version, image, &mut views)? {
            note(
                &mut notes,
                format_args!("a disk is left out: {}", reason.text()),
            )?;
            why = Some(reason);
        }
    }
    // Disks that were used apart may have as many events: the one that was written last counts then.
    let key = |view: &View<'_>| {
        let own = view.head.role(view.bytes, view.head.number);
        let updated = match version {
            Version::V090 => u64::from(get32(view.bytes, v0::UTIME)),
            _ => get64(view.bytes, v1::UTIME) & v1::SECONDS,
        };
        (view.head.events, matches!(own, Role::Member(_)), updated)
    };
    let mut newest = 0;
    for index in 1..views.len() {
        if let (Some(one), Some(other)) = (views.get(index), views.get(newest)) {
            if key(one) > key(other) {
                newest = index;
            }
        }
    }
    let Some(first) = views.get(newest) else {
        return Err(why.unwrap_or_else(|| {
            reason!(ENODEV, "no disk carries an {} superblock", version.name())
        }));
    };
    if views.iter().any(|view| view.head.uuid != first.head.uuid) {
        return Err(reason!(EINVAL, "the disks belong to different md arrays"));
    }
    let name = super::super::bytes::array(first.bytes, v1::NAME)
        .filter(|_| version != Version::V090)
        .unwrap_or([0; 32]);
    let mut set = empty_set(&first.head, name)?;
    set.set.notes = notes;
    Ok(Reader {
        views,
        standings: KVec::new(),
        newest,
        set,
        verdict: Verdict::default(),
    })
}

#[inline(never)]
fn take<'a>(
    version: Version,
    image: &'a DiskImage,
    views: &mut KVec<View<'a>>,
) -> Checked<Option<Reason>> {
    match examine(version, image) {
        Exam::Found(view) => {
            views.push(view, GFP_KERNEL)?;
            Ok(None)
        }
        Exam::Damaged(reason) => Ok(Some(reason)),
        Exam::NotMine | Exam::Read(_) => Ok(Some(reason!(
            ENODEV,
            "it carries no {} superblock",
            version.name()
        ))),
    }
}

impl Verdict {
    /// What features speak against.
    fn of(features: u32, level: i32) -> Self {
        let has = |bits: u32| features & bits != 0;
        let refused = if has(!feature::KNOWN) {
            Some(reason!(
                EOPNOTSUPP,
                "the md superblock has unknown features {:#x}",
                features & !feature::KNOWN
            ))
        } else if has(feature::RESHAPE | feature::RESHAPE_BACK | feature::NEW_OFFSET) {
            Some(reason!(
                EOPNOTSUPP,
                "a reshape is under way: let md finish it"
            ))
        } else if has(feature::JOURNAL) {
            Some(reason!(
                EOPNOTSUPP,
                "the array has a journal, which may hold data: take it off with mdadm"
            ))
        } else if has(feature::CLUSTERED) {
            Some(reason!(
                EOPNOTSUPP,
                "the bitmap is a cluster's: another node may be writing"
            ))
        } else {
            None
        };
        let has_log = has(feature::LOGS);
        // md has it with RAID 5 and without a bitmap only.
        let makes_sense = level == 5 && !has(feature::BITMAP);
        let read_only = (has_log && !makes_sense).then(|| {
            reason!(
                EROFS,
                "a partial parity log, where md has none: take it off with mdadm"
            )
        });
        Self {
            refused,
            read_only,
            has_log,
        }
    }

    /// Adds what the features of a superblock speak against. Of those that are older than the newest one, with `events`,
    /// a log does not count: it was taken off, and that update was cut.
    pub(super) fn add(&mut self, head: &Head, events: u64) {
        let gone = match head.events < events {
            true => feature::LOGS,
            false => 0,
        };
        let more = Self::of(head.features & !gone, head.level);
        self.refused = self.refused.or(more.refused);
        self.read_only = self.read_only.or(more.read_only);
        self.has_log |= more.has_log;
    }
}

impl Reader<'_> {
    pub(super) fn note(&mut self, args: core::fmt::Arguments<'_>) -> Checked {
        note(&mut self.set.set.notes, args)
    }

    pub(super) fn head(&self) -> Head {
        self.set.head
    }

    #[inline(never)]
    fn finish(mut self) -> Checked<KBox<MdSet>> {
        let Verdict {
            refused,
            mut read_only,
            has_log,
        } = self.verdict;
        self.set.left_log = has_log && refused.is_none() && read_only.is_none();
        if self.set.left_log {
            read_only = self.set.take_log();
            self.set.fill_log_head();
        }
        let access = match (refused, read_only) {
            (Some(why), _) => Access::Refused(why),
            (None, Some(why)) => Access::ReadOnly(why),
            (None, None) => Access::ReadWrite,
        };
        self.set.frozen = refused.or(read_only);
        let policy = match has_log {
            true => CrashPolicy::Log,
            false => CrashPolicy::Resync,
        };
        if let Some(volume) = self.set.array_mut() {
            volume.access = access;
            volume.crash_policy = policy;
        }
        // The update that took it out may have been cut. That there was one is all that is known of it.
        let is_old = self.set.version == Version::V090;
        let is_away = |member: &Member| match member.state {
            MemberState::Failed | MemberState::Missing => true,
            // 0.90 has nobody in that place, so whoever had it before may have been taken out by that very update.
            MemberState::Rebuilding { .. } => is_old,
            MemberState::InSync => false,
        };
        let volume = self.set.array();
        if volume.is_some_and(|volume| volume.members.iter().any(is_away)) {
            let members = self.views.iter().zip(self.standings.iter());
            let events = members
                .filter(|(_, standing)| matches!(standing, Standing::Member(_)))
                .map(|(view, _)| view.head.events);
            let most = match self.set.roles_changed().lost {
                true => u64::MAX,
                false => events.min().unwrap_or(u64::MAX),
            };
            self.set.owes_events = Some(most);
        }
        self.set.reserve_plan()?;
        Ok(self.set)
    }
}
