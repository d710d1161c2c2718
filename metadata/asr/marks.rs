// SPDX-License-Identifier: GPL-2.0

//! Marks: what all tables that count say of how far things got, and of writes that may have been in flight. The most careful one
//! holds.

use super::assemble::{Candidate, Reader};
use super::layout::*;
use super::table::Table;
use crate::model::DiskState;

impl Reader<'_> {
    /// Tables of the generation in use that EMD wrote, on disks that count. Where just spares have that, it is an update that was
    /// cut: members may have gone on with what they had, and marks keep the number, so the tables of members count as well.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Table> + '_ {
        let sequence = self.candidates.get(self.base).map(|one| one.sequence);
        let is_newest = move |one: &Candidate<'_>| Some(one.sequence) == sequence;
        let mut counting = self.candidates.iter().filter(|one| self.counts(one));
        let is_cut = !counting.any(|one| is_newest(one) && self.is_member(one));
        self.candidates
            .iter()
            .filter(move |one| {
                self.counts(one) && (is_newest(one) || is_cut && self.is_member(one))
            })
            .map(|one| &one.table)
    }

    /// Whether EMD wrote a table, and it is on a disk that counts.
    fn counts(&self, one: &Candidate<'_>) -> bool {
        let model = one.disk.and_then(|disk| self.set.set.disk(disk));
        one.is_sound && model.is_some_and(|model| model.state == DiskState::Online)
    }

    /// Whether a disk holds data by the table in use.
    fn is_member(&self, one: &Candidate<'_>) -> bool {
        let table = &self.set.table;
        let line = table.disk(one.found.magic());
        line.and_then(|index| table.line(index))
            .is_some_and(|line| line.is_member())
    }

    /// How far the rebuild of a disk got. Others may count in other units: only EMD's own mark is
    /// believed, and the least of all copies.
    pub(super) fn rebuilt(&self, magic: u32) -> u64 {
        self.mark(&|table| table.disk(magic))
    }

    fn mark(&self, find: &dyn Fn(&Table) -> Option<usize>) -> u64 {
        if !self.sealed {
            return 0;
        }
        let least = self
            .peers()
            .filter_map(|table| {
                let line = table.line(find(table)?)?;
                Some(if table.is_sealed() { line.progress } else { 0 })
            })
            .min();
        least.map_or(0, u64::from)
    }

    /// How far the first build of a volume got, when it is not through: as any disk has it.
    pub(super) fn building(&self, top: usize, line: &Line) -> Option<u64> {
        let magic = line.magic;
        let place = |table: &Table| {
            let top = table.volume_line(magic);
            top.filter(|&top| is_unbuilt(table, top))
        };
        let as_peers = || self.peers().any(|table| place(table).is_some());
        let unbuilt = is_unbuilt(&self.set.table, top) || as_peers();
        unbuilt.then(|| self.mark(&place))
    }

    /// Whether a volume may have had writes in flight: as any disk has it.
    pub(super) fn is_dirty(&self, magic: u32) -> bool {
        self.peers().any(|table| {
            let head = table.head();
            if get8(head, header::DIRTY) == header::CLEAN {
                return false;
            }
            let which = get32(head, header::DIRTY_VOLUMES);
            let mut volumes = (0u32..).zip(table.volumes());
            let order = volumes.find(|(_, (_, line))| line.magic == magic);
            // Whoever else marked the table dirty did not say which of its arrays it meant.
            !table.is_sealed()
                || which == 0
                || order.is_some_and(|(order, _)| which.checked_shr(order).unwrap_or(1) & 1 != 0)
        })
    }
}

/// Whether the first build of the volume at line `top` is not through.
fn is_unbuilt(table: &Table, top: usize) -> bool {
    let range = table.volume(top);
    table.lines().any(|(index, line)| {
        let member = line.is_member() && line.state == state::BUILDING;
        let array = matches!(line.kind, kind::ARRAY | kind::DUAL)
            && (line.state & state::BUILDING != 0
                || matches!(
                    line.state & 0x0F,
                    state::UNCONFIGURED | state::UNINITIALISED
                ));
        range.contains(&index) && (member || array)
    })
}
