// SPDX-License-Identifier: GPL-2.0

//! Disks that are about to become part of a set: claimed, and looked at for what others have on them.

use super::managed::{assemble, claim};
use super::probe::{self, Found};
use crate::block::bdev::{BlockDevice, Dev};
use crate::block::sync_io::SyncIo;
use crate::metadata::{registry, DiskImage, Format};
use crate::model::{Checked, Identity};
use crate::reason;
use kernel::prelude::*;
use kernel::sync::Arc;

/// A disk that is claimed for a set, and what of other users has to be erased from it.
pub struct Candidate {
    /// The disk.
    pub device: Arc<BlockDevice>,
    old: KVec<DiskImage>,
}

/// What a disk may hold that is about to be used for something else.
#[derive(Clone, Copy)]
pub enum MayHold<'a> {
    /// Nothing that is known.
    Nothing,
    /// What it was as a member of the set with this identity.
    FormerMember(&'a Identity),
    /// Anything: that is what `force` says.
    Anything,
}

impl MayHold<'_> {
    /// For a disk that is new to whoever takes it.
    pub const fn by_force(force: bool) -> Self {
        match force {
            true => Self::Anything,
            false => Self::Nothing,
        }
    }
}

impl Candidate {
    /// Claims a disk and looks at what is on it. Refused when it is in use, and when something known is on it that it may
    /// not hold.
    #[inline(never)]
    pub fn claim(dev: Dev, may_hold: MayHold<'_>, io: Pin<&mut SyncIo>) -> Checked<Self> {
        Self::look_at(claim(dev)?, may_hold, io)
    }

    /// The same for one that is claimed already.
    #[inline(never)]
    pub fn look_at(
        device: Arc<BlockDevice>,
        may_hold: MayHold<'_>,
        mut io: Pin<&mut SyncIo>,
    ) -> Checked<Self> {
        let dev = device.dev();
        if device.size_sectors() < probe::DISK_SECTORS_MIN {
            return Err(reason!(EINVAL, "disk {dev} is too small"));
        }
        let mut old = KVec::new();
        let mut is_own = false;
        for &format in registry::FORMATS {
            match probe::probe_one(format, &device, io.as_mut())? {
                Found::Nothing => {}
                // What was a member begins with what it had of the volume.
                Found::Set { id, image, .. } if matches!(may_hold, MayHold::FormerMember(own) if *own == id) =>
                {
                    is_own = true;
                    old.push(image, GFP_KERNEL)?;
                }
                Found::Set { format, image, .. } | Found::Damaged { format, image, .. } => {
                    if !matches!(may_hold, MayHold::Anything) {
                        return Err(reason!(
                            EEXIST,
                            "disk {dev} carries {} metadata; use it by force",
                            format.name()
                        ));
                    }
                    old.push(image, GFP_KERNEL)?;
                }
            }
        }
        if !is_own && !matches!(may_hold, MayHold::Anything) {
            if let Some(what) = probe::signature(&device, io)? {
                return Err(reason!(EEXIST, "disk {dev} holds {what}; use it by force"));
            }
        }
        Ok(Self { device, old })
    }

    /// Claims a disk that its metadata calls a spare of the set `from`, which lends its spares. Refused
    /// when it is in use, is that spare no more, or when anything else known is on it.
    #[inline(never)]
    pub fn claim_spare(
        dev: Dev,
        format: &'static dyn Format,
        from: &Identity,
        mut io: Pin<&mut SyncIo>,
    ) -> Checked<Self> {
        let device = claim(dev)?;
        let mut old = KVec::new();
        match probe::probe(&device, io.as_mut())? {
            Found::Set {
                format: found,
                id,
                image,
            } if found.name() == format.name() && id == *from => old.push(image, GFP_KERNEL)?,
            _ => return Err(reason!(EBUSY, "disk {dev} is not the spare that it was")),
        }
        if !assemble(format, &old)?.set().lends_spares {
            return Err(reason!(EBUSY, "disk {dev} is not the spare that it was"));
        }
        if let Some(what) = probe::signature(&device, io)? {
            return Err(reason!(EEXIST, "disk {dev} is a spare, and holds {what}"));
        }
        Ok(Self { device, old })
    }

    /// Erases old metadata. From here on the disk is changed.
    #[inline(never)]
    pub fn erase_old(&self, mut io: Pin<&mut SyncIo>) -> Checked {
        for image in self.old.iter() {
            probe::erase(&self.device, image, io.as_mut())?;
        }
        Ok(())
    }
}
