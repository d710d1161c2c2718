// SPDX-License-Identifier: GPL-2.0

//! `monitor`: events as lines, progress bars below them.

use crate::cli::MonitorArgs;
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::progress::{Bars, REFRESH};
use crate::target::{dev_name, show_id};
use emd_core::uapi::{EventKind, EventRecord, TaskKind, VolumeState};
use serde_json::json;
use std::time::{Duration, Instant};

/// Most events that `--once` shows: more than the kernel keeps.
const ONCE_MAX: usize = 1 << 16;

/// `emdadm monitor`
pub fn run(args: &MonitorArgs, json: bool) -> Result<Outcome> {
    let device = Device::open()?;
    if let Some(seq) = args.from {
        device.events_from(seq)?;
    }
    let bars_wanted = !json && Bars::visible();
    let mut bars = Bars::new();
    let patience = args.timeout.map(Duration::from_secs);
    let mut last = Instant::now();
    loop {
        let mut pause = patience.map(|patience| patience.saturating_sub(last.elapsed()));
        if bars_wanted {
            let sets = device.list()?.sets;
            bars.update(sets.iter().flat_map(|set| set.volumes.iter()));
            if sets
                .iter()
                .any(|set| set.volumes.iter().any(|v| v.task.is_some()))
            {
                pause = Some(pause.map_or(REFRESH, |pause| pause.min(REFRESH)));
            }
        }
        let mut events = device.events(pause)?;
        if args.once {
            // One reading has room for some only: all that are there now.
            while !events.is_empty() && events.len() < ONCE_MAX {
                let more = device.events(Some(Duration::ZERO))?;
                if more.is_empty() {
                    break;
                }
                events.extend(more);
            }
        }
        for event in &events {
            // The bars show progress better than lines do.
            if !(bars_wanted && event.kind == EventKind::TaskProgress) {
                match json {
                    true => println!("{}", to_json(event)),
                    false => bars.println(&line(event)),
                }
            }
        }
        if !events.is_empty() {
            last = Instant::now();
            if args.once {
                return Ok(Outcome::Done);
            }
        } else if patience.is_some_and(|patience| last.elapsed() >= patience) {
            return Err(Failure::Timeout("no event came in the time given".into()));
        }
    }
}

/// What `value` means, where a word says it better.
fn value_word(event: &EventRecord) -> Option<&'static str> {
    let code = u16::try_from(event.value).ok()?;
    match event.kind {
        EventKind::StateChanged | EventKind::ArrayStarted => {
            VolumeState::from_code(code).map(VolumeState::word)
        }
        EventKind::TaskStarted => TaskKind::from_code(code).map(TaskKind::word),
        _ => None,
    }
}

fn to_json(event: &EventRecord) -> serde_json::Value {
    json!({
        "seq": event.seq,
        "time_ns": event.time_ns,
        "kind": event.kind.word(),
        "set": Some(show_id(&event.set_id)).filter(|_| event.set_id != [0; 16]),
        "array": event.number.map(|number| format!("/dev/emd{number}")),
        "slot": event.slot,
        "device": event.dev.map(dev_name),
        "value": event.value,
        "word": value_word(event),
        "text": event.text.as_str(),
    })
}

fn line(event: &EventRecord) -> String {
    let seconds = event.time_ns / 1_000_000_000;
    let day = seconds % 86_400;
    let mut line = format!(
        "{:02}:{:02}:{:02} {:6} {}",
        day / 3600,
        day / 60 % 60,
        day % 60,
        event.seq,
        event.kind.word()
    );
    if let Some(number) = event.number {
        line.push_str(&format!(" emd{number}"));
    }
    if let Some(slot) = event.slot {
        line.push_str(&format!(" slot {slot}"));
    }
    if let Some(dev) = event.dev {
        line.push_str(&format!(" {}", dev_name(dev)));
    }
    match (event.kind, value_word(event)) {
        (_, Some(word)) => line.push_str(&format!(" {word}")),
        (EventKind::TaskProgress | EventKind::TaskStopped, None) => {
            line.push_str(&format!(" {}.{}%", event.value / 10, event.value % 10));
        }
        (
            EventKind::ReadError
            | EventKind::WriteError
            | EventKind::ReadRepaired
            | EventKind::Mismatch,
            None,
        ) => line.push_str(&format!(" sector {}", event.value)),
        _ => {}
    }
    if !event.text.is_empty() {
        line.push_str(&format!(": {}", event.text));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use emd_core::uapi::DevNumber;

    #[test]
    fn lines_say_what_happened() {
        let mut event = EventRecord::new(EventKind::StateChanged);
        event.seq = 7;
        event.time_ns = 3_723_000_000_000;
        event.number = Some(3);
        event.value = u64::from(VolumeState::Degraded.code());
        assert_eq!(line(&event), "01:02:03      7 state-changed emd3 degraded");
        event.kind = EventKind::ReadError;
        event.dev = DevNumber::new(4095, 7);
        event.slot = Some(1);
        event.value = 99;
        assert_eq!(
            line(&event),
            "01:02:03      7 read-error emd3 slot 1 4095:7 sector 99"
        );
        assert_eq!(to_json(&event)["kind"], "read-error");
        assert_eq!(to_json(&event)["set"], serde_json::Value::Null);
    }
}
