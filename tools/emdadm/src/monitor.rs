// SPDX-License-Identifier: GPL-2.0

//! `monitor`: events as lines, progress bars below them.

use crate::cli::MonitorArgs;
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::out::{self, say};
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
                    true => say!("{}", to_json(event)),
                    false => bars.println(&line(event)),
                }
            }
        }
        if out::is_closed() {
            return Ok(Outcome::Done);
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
        "part": event.is_part,
        "text": event.text.as_str(),
    })
}

/// Nanoseconds since 1970 as RFC 3339 has them, to the second, in UTC: `2026-11-28T10:55:00Z`.
fn time(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        days + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn line(event: &EventRecord) -> String {
    let mut line = format!(
        "{} {:6} {}",
        time(event.time_ns),
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
        (EventKind::ReadError | EventKind::WriteError | EventKind::ReadRepaired, None) => {
            line.push_str(&format!(" sector {} of the member", event.value))
        }
        (EventKind::Mismatch, None) => line.push_str(&format!(" sector {}", event.value)),
        (EventKind::TaskDone, None) if event.is_part => line.push_str(" (the rest of it)"),
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

    /// As `date -u -d @SECONDS` has them.
    #[test]
    fn times_have_date_and_zone() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000_000), text);
        }
        // The largest there is.
        assert_eq!(time(u64::MAX), "2554-07-21T23:34:33Z");
    }

    #[test]
    fn lines_say_what_happened() {
        let mut event = EventRecord::new(EventKind::StateChanged);
        event.seq = 7;
        event.time_ns = 3_723_000_000_000;
        event.number = Some(3);
        event.value = u64::from(VolumeState::Degraded.code());
        assert_eq!(
            line(&event),
            "1970-01-01T01:02:03Z      7 state-changed emd3 degraded"
        );
        event.kind = EventKind::ReadError;
        event.dev = DevNumber::new(4095, 7);
        event.slot = Some(1);
        event.value = 99;
        assert_eq!(
            line(&event),
            "1970-01-01T01:02:03Z      7 read-error emd3 slot 1 4095:7 sector 99 of the member"
        );
        assert_eq!(to_json(&event)["kind"], "read-error");
        assert_eq!(to_json(&event)["set"], serde_json::Value::Null);
    }
}
