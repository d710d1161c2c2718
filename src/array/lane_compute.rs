// SPDX-License-Identifier: GPL-2.0

//! What lanes work out in memory: parity, syndromes, what was lost, and comparisons.

use super::lane_buffers::{ensure_new, ensure_old};
use super::lane_op::{Body, NO_ALIAS};
use crate::block::pages::Pages;
use crate::block::parity::{self, Start};
use crate::block::syndrome::{self, Spare};
use crate::model::{Slot, MEMBERS_MAX};
use crate::personalities::lane::{Compute, StepResult};
use crate::personalities::{gf256, Geometry, Mask};

/// Works something out. Process context.
pub(super) fn compute(body: &mut Body, compute: Compute) -> StepResult {
    let len_bytes = body.run_sectors as usize * 512;
    let mut result = StepResult::default();
    match compute {
        Compute::Parity { p, old, new } => parity_of(body, p, old, new, len_bytes),
        Compute::Add { p, q: None, new } => add_to_p(body, p, new, len_bytes),
        Compute::Add { p, q: Some(q), new } => with_spare(body, |body, spare| {
            add_to_both(body, spare, p, q, new, len_bytes);
        }),
        Compute::Reconstruct { slot, old } => into_old(body, slot, |body, dest| {
            xor(body, dest, Start::Zero, old, Mask::EMPTY, len_bytes);
        }),
        Compute::Restore { slot } => set_alias(body, slot, slot),
        Compute::Copy { from, to } => set_alias(body, to, from),
        Compute::Compare { p } => {
            result.differs = differs(old(body, p), new(body, p), len_bytes);
        }
        Compute::Match { a, b } => {
            result.differs = differs(old(body, a), old(body, b), len_bytes);
        }
        Compute::Syndromes { p, q, old, new } => with_spare(body, |body, spare| {
            syndromes(body, spare, p, q, (old, new), len_bytes);
        }),
        Compute::ReconstructByQ { slot, q } => with_spare(body, |body, spare| {
            by_q(body, spare, slot, q, len_bytes);
        }),
        Compute::ReconstructTwo { a, b, p, q } => with_spare(body, |body, spare| {
            two(body, spare, (a, b), (p, q), len_bytes);
        }),
        Compute::Locate { p, q } => result.wrong = locate(body, p, q, len_bytes),
    }
    result
}

/// What the member holds.
fn old(body: &Body, slot: Slot) -> Option<&Pages> {
    body.buffers.get(usize::from(slot))?.old.as_ref()
}

/// What is to be written to the member.
fn new(body: &Body, slot: Slot) -> Option<&Pages> {
    match body.alias.get(usize::from(slot)) {
        Some(&alias) if alias != NO_ALIAS => old(body, Slot::from(alias)),
        _ => body.buffers.get(usize::from(slot))?.new.as_ref(),
    }
}

fn differs(left: Option<&Pages>, right: Option<&Pages>, len_bytes: usize) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => parity::differs(left, right, len_bytes),
        _ => true,
    }
}

fn set_alias(body: &mut Body, to: Slot, from: Slot) {
    if let (Some(room), Ok(from)) = (body.alias.get_mut(usize::from(to)), u8::try_from(from)) {
        *room = from;
    }
}

/// Fills `Old(slot)`.
fn into_old(body: &mut Body, slot: Slot, fill: impl FnOnce(&Body, &mut Pages)) {
    ensure_old(body, slot);
    let at = usize::from(slot);
    let dest = body.buffers.get_mut(at).and_then(|b| b.old.take());
    if let Some(mut dest) = dest {
        fill(body, &mut dest);
        if let Some(buffers) = body.buffers.get_mut(at) {
            buffers.old = Some(dest);
        }
    }
}

