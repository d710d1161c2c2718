// SPDX-License-Identifier: GPL-2.0

//! `wait`: until no task runs, and what came of those that ended.

use crate::cli::WaitArgs;
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::out::say;
use crate::progress::{Bars, REFRESH};
use crate::target::find;
use crate::text;
use crate::view;
use emd_core::uapi::{EventKind, EventRecord, SetInfo, Target, TaskKind, TaskState, VolumeInfo};
use serde_json::{json, Value};
use std::time::{Duration, Instant};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The volumes that `targets` name; all when there are none.
fn chosen<'a>(
    sets: &'a [SetInfo],
    targets: &'a [Target],
) -> impl Iterator<Item = &'a VolumeInfo> + 'a {
    sets.iter().flat_map(move |set| {
        set.volumes.iter().filter(move |volume| {
            targets.is_empty()
                || targets.iter().any(|target| match target {
                    Target::Number(number) => volume.number == Some(*number),
                    Target::Array(id) => volume.id == *id,
                    Target::Set(id) => set.id == *id,
                    Target::All => true,
                })
        })
    })
}

/// `emdadm wait`
pub fn wait(args: &WaitArgs, json: bool) -> Result<Outcome> {
    wait_on(&Device::open()?, args, json.then(|| json!({})))
}

/// Waits for the tasks of what `args` name, and says what came of those that ended since `device` was opened. `report` is
/// the object that this is said in, with what else is to be in it; without one it is said in text.
pub fn wait_on(device: &Device, args: &WaitArgs, report: Option<Value>) -> Result<Outcome> {
    let json = report.is_some();
    let targets: Vec<Target> = args
        .targets
        .iter()
        .map(|text| find(device, text))
        .collect::<Result<_>>()?;
    let end = args
        .timeout
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let mut bars = Bars::new();
    let mut line_at = Instant::now();
    let mut ends = Ends::default();
    loop {
        let sets = device.list()?.sets;
        for target in &targets {
            if chosen(&sets, std::slice::from_ref(target)).next().is_none()
                && !matches!(target, Target::Set(id) if sets.iter().any(|set| set.id == *id))
            {
                return Err(Failure::NotThere(
                    "the array is not there (any more); see: emdadm list".into(),
                ));
            }
        }
        // A task that somebody paused would be waited for in vain.
        let running: Vec<&VolumeInfo> = chosen(&sets, &targets)
            .filter(|volume| {
                let task = volume.task.as_ref();
                task.is_some_and(|task| task.state != TaskState::Paused)
            })
            .collect();
        if running.is_empty() {
            drop(bars);
            loop {
                let events = device.events(Some(Duration::ZERO))?;
                if events.is_empty() {
                    break;
                }
                ends.note(&events);
            }
            let volumes: Vec<_> = chosen(&sets, &targets).collect();
            let ends = ends.of(&volumes);
            tell(&volumes, &ends, report);
            return Ok(match args.check {
                true => verdict(&volumes, &ends),
                false => Outcome::Done,
            });
        }
        if !json {
            bars.update(running.iter().copied());
            if !Bars::visible() && Instant::now() >= line_at {
                line_at = Instant::now() + LINE_EVERY;
                for volume in &running {
                    if let Some(task) = &volume.task {
                        say!("{}: {}", text::call(volume), text::task_text(task));
                    }
                }
            }
        }
        let mut pause = REFRESH;
        if let Some(end) = end {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let names: Vec<String> = running.iter().map(|v| text::call(v)).collect();
                return Err(Failure::Timeout(format!(
                    "time ran out while {} still has a task",
                    names.join(", ")
                )));
            }
            pause = pause.min(left);
        }
        // An event may mean the end: look at once then.
        ends.note(&device.events(Some(pause))?);
    }
}

/// How tasks ended.
#[derive(Default)]
struct Ends(Vec<End>);

struct End {
    number: u32,
    kind: String,
    how: How,
}

enum How {
    /// `is_part`: since it went on from a mark.
    Done {
        mismatch_sectors: u64,
        is_part: bool,
    },
    Stopped {
        per_mille: u64,
    },
}

