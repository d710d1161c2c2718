// SPDX-License-Identifier: GPL-2.0

//! All places of a volume that did not agree: what is said of its set has the first of many, the others come page by page.

use crate::failure::{Failure, Result};
use emd_core::personalities::ranges::PageStart;
use emd_core::uapi::{RangeInfo, VolumeInfo};
use kernel::prelude::{KVec, GFP_KERNEL};

/// `ENOENT`, `ENODEV`: the array was stopped meanwhile; `ENOTTY`: the module is of a version that has no pages.
const ERRNOS_NO_PAGES: [i32; 3] = [2, 19, 25];

/// A page of places.
pub struct Page {
    /// By their first sectors.
    pub ranges: KVec<RangeInfo>,
    /// There were more than are kept.
    pub lost_some: bool,
    /// Where the next page begins.
    pub next: PageStart,
    /// Places that come after this page.
    pub left: u32,
}

/// Adds to the first places of a volume all others, where there are more. `ask` gets a page. Where there are no pages, it is
/// left at the first, and that there are more.
pub fn complete(volume: &mut VolumeInfo, ask: impl FnMut(PageStart) -> Result<Page>) -> Result<()> {
    if !volume.mismatches_lost {
        return Ok(());
    }
    match collect(ask) {
        Ok((all, lost_some)) => {
            volume.mismatches = all;
            volume.mismatches_lost = lost_some;
            Ok(())
        }
        Err(Failure::Refused { errno, .. }) if ERRNOS_NO_PAGES.contains(&errno) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// All pages, and whether there were more places than are kept.
fn collect(mut ask: impl FnMut(PageStart) -> Result<Page>) -> Result<(KVec<RangeInfo>, bool)> {
    let mut all = KVec::new();
    let mut start = PageStart::default();
    loop {
        let page = ask(start)?;
        all.extend_from_slice(&page.ranges, GFP_KERNEL)
            .map_err(|_| Failure::Io("there is no memory for all places".into()))?;
        // A page with nothing on it would come again and again.
        if page.left == 0 || page.ranges.is_empty() {
            return Ok((all, page.lost_some || page.left > 0));
        }
        start = page.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::volume;
    use emd_core::personalities::ranges::{room, Ranges, SyncRange};
    use emd_core::uapi::TaskKind;

    const ENOTTY: i32 = 25;
    const EIO: i32 = 5;

    /// The first sectors of what a volume is said to have.
    fn sectors(volume: &VolumeInfo) -> Vec<u64> {
        let ranges = volume.mismatches.iter();
        ranges.map(|range| range.first_sector).collect()
    }

    /// A volume of which a query says that it has these two, and perhaps more.
    fn queried(is_more: bool) -> VolumeInfo {
        let mut volume = volume(1, TaskKind::Check, 0);
        for first in [0, 16] {
            let range = SyncRange {
                first,
                sectors: 8,
                fixed: None,
            };
            volume.mismatches.push(range.into(), GFP_KERNEL).unwrap();
        }
        volume.mismatches_lost = is_more;
        volume
    }

    /// A kernel that keeps at most `kept` of `found` places, and gives them out in pages of `most`.
    fn pages(
        found: u64,
        kept: usize,
        most: usize,
        asked: &mut usize,
    ) -> impl FnMut(PageStart) -> Result<Page> + '_ {
        let mut ranges = Ranges::new().unwrap();
        drop(ranges.clear_into(room(kept).unwrap()));
        for n in 0..found {
            ranges.add(SyncRange {
                first: 16 * n,
                sectors: 8,
                fixed: None,
            });
        }
        move |start| {
            *asked += 1;
            let mut page = room(most).unwrap();
            let end = ranges.page(start, &mut page);
            Ok(Page {
                ranges: page.into_iter().map(RangeInfo::from).fold(
                    KVec::new(),
                    |mut all, range| {
                        all.push(range, GFP_KERNEL).unwrap();
                        all
                    },
                ),
                lost_some: end.lost_some,
                next: end.next,
                left: u32::try_from(end.left).unwrap(),
            })
        }
    }

    #[test]
    fn all_pages_are_asked_for() {
        for (found, kept, most) in [(3_000, 5_000, 1024), (3_072, 5_000, 1024), (1_000, 700, 7)] {
            let mut asked = 0;
            let mut volume = queried(true);
            complete(&mut volume, pages(found, kept, most, &mut asked)).unwrap();
            let there = found.min(kept as u64);
            let all: Vec<u64> = (0..there).map(|n| 16 * n).collect();
            assert_eq!(sectors(&volume), all);
            assert_eq!(volume.mismatches_lost, found > there);
            assert_eq!(asked, all.len().div_ceil(most));
        }
    }

    #[test]
    fn nothing_is_asked_when_the_first_are_all() {
        let mut volume = queried(false);
        complete(&mut volume, |_| panic!("asked")).unwrap();
        assert_eq!(sectors(&volume), [0, 16]);
    }

    #[test]
    fn without_pages_the_first_are_shown_and_that_there_are_more() {
        let refusal = |errno| {
            move |_| {
                Err(Failure::Refused {
                    errno,
                    reason: "no".into(),
                })
            }
        };
        for errno in ERRNOS_NO_PAGES {
            let mut volume = queried(true);
            complete(&mut volume, refusal(errno)).unwrap();
            assert_eq!(sectors(&volume), [0, 16]);
            assert!(volume.mismatches_lost);
        }
        assert!(ERRNOS_NO_PAGES.contains(&ENOTTY));
        assert!(complete(&mut queried(true), refusal(EIO)).is_err());
    }

    /// The check that found them made way for another one between two pages, or the module gives an empty page.
    #[test]
    fn there_is_an_end_to_it() {
        for (left, is_more) in [(0, false), (9, true)] {
            let mut volume = queried(true);
            let page = |next| {
                Ok(Page {
                    ranges: KVec::new(),
                    lost_some: false,
                    next,
                    left,
                })
            };
            complete(&mut volume, page).unwrap();
            assert_eq!(
                (sectors(&volume).len(), volume.mismatches_lost),
                (0, is_more)
            );
        }
    }
}