/// Takes the buffer in which `New(slot)` will be worked out; what it starts from. With `in_place` the
/// old parity becomes the new one.
fn take_dest(
    body: &mut Body,
    slot: Slot,
    in_place: bool,
    len_bytes: usize,
) -> Option<(Pages, Start)> {
    let buffers = body.buffers.get_mut(usize::from(slot))?;
    if in_place && buffers.new.is_none() {
        return Some((buffers.old.take()?, Start::Destination));
    }
    ensure_new(body, slot);
    let buffers = body.buffers.get_mut(usize::from(slot))?;
    let mut dest = buffers.new.take()?;
    if !in_place {
        return Some((dest, Start::Zero));
    }
    if let Some(old) = buffers.old.as_ref() {
        parity::copy(&mut dest, old, len_bytes);
    }
    Some((dest, Start::Destination))
}

fn put_new(body: &mut Body, slot: Slot, pages: Pages) {
    if let Some(buffers) = body.buffers.get_mut(usize::from(slot)) {
        buffers.new = Some(pages);
    }
}

fn parity_of(body: &mut Body, p: Slot, old: Mask, new: Mask, len_bytes: usize) {
    if let Some((mut dest, start)) = take_dest(body, p, old.contains(p), len_bytes) {
        xor(body, &mut dest, start, old.without(p), new, len_bytes);
        put_new(body, p, dest);
    }
}

/// `New(slot)`, to be added to.
fn take_new(body: &mut Body, slot: Slot) -> Option<Pages> {
    body.buffers.get_mut(usize::from(slot))?.new.take()
}

fn add_to_p(body: &mut Body, p: Option<Slot>, new: Mask, len_bytes: usize) {
    let Some(p) = p else { return };
    if let Some(mut dest) = take_new(body, p) {
        xor(
            body,
            &mut dest,
            Start::Destination,
            Mask::EMPTY,
            new,
            len_bytes,
        );
        put_new(body, p, dest);
    }
}

fn add_to_both(
    body: &mut Body,
    spare: &mut Spare,
    p: Option<Slot>,
    q: Slot,
    news: Mask,
    len_bytes: usize,
) {
    let Some(exponents) = Exponents::of(body) else {
        return;
    };
    let Some(mut q_dest) = take_new(body, q) else {
        return;
    };
    let mut p_dest = p.and_then(|p| take_new(body, p));
    let data = |exponent| {
        let slot = exponents.slot(exponent)?;
        new(body, slot).filter(|_| news.contains(slot))
    };
    syndrome::add(
        exponents.width,
        data,
        Start::Destination,
        p_dest.as_mut(),
        &mut q_dest,
        spare,
        len_bytes,
    );
    put_new(body, q, q_dest);
    if let (Some(p), Some(dest)) = (p, p_dest) {
        put_new(body, p, dest);
    }
}

/// `dest` = (its contents ^) exclusive or of the named buffers.
fn xor(body: &Body, dest: &mut Pages, start: Start, olds: Mask, news: Mask, len_bytes: usize) {
    let olds = olds.iter().filter_map(|slot| old(body, slot));
    let news = news.iter().filter_map(|slot| new(body, slot));
    parity::xor(dest, start, Iterator::chain(olds, news), len_bytes);
}

/// Which member's data each exponent of Q belongs to, in the body's stripe.
struct Exponents {
    slots: [u8; MEMBERS_MAX],
    width: u16,
}

/// No member.
const NOBODY: u8 = u8::MAX;

impl Exponents {
    fn new(geometry: &Geometry, stripe: u64) -> Self {
        let mut slots = [NOBODY; MEMBERS_MAX];
        for slot in geometry.roles(stripe).data.iter() {
            let place = geometry
                .q_exponent(stripe, slot)
                .and_then(|exponent| slots.get_mut(usize::from(exponent)));
            if let (Some(place), Ok(slot)) = (place, u8::try_from(slot)) {
                *place = slot;
            }
        }
        Self {
            slots,
            width: geometry.q_width(),
        }
    }

    fn of(body: &Body) -> Option<Self> {
        let pass = body.array()?;
        Some(Self::new(&pass.geometry, body.stripe))
    }

    fn slot(&self, exponent: u16) -> Option<Slot> {
        let slot = *self.slots.get(usize::from(exponent))?;
        (slot != NOBODY).then_some(Slot::from(slot))
    }

    fn exponent(&self, slot: Slot) -> Option<u16> {
        (0..self.width).find(|&exponent| self.slot(exponent) == Some(slot))
    }
}

