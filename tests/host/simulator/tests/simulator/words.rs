// SPDX-License-Identifier: GPL-2.0

//! The line that replays a failure replays that failure.

use super::{first_failure, of, HISTORIES};
use emd_simulator::history::{Menu, TakesBack, WriteHole};
use emd_simulator::mistake::Mistake;
use emd_simulator::shrink::shrink;
use emd_simulator::sim::run;
use emd_simulator::story;

/// What stands behind `name=` in a line.
fn word(line: &str, name: &str) -> Option<String> {
    let mut words = line.split(' ').filter_map(|word| word.split_once('='));
    let value = words.find(|word| word.0 == name)?.1;
    Some(value.to_string())
}

fn read_back(line: &str) -> Menu {
    Menu::from_words(|name| word(line, name)).expect("words that are known")
}

#[test]
fn each_menu_is_read_back_from_its_words() {
    let all = of("all");
    let closed = Menu::closed();
    let menus = [
        Menu::usual(),
        of("asr"),
        of("md-1.2").with_regions(),
        all.clone().with_bad_ranges(),
        all.clone().with_two_levels(),
        all.clone().with_late_joiners(),
        all.clone().with_tasks(),
        all.clone().with_members(),
        Menu {
            takes_back: Some(TakesBack::Seen),
            ..of("imsm").with_members().with_tasks()
        },
        all.clone().with_regions().with_bad_ranges(),
        closed.clone(),
        Menu {
            formats: of("imsm").formats,
            ..closed.clone()
        },
        Menu {
            metadata_errors: true,
            ..of("md-0.90")
        },
        Menu {
            hole: WriteHole::Closed,
            levels: Vec::new(),
            ..all.with_regions()
        },
    ];
    for menu in menus {
        assert_eq!(read_back(&menu.words()), menu, "{}", menu.words());
    }
    for unknown in [
        "FORMAT=ntfs",
        "KIND=odd",
        "LEVELS=raid7",
        "HOLE=open",
        "TAKE_BACK=3",
    ] {
        assert!(
            Menu::from_words(|name| word(unknown, name)).is_err(),
            "{unknown}"
        );
    }
}

#[test]
fn the_line_under_a_failure_replays_it() {
    for &(format, _) in HISTORIES {
        is_replayed(&of(format));
    }
    is_replayed(&Menu {
        metadata_errors: true,
        ..of("md-1.2").with_regions()
    });
}

fn is_replayed(menu: &Menu) {
    let mistake = Some(Mistake::DirtyAfterWrite);
    let seed = first_failure(menu, 1, 400, mistake).expect("a seed that fails");
    let history = menu.history(seed);
    let violation = run(&history, mistake, false).violation.expect("it fails");
    let small = shrink(&history, mistake);
    let text = story(menu, seed, &history, &violation, &small, mistake);

    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("replay: make simulate "));
    let line = line.expect("a line that says how");
    let seed = word(line, "SEED").and_then(|seed| seed.parse().ok());
    let mistake = word(line, "MISTAKE").and_then(|name| Mistake::by_name(&name));
    let again = read_back(line).history(seed.expect("a seed"));
    let report = run(&again, mistake, false);
    assert_eq!(
        report.violation.map(|violation| violation.text),
        Some(violation.text),
        "{line}"
    );
}
