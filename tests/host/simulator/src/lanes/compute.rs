// SPDX-License-Identifier: GPL-2.0

//! What a lane op works out: `lane_compute.rs`, over tokens.

use super::LaneOp;
use crate::disk::Token;
use crate::parity;
use emd_core::model::Slot;
use emd_core::personalities::lane::{Compute, StepResult};
use emd_core::personalities::{Geometry, Mask};

impl LaneOp {
    fn sum(&self, old: Mask, new: Mask) -> Vec<Token> {
        let mut sum = vec![0; self.run_sectors as usize];
        let olds = old.iter().map(|slot| &self.old[usize::from(slot)]);
        let news = new.iter().map(|slot| &self.new[usize::from(slot)]);
        for block in olds.chain(news) {
            for (into, token) in sum.iter_mut().zip(block) {
                *into ^= token;
            }
        }
        sum
    }

    fn sum_q(&self, geometry: &Geometry, old: Mask, new: Mask) -> Vec<Token> {
        let mut sum = vec![0; self.run_sectors as usize];
        let olds = old.iter().map(|slot| (slot, &self.old[usize::from(slot)]));
        let news = new.iter().map(|slot| (slot, &self.new[usize::from(slot)]));
        for (slot, block) in olds.chain(news) {
            for (into, &token) in sum.iter_mut().zip(block) {
                *into ^= parity::term(geometry, self.stripe, slot, token);
            }
        }
        sum
    }

    fn compute_q(&mut self, geometry: &Geometry, compute: Compute, result: &mut StepResult) {
        let data = geometry.roles(self.stripe).data;
        match compute {
            Compute::Syndromes { p, q, old, new } => {
                let start = |slot: Slot, this: &Self| match old.contains(q) {
                    true => this.old[usize::from(slot)].clone(),
                    false => vec![0; this.run_sectors as usize],
                };
                let olds = old.intersect(data);
                if let Some(p) = p {
                    let sum = add(start(p, self), &self.sum(olds, new));
                    self.new[usize::from(p)] = sum;
                }
                let sum = add(start(q, self), &self.sum_q(geometry, olds, new));
                self.new[usize::from(q)] = sum;
            }
            Compute::ReconstructByQ { slot, q } => {
                let rest = add(
                    self.old[usize::from(q)].clone(),
                    &self.sum_q(geometry, data.without(slot), Mask::EMPTY),
                );
                let exponent = geometry.q_exponent(self.stripe, slot).unwrap_or(0);
                let block = rest.iter().map(|&rest| parity::by_q(rest, exponent));
                self.old[usize::from(slot)] = block.collect();
            }
            Compute::ReconstructTwo { a, b, .. } => {
                let known = geometry.roles(self.stripe).all().without(a).without(b);
                let mut blocks = [Vec::new(), Vec::new()];
                for at in 0..self.run_sectors as usize {
                    let row = (self.old.iter()).map(|block| block.get(at).copied().unwrap_or(0));
                    let row: Vec<Token> = row.collect();
                    let row = parity::derive(geometry, self.stripe, &row, known).unwrap_or(row);
                    blocks[0].push(row[usize::from(a)]);
                    blocks[1].push(row[usize::from(b)]);
                }
                let [first, second] = blocks;
                self.old[usize::from(a)] = first;
                self.old[usize::from(b)] = second;
            }
            Compute::Locate { p, q } => {
                let of = |slot: Slot| {
                    let slot = usize::from(slot);
                    (&self.old[slot][..], &self.new[slot][..])
                };
                result.wrong = parity::locate(geometry, self.stripe, of(p), of(q));
            }
            _ => {}
        }
    }

    pub(super) fn compute(
        &mut self,
        geometry: &Geometry,
        compute: Compute,
        result: &mut StepResult,
    ) {
        match compute {
            Compute::Parity { p, old, new } => self.new[usize::from(p)] = self.sum(old, new),
            Compute::Add { p, q, new } => {
                for parity in p.into_iter().chain(q) {
                    let mut sum = self.new[usize::from(parity)].clone();
                    for slot in new.iter() {
                        for (sum, &token) in sum.iter_mut().zip(&self.new[usize::from(slot)]) {
                            *sum ^= match q == Some(parity) {
                                true => parity::term(geometry, self.stripe, slot, token),
                                false => token,
                            };
                        }
                    }
                    self.new[usize::from(parity)] = sum;
                }
            }
            Compute::Reconstruct { slot, old } => {
                self.old[usize::from(slot)] = self.sum(old, Mask::EMPTY);
            }
            Compute::Restore { slot } => {
                self.new[usize::from(slot)] = self.old[usize::from(slot)].clone();
            }
            Compute::Compare { p } => {
                result.differs = self.old[usize::from(p)] != self.new[usize::from(p)];
            }
            Compute::Copy { from, to } => {
                self.new[usize::from(to)] = self.old[usize::from(from)].clone();
            }
            Compute::Match { a, b } => {
                result.differs = self.old[usize::from(a)] != self.old[usize::from(b)];
            }
            with_q => self.compute_q(geometry, with_q, result),
        }
    }
}

fn add(mut to: Vec<Token>, what: &[Token]) -> Vec<Token> {
    for (to, what) in to.iter_mut().zip(what) {
        *to ^= what;
    }
    to
}