impl Ends {
    /// Takes note of tasks that ended.
    fn note(&mut self, events: &[EventRecord]) {
        for event in events {
            let how = match event.kind {
                EventKind::TaskDone => How::Done {
                    mismatch_sectors: event.value,
                    is_part: event.is_part,
                },
                EventKind::TaskStopped => How::Stopped {
                    per_mille: event.value,
                },
                _ => continue,
            };
            let Some(number) = event.number else { continue };
            // Who is stopped goes on: the last end is the one that counts.
            let kind = event.text.to_string();
            self.0
                .retain(|end| (end.number, &end.kind) != (number, &kind));
            self.0.push(End { number, kind, how });
        }
    }

    /// Those of tasks of these volumes.
    fn of(&self, volumes: &[&VolumeInfo]) -> Vec<&End> {
        let is_of = |end: &&End| volumes.iter().any(|v| v.number == Some(end.number));
        self.0.iter().filter(is_of).collect()
    }
}

/// What a check is said to have gone over that went on after a restart.
const PART: &str = "from where it went on";
/// What is not known then.
const BEFORE: &str = "what it found before that is not known any more: check again to know";

impl End {
    /// Whether it leaves things as they should be. What a repair found it put right; of a check that went on nobody knows
    /// what it found before.
    fn is_fine(&self) -> bool {
        match self.how {
            How::Done {
                mismatch_sectors,
                is_part,
            } => mismatch_sectors == 0 && !is_part || self.kind != TaskKind::Check.word(),
            How::Stopped { .. } => false,
        }
    }

    fn line(&self) -> String {
        let Self { number, kind, how } = self;
        let what = match how {
            How::Done {
                mismatch_sectors: 0,
                is_part,
            } if kind == TaskKind::Check.word() => match is_part {
                false => "done, all agrees".into(),
                true => format!("done, {PART}, all agrees; {BEFORE}"),
            },
            How::Done {
                mismatch_sectors: 0,
                ..
            } => "done".into(),
            How::Done {
                mismatch_sectors,
                is_part,
            } => {
                let (part, before) = match is_part {
                    false => (String::new(), String::new()),
                    true => (format!(" {PART},"), format!("; {BEFORE}")),
                };
                format!(
                    "done,{part} {mismatch_sectors} sectors did not agree; see: emdadm show --mismatches emd{number}{before}"
                )
            }
            How::Stopped { per_mille } => {
                format!("stopped at {}.{}%", per_mille / 10, per_mille % 10)
            }
        };
        format!("/dev/emd{number}: {kind} {what}")
    }

    fn to_json(&self) -> Value {
        let (ended, mismatch_sectors, part) = match self.how {
            How::Done {
                mismatch_sectors,
                is_part,
            } => ("done", Some(mismatch_sectors), is_part),
            How::Stopped { .. } => ("stopped", None, false),
        };
        json!({
            "device": format!("/dev/emd{}", self.number),
            "kind": self.kind,
            "ended": ended,
            "mismatch_sectors": mismatch_sectors,
            "part": part,
        })
    }
}

/// Says how the tasks of `volumes` ended, and how these are now.
fn tell(volumes: &[&VolumeInfo], ends: &[&End], report: Option<Value>) {
    if let Some(mut report) = report {
        let ends: Vec<_> = ends.iter().map(|end| end.to_json()).collect();
        report["waited"] = true.into();
        report["well"] = volumes.iter().all(|volume| view::is_well(volume)).into();
        report["ended"] = ends.into();
        return view::print_json(&report);
    }
    for end in ends {
        say!("{}", end.line());
    }
    for volume in volumes {
        if let Some(task) = &volume.task {
            say!("{}: {}", text::call(volume), text::task_text(task));
        }
        if !view::is_well(volume) {
            say!("{}: {}", text::call(volume), text::state_text(volume));
        }
    }
}