/// Calls `work` with the op's spare pages; RAID 6 ops have some.
fn with_spare(body: &mut Body, work: impl FnOnce(&mut Body, &mut Spare)) {
    if let Some(mut spare) = body.spare.take() {
        work(body, &mut spare);
        body.spare = Some(spare);
    }
}

fn syndromes(
    body: &mut Body,
    spare: &mut Spare,
    p: Option<Slot>,
    q: Slot,
    (olds, news): (Mask, Mask),
    len_bytes: usize,
) {
    let Some(exponents) = Exponents::of(body) else {
        return;
    };
    let in_place = olds.contains(q);
    let Some((mut q_dest, start)) = take_dest(body, q, in_place, len_bytes) else {
        return;
    };
    let mut p_dest = p.and_then(|p| take_dest(body, p, in_place, len_bytes));
    let parity = Mask::single(q).union(Mask::option(p));
    let olds = olds.minus(parity);
    // Of those in both, the old contents go out and the new ones come in: what is between them is added, once. Nothing
    // asks for their `Old` again.
    for slot in olds.intersect(news).iter() {
        into_old(body, slot, |body, dest| {
            let new = Mask::single(slot);
            xor(body, dest, Start::Destination, Mask::EMPTY, new, len_bytes);
        });
    }
    let data = |exponent| {
        let slot = exponents.slot(exponent)?;
        if olds.contains(slot) {
            old(body, slot)
        } else {
            new(body, slot).filter(|_| news.contains(slot))
        }
    };
    let p_pages = p_dest.as_mut().map(|(pages, _)| pages);
    let width = exponents.width;
    syndrome::add(width, data, start, p_pages, &mut q_dest, spare, len_bytes);
    put_new(body, q, q_dest);
    if let (Some(p), Some((dest, _))) = (p, p_dest) {
        put_new(body, p, dest);
    }
}

fn by_q(body: &mut Body, spare: &mut Spare, slot: Slot, q: Slot, len_bytes: usize) {
    let Some(exponents) = Exponents::of(body) else {
        return;
    };
    let Some(lost) = exponents.exponent(slot) else {
        return;
    };
    into_old(body, slot, |body, dest| {
        let data = |exponent| old(body, exponents.slot(exponent)?);
        if let Some(q) = old(body, q) {
            syndrome::recover_by_q(exponents.width, data, lost, dest, q, spare, len_bytes);
        }
    });
}

fn two(
    body: &mut Body,
    spare: &mut Spare,
    (a, b): (Slot, Slot),
    (p, q): (Slot, Slot),
    len_bytes: usize,
) {
    let Some(exponents) = Exponents::of(body) else {
        return;
    };
    let (Some(a_exponent), Some(b_exponent)) = (exponents.exponent(a), exponents.exponent(b))
    else {
        return;
    };
    ensure_old(body, b);
    let b_dest = body
        .buffers
        .get_mut(usize::from(b))
        .and_then(|buffers| buffers.old.take());
    let Some(mut b_dest) = b_dest else { return };
    into_old(body, a, |body, a_dest| {
        let data = |exponent| old(body, exponents.slot(exponent)?);
        if let (Some(p), Some(q)) = (old(body, p), old(body, q)) {
            syndrome::recover_two(
                exponents.width,
                data,
                (a_exponent, a_dest),
                (b_exponent, &mut b_dest),
                p,
                q,
                spare,
                len_bytes,
            );
        }
    });
    if let Some(buffers) = body.buffers.get_mut(usize::from(b)) {
        buffers.old = Some(b_dest);
    }
}

/// The one data member whose being wrong explains what is between the parities read and worked out.
fn locate(body: &Body, p: Slot, q: Slot, len_bytes: usize) -> Option<Slot> {
    let exponents = Exponents::of(body)?;
    let exponent = gf256::locate(
        old(body, p)?.as_slice().get(..len_bytes)?,
        new(body, p)?.as_slice().get(..len_bytes)?,
        old(body, q)?.as_slice().get(..len_bytes)?,
        new(body, q)?.as_slice().get(..len_bytes)?,
    )?;
    exponents.slot(u16::from(exponent))
}
