// SPDX-License-Identifier: GPL-2.0

//! The window of a task against a plain list of what is back.

use emd_core::personalities::window::{Window, WINDOW_MAX};
use proptest::prelude::*;

/// What the window should know, kept the plain way.
struct Model {
    lanes: u64,
    first: u64,
    /// Lanes sent: `None` on the way, else whether they came back good.
    sent: Vec<Option<bool>>,
}

impl Model {
    fn base(&self) -> u64 {
        let good = self.sent.iter().take_while(|lane| **lane == Some(true));
        self.first + good.count() as u64
    }

    fn flying(&self) -> Vec<u64> {
        let flying = (0u64..).zip(&self.sent).filter(|(_, lane)| lane.is_none());
        flying.map(|(index, _)| self.first + index).collect()
    }
}

proptest! {
    #[test]
    fn as_a_plain_list(first in 0u64..40, lanes in 0u64..200, steps in prop::collection::vec((0u8..9, any::<u16>(), 1u64..100), 0..600)) {
        let mut window = Window::new(first, lanes);
        let mut model = Model { lanes, first: first.min(lanes), sent: Vec::new() };
        for (what, which, most) in steps {
            let flying = model.flying();
            let before = model.base();
            if what == 8 {
                let next = model.first + model.sent.len() as u64;
                let to = next + u64::from(which) % 8;
                prop_assert_eq!(window.skip_to(to), next == before);
                if next == before {
                    let count = to.min(model.lanes).saturating_sub(next);
                    model.sent.extend((0..count).map(|_| Some(true)));
                }
            } else if what < 4 || flying.is_empty() {
                let next = model.first + model.sent.len() as u64;
                let room = next < model.lanes && next - model.base() < most.min(WINDOW_MAX);
                prop_assert_eq!(window.send(most), room.then_some(next));
                if room {
                    model.sent.push(None);
                    if what == 0 {
                        window.unsend(next);
                        model.sent.pop();
                    }
                }
            } else {
                let lane = flying[usize::from(which) % flying.len()];
                let good = what != 7;
                model.sent[(lane - model.first) as usize] = Some(good);
                prop_assert_eq!(window.back(lane, good), model.base() > before);
                // Once more, or one never sent: nothing changes.
                window.back(lanes + 1, true);
            }
            prop_assert_eq!(window.base(), model.base());
            prop_assert_eq!(window.next(), model.first + model.sent.len() as u64);
            prop_assert_eq!(window.flying(), model.flying().len() as u64);
            prop_assert_eq!(window.has_failed(), model.sent.contains(&Some(false)));
            prop_assert_eq!(window.is_complete(), model.base() == lanes);
            for lane in 0..lanes + 2 {
                let sent = lane.checked_sub(model.first).and_then(|at| model.sent.get(at as usize));
                prop_assert_eq!(window.is_done(lane), sent == Some(&Some(true)));
            }
        }
    }
}

#[test]
fn a_lane_that_failed_is_never_passed() {
    let mut window = Window::new(0, 10);
    for lane in 0..6 {
        assert_eq!(window.send(WINDOW_MAX), Some(lane));
    }
    for lane in [5, 3, 4, 0] {
        window.back(lane, true);
    }
    window.back(2, false);
    window.back(1, true);
    assert_eq!((window.base(), window.flying()), (2, 0));
    assert!(window.has_failed() && !window.is_complete());
}
