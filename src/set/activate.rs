// SPDX-License-Identifier: GPL-2.0

//! How the disks of a set become its own: claimed, and read once more. A disk that cannot be had, and that the set does not need, is left
//! out, as one that cannot be read any more is; but not if it is what keeps others from being trusted.

use super::managed::{assemble, claim, reread, ManagedSet};
use super::state::Inner;
use crate::block::bdev::{BlockDevice, Dev};
use crate::metadata::Format;
use crate::model::{Access, Checked, DiskState, Identity, MemberState, Reason};
use crate::reason;
use crate::uapi::EventKind;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How often disks are claimed anew because some came or went meanwhile, those that are left out apart.
const CLAIM_TRIES: u32 = 4;

/// What came of the claimed disks.
enum Taken {
    /// They are the set's.
    All,
    /// Others are here by now.
    NotThose,
    /// The metadata of this one cannot be read any more, or is not of the set.
    Not(Dev, Reason),
}

impl ManagedSet {
    /// Claims all disks of the set that are here, and reads their metadata again: from now on it
    /// is ours. Nothing is claimed on failure.
    ///
    /// Called with `change` held, and not the inner lock: opening and closing a disk takes locks of the kernel.
    #[inline(never)]
    pub fn activate(&self) -> Checked {
        let mut tries = 0;
        while tries < CLAIM_TRIES {
            let Some(here) = self.lock().disks_to_claim()? else {
                return Ok(());
            };
            let mut claimed = KVec::with_capacity(here.len(), GFP_KERNEL)?;
            let mut refused = None;
            for &dev in here.iter() {
                match claim(dev) {
                    Ok(device) => claimed.push(device, GFP_KERNEL)?,
                    Err(reason) => {
                        refused = Some((dev, reason));
                        break;
                    }
                }
            }
            let taken = match refused {
                Some((dev, reason)) if self.lock().can_do_without(dev, &reason) => {
                    Taken::Not(dev, reason)
                }
                Some((_, reason)) => {
                    self.lock().why = Some(reason);
                    return Err(reason);
                }
                None => self.activate_with(&here, &claimed)?,
            };
            match taken {
                Taken::All => return Ok(()),
                Taken::NotThose => tries += 1,
                // There is one less each time.
                Taken::Not(dev, reason) => self.leave_out(dev, reason)?,
            }
        }
        Err(reason!(
            EAGAIN,
            "disks of the set come and go: scan again when they are at rest"
        ))
    }

    /// Goes on without a disk that cannot be had, if others are left, and are trusted no more than beside it. A scan looks at it again.
    fn leave_out(&self, dev: Dev, reason: Reason) -> Checked {
        self.lock().forget_unless_needed(self.format, dev, reason)?;
        self.shared.say(
            EventKind::Note,
            &self.id,
            format_args!("the set goes on without disk {dev}: {reason}"),
        );
        Ok(())
    }

    /// Takes the claimed disks, if they are still those that are here.
    #[inline(never)]
    fn activate_with(&self, here: &[Dev], claimed: &[Arc<BlockDevice>]) -> Checked<Taken> {
        let mut inner = self.lock();
        let unchanged = inner.images.len() == here.len()
            && (inner.images.iter().zip(here)).all(|(image, dev)| image.facts.key == dev.0);
        if !unchanged || inner.active {
            return Ok(Taken::NotThose);
        }
        self.shared.check_awake()?;
        let result = inner.take_claimed(self.format, &self.id, claimed);
        inner.active = matches!(result, Ok(Taken::All));
        match &result {
            Ok(_) => inner.why = None,
            Err(reason) => inner.why = Some(*reason),
        }
        if !inner.active {
            // All are still in `claimed`, so none is closed here.
            inner.devices.clear();
        }
        result
    }
}

impl Inner {
    /// Whether a disk that is in use elsewhere can be left out: by all accounts nothing on it counts, as it is old, failed, or
    /// in no volume. (What the set has of a volume that it cannot make out may be on any disk. One that counts keeps the set down:
    /// who has it may be another driver, with the same array.)
    fn can_do_without(&self, dev: Dev, reason: &Reason) -> bool {
        let Some(set) = self.model().filter(|_| reason.errno() == EBUSY) else {
            return false;
        };
        let is_refused = |access: &Access| matches!(access, Access::Refused(_));
        let mut volumes = set.live_volumes();
        if volumes.any(|(_, volume)| is_refused(&volume.access)) {
            return false;
        }
        let Some(index) = set.disk_by_key(dev.0) else {
            return true;
        };
        let is_old = set
            .disk(index)
            .is_none_or(|disk| disk.state != DiskState::Online);
        let mut places = set.memberships(index);
        is_old
            || places.all(|(_, _, member)| {
                matches!(member.state, MemberState::Failed | MemberState::Missing)
            })
    }

    /// Forgets what was read of a disk that cannot be had: `reason`, and nothing changes, when what is left would be trusted more than
    /// with it, as only that disk tells that the rest is old.
    #[inline(never)]
    fn forget_unless_needed(
        &mut self,
        format: &'static dyn Format,
        dev: Dev,
        reason: Reason,
    ) -> Checked {
        let mut images = self.images.iter();
        let place = images.position(|image| image.facts.key == dev.0);
        let others = self.images.len().saturating_sub(1);
        let Some(image) = place
            .filter(|_| others > 0)
            .and_then(|place| self.images.remove(place).ok())
        else {
            self.why = Some(reason);
            return Err(reason);
        };
        let before = self.metadata.take();
        self.reassemble(format);
        let is_needed = match (&before, &self.metadata) {
            (Some(before), Some(left)) => left.set().trusts_more_than(before.set()),
            _ => true,
        };
        if !is_needed {
            return Ok(());
        }
        // Its place is free still.
        self.images.push(image, GFP_KERNEL)?;
        self.metadata = before;
        self.why = Some(reason);
        Err(reason)
    }

    /// The disks that are here; `None` when they are claimed.
    #[inline(never)]
    fn disks_to_claim(&self) -> Checked<Option<KVec<Dev>>> {
        if self.active {
            return Ok(None);
        }
        let mut here = KVec::with_capacity(self.images.len(), GFP_KERNEL)?;
        for image in self.images.iter() {
            here.push(Dev(image.facts.key), GFP_KERNEL)?;
        }
        Ok(Some(here))
    }

    /// Makes the set anew of what `claimed` disks hold now.
    #[inline(never)]
    fn take_claimed(
        &mut self,
        format: &'static dyn Format,
        id: &Identity,
        claimed: &[Arc<BlockDevice>],
    ) -> Checked<Taken> {
        let mut images = KVec::with_capacity(claimed.len(), GFP_KERNEL)?;
        for device in claimed {
            match reread(format, id, device, self.io.as_mut()) {
                Ok(image) => images.push(image, GFP_KERNEL)?,
                // That says nothing of the disk.
                Err(reason) if reason.errno() == ENOMEM => return Err(reason),
                Err(reason) => return Ok(Taken::Not(device.dev(), reason)),
            }
        }
        // Nothing that could not be read again was lost.
        self.images = images;
        self.metadata = Some(assemble(format, &self.images)?);
        self.place_claimed(claimed)?;
        Ok(Taken::All)
    }
}
