// SPDX-License-Identifier: GPL-2.0

//! A log that another driver left: what its entries come to. Like EMD's it has partial parity, the sum of what a write
//! leaves alone, on the member with the stripe's parity; but it names what was *written*, by sectors of the volume.
//!
//! With a sum of less than a chunk: the same columns, as many as the sum has, of one chunk or of several that
//! follow one another; their number is data by sum. Without a sum: of all chunks. With a sum of a whole
//! chunk: one stretch of the volume, whose columns may go round (the sum has all columns of the chunk, from the
//! stretch's first one on). That is how the kernel's md reads them; it writes the first two kinds.

use super::replay::{Stretch, SumAt};
use super::SECTORS_MAX;
use crate::model::LoggedWrite;
use crate::personalities::{Geometry, Kind, Mask};
use kernel::prelude::*;

/// Adds what is to be mended because of `write` to `stretches`. False, and nothing is added, when it does not
/// fit the volume. Allocates.
pub fn stretches(
    geometry: &Geometry,
    write: &LoggedWrite,
    stretches: &mut KVVec<Stretch>,
) -> Result<bool> {
    let before = stretches.len();
    let is_right = match Columns::of(geometry, write) {
        Some(columns) => columns.add(geometry, write, stretches)?,
        None => false,
    };
    if !is_right {
        stretches.truncate(before);
    }
    Ok(is_right)
}

/// The columns of a write.
struct Columns {
    /// Data chunks from the first on that it may have written.
    chunks: u64,
    /// Columns, from the first sector's on; they may go round to the start of the next chunk.
    sectors: u64,
    /// The sector behind the last one that was written.
    end: u64,
}

impl Columns {
    fn of(geometry: &Geometry, write: &LoggedWrite) -> Option<Self> {
        let chunk = u64::from(geometry.chunk_sectors());
        let data = u64::from(geometry.data_members());
        let (written, sum) = (u64::from(write.data_sectors), u64::from(write.sum_sectors));
        if geometry.kind() != Kind::Parity || chunk == 0 || sum > chunk || written == 0 {
            return None;
        }
        if sum == chunk {
            return Some(Self {
                chunks: data,
                sectors: chunk,
                end: write.first_sector.checked_add(written)?,
            });
        }
        let (chunks, sectors) = match sum {
            0 => (data, written.checked_div(data)?),
            _ => (written.checked_div(sum)?, sum),
        };
        let fits = (1..=data).contains(&chunks)
            && (1..=chunk).contains(&sectors)
            && chunks.checked_mul(sectors) == Some(written);
        let last = write
            .first_sector
            .checked_add((chunks.checked_sub(1)?).checked_mul(chunk)?)?;
        fits.then_some(Self {
            chunks,
            sectors,
            end: last.checked_add(sectors)?,
        })
    }

    fn add(
        &self,
        geometry: &Geometry,
        write: &LoggedWrite,
        stretches: &mut KVVec<Stretch>,
    ) -> Result<bool> {
        if self.end > geometry.size_sectors() {
            return Ok(false);
        }
        let chunk = u64::from(geometry.chunk_sectors());
        let mut done = 0;
        while done < self.sectors {
            let first = write.first_sector.saturating_add(done);
            if first >= self.end {
                // A sum of a whole chunk, of which not all columns were written.
                break;
            }
            // As far as the columns do not go round and the same chunks were written.
            let round = chunk - first.checked_rem(chunk).unwrap_or(0);
            let same = match (self.end - first).checked_rem(chunk) {
                None | Some(0) => chunk,
                Some(rest) => rest,
            };
            let sectors = round
                .min(same)
                .min(self.sectors - done)
                .min(u64::from(SECTORS_MAX));
            let Some(stretch) = self.stretch(geometry, write, done, sectors) else {
                return Ok(false);
            };
            stretches.push(stretch, GFP_KERNEL)?;
            done += sectors;
        }
        Ok(true)
    }

    /// What was written `skip` columns behind the first one, and `sectors` long.
    fn stretch(
        &self,
        geometry: &Geometry,
        write: &LoggedWrite,
        skip: u64,
        sectors: u64,
    ) -> Option<Stretch> {
        let chunk = u64::from(geometry.chunk_sectors());
        let first = write.first_sector.checked_add(skip)?;
        let stripe = geometry.locate(first).stripe;
        let roles = geometry.roles(stripe);
        let mut written = Mask::EMPTY;
        for index in 0..self.chunks {
            let sector = first.checked_add(index.checked_mul(chunk)?)?;
            if sector >= self.end {
                break;
            }
            let place = geometry.locate(sector);
            if place.stripe != stripe {
                return None;
            }
            written = written.with(place.slot);
        }
        let left_alone = roles.data.minus(written);
        let has_sum = write.sum_sectors > 0;
        // Only what has its parity, and nothing but that, on the member whose log this is.
        let is_right = roles.parity() == Mask::single(write.slot)
            && written.is_within(roles.data)
            && (has_sum || left_alone.is_empty());
        is_right.then_some(Stretch {
            stripe,
            column: u32::try_from(first.checked_rem(chunk)?).ok()?,
            sectors: u32::try_from(sectors).ok()?,
            covers: left_alone,
            p: has_sum.then_some(SumAt {
                slot: write.slot,
                start_sectors: write.sum_start,
                skip_sectors: u32::try_from(skip).ok()?,
            }),
            q: None,
        })
    }
}