/// What `--check` makes of it.
fn verdict(volumes: &[&VolumeInfo], ends: &[&End]) -> Outcome {
    // A task that is left is held.
    let is_over = |volume: &&VolumeInfo| volume.task.is_none() && view::is_well(volume);
    match volumes.iter().all(is_over) && ends.iter().all(|end| end.is_fine()) {
        true => Outcome::Done,
        false => Outcome::NotAllWell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use emd_core::model::Text;
    use emd_core::uapi::VolumeState;

    fn end(kind: EventKind, number: u32, task: TaskKind, value: u64) -> EventRecord {
        let mut event = EventRecord::new(kind);
        event.number = Some(number);
        event.value = value;
        event.text = Text::from_text(task.word());
        event
    }

    fn ends(events: &[EventRecord]) -> Ends {
        let mut ends = Ends::default();
        ends.note(events);
        ends
    }

    /// What `--check` says of `/dev/emd1`, which is well, after these events.
    fn judged(events: &[EventRecord]) -> Outcome {
        let mut volume = sample::volume(1, TaskKind::Check, 0);
        (volume.state, volume.task) = (VolumeState::Optimal, None);
        let volumes = [&volume];
        verdict(&volumes, &ends(events).of(&volumes))
    }

    #[test]
    fn a_check_that_found_something_is_not_well() {
        use EventKind::{TaskDone, TaskStopped};
        use TaskKind::{Check, Rebuild, Repair};
        let part = |task, value| EventRecord {
            is_part: true,
            ..end(TaskDone, 1, task, value)
        };
        let cases: [(&[EventRecord], Outcome); 11] = [
            (&[], Outcome::Done),
            (&[end(TaskDone, 1, Check, 0)], Outcome::Done),
            (&[end(TaskDone, 1, Check, 8)], Outcome::NotAllWell),
            (&[end(TaskStopped, 1, Check, 8)], Outcome::NotAllWell),
            // It put that right.
            (&[end(TaskDone, 1, Repair, 8)], Outcome::Done),
            // Nobody knows what it found before it went on.
            (&[part(Check, 0)], Outcome::NotAllWell),
            (&[part(Repair, 0)], Outcome::Done),
            (&[part(Check, 0), end(TaskDone, 1, Check, 0)], Outcome::Done),
            // Another array.
            (&[end(TaskDone, 2, Check, 8)], Outcome::Done),
            // It went on.
            (
                &[
                    end(TaskStopped, 1, Rebuild, 8),
                    end(TaskDone, 1, Rebuild, 0),
                ],
                Outcome::Done,
            ),
            // A rebuild does not hide what a check found.
            (
                &[end(TaskDone, 1, Check, 8), end(TaskDone, 1, Rebuild, 0)],
                Outcome::NotAllWell,
            ),
        ];
        for (nth, (events, outcome)) in cases.into_iter().enumerate() {
            assert_eq!(judged(events), outcome, "case {nth}");
        }
    }

    #[test]
    fn what_is_degraded_or_held_is_not_well() {
        let mut volume = sample::volume(1, TaskKind::Check, 0);
        volume.task = None;
        assert_eq!(verdict(&[&volume], &[]), Outcome::NotAllWell, "degraded");
        volume.state = VolumeState::Optimal;
        assert_eq!(verdict(&[&volume], &[]), Outcome::Done);
        volume.task = sample::volume(1, TaskKind::Check, 0).task;
        assert_eq!(verdict(&[&volume], &[]), Outcome::NotAllWell, "held");
    }

    #[test]
    fn lines_say_what_came_of_it() {
        let all = ends(&[
            end(EventKind::TaskDone, 1, TaskKind::Check, 0),
            end(EventKind::TaskDone, 2, TaskKind::Check, 16),
            end(EventKind::TaskDone, 3, TaskKind::Rebuild, 0),
            end(EventKind::TaskStopped, 4, TaskKind::Repair, 123),
            EventRecord {
                is_part: true,
                ..end(EventKind::TaskDone, 5, TaskKind::Check, 0)
            },
            EventRecord {
                is_part: true,
                ..end(EventKind::TaskDone, 6, TaskKind::Check, 16)
            },
        ]);
        let lines: Vec<_> = all.0.iter().map(End::line).collect();
        let wanted = [
            "/dev/emd1: check done, all agrees",
            "/dev/emd2: check done, 16 sectors did not agree; see: emdadm show --mismatches emd2",
            "/dev/emd3: rebuild done",
            "/dev/emd4: repair stopped at 12.3%",
            "/dev/emd5: check done, from where it went on, all agrees; what it found before that is not known any more: check again to know",
            "/dev/emd6: check done, from where it went on, 16 sectors did not agree; see: emdadm show --mismatches emd6; what it found before that is not known any more: check again to know",
        ];
        assert_eq!(lines, wanted);
        assert_eq!(all.0[1].to_json()["mismatch_sectors"], 16);
        assert_eq!(all.0[3].to_json()["ended"], "stopped");
        assert_eq!(all.0[0].to_json()["part"], false);
        assert_eq!(all.0[4].to_json()["part"], true);
    }
}
