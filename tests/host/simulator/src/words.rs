// SPDX-License-Identifier: GPL-2.0

//! A menu as words: what `make simulate` is told, and what the line that replays a failure says.

use crate::history::{Menu, TakesBack, WriteHole};
use emd_core::model::Level;

/// A kind of histories: its word, whether a menu has it, and how it gets it.
type Kind = (&'static str, fn(&Menu) -> bool, fn(Menu) -> Menu);

const KINDS: &[Kind] = &[
    ("regions", |menu| menu.regions, Menu::with_regions),
    ("bad-ranges", |menu| menu.bad_ranges, Menu::with_bad_ranges),
    ("two-levels", |menu| menu.spans, Menu::with_two_levels),
    (
        "late-joiners",
        |menu| menu.late_joiners,
        Menu::with_late_joiners,
    ),
    ("tasks", |menu| menu.tasks, Menu::with_tasks),
    ("members", |menu| menu.members, Menu::with_members),
];

impl Menu {
    /// The menu that words like `FORMAT=asr KIND=regions` tell of. `word` answers with what stands behind
    /// the `=` of a name.
    ///
    /// # Errors
    ///
    /// A sentence about what nobody knows.
    pub fn from_words(word: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut menu = Self::usual();
        if let Some(formats) = word("FORMAT") {
            menu.formats.clear();
            for format in formats.split(',') {
                let known =
                    Self::of(format).ok_or_else(|| format!("no format is called {format}"))?;
                menu.formats.extend(known.formats);
            }
        }
        for kind in word("KIND").iter().flat_map(|kinds| kinds.split(',')) {
            let known = KINDS.iter().find(|known| known.0 == kind);
            let known = known.ok_or_else(|| format!("no kind is called {kind}"))?;
            menu = known.2(menu);
        }
        if let Some(levels) = word("LEVELS") {
            menu.levels = Vec::new();
            for name in levels.split(',').filter(|&name| name != "all") {
                let level = Level::ALL.iter().find(|level| level.name() == name);
                let level = level.ok_or_else(|| format!("no level is called {name}"))?;
                menu.levels.push(*level);
            }
        }
        match word("HOLE").as_deref() {
            None => {}
            Some("closed") => menu.hole = WriteHole::Closed,
            Some(other) => return Err(format!("HOLE is closed, or left out, not {other}")),
        }
        if let Some(option) = word("TAKE_BACK") {
            let known = TakesBack::by_word(&option);
            let why = || format!("TAKE_BACK is 0, 1 or 2, not {option}");
            menu.takes_back = Some(known.ok_or_else(why)?);
        }
        menu.metadata_errors = word("METADATA_ERRORS").is_some();
        Ok(menu)
    }

    /// The words that make this menu of the usual one, each with a space before it.
    pub fn words(&self) -> String {
        let usual = Self::usual();
        let mut words = Vec::new();
        if self.formats != usual.formats {
            words.push(("FORMAT", self.formats.join(",")));
        }
        let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.1(self)).collect();
        if !kinds.is_empty() {
            let names: Vec<_> = kinds.iter().map(|kind| kind.0).collect();
            words.push(("KIND", names.join(",")));
        }
        let levels = kinds.iter().fold(usual, |menu, kind| kind.2(menu)).levels;
        if self.levels != levels {
            let names: Vec<_> = self.levels.iter().map(|level| level.name()).collect();
            let names = if names.is_empty() {
                "all".to_string()
            } else {
                names.join(",")
            };
            words.push(("LEVELS", names));
        }
        if self.hole == WriteHole::Closed {
            words.push(("HOLE", "closed".to_string()));
        }
        if let Some(option) = self.takes_back {
            words.push(("TAKE_BACK", option.word().to_string()));
        }
        if self.metadata_errors {
            words.push(("METADATA_ERRORS", "1".to_string()));
        }
        let words = words
            .into_iter()
            .map(|(name, value)| format!(" {name}={value}"));
        words.collect()
    }
}
