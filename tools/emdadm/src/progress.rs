// SPDX-License-Identifier: GPL-2.0

//! Progress of tasks: bars on a terminal, lines elsewhere; `wait`.

use crate::cli::WaitArgs;
use crate::device::Device;
use crate::failure::{Failure, Outcome, Result};
use crate::target::find;
use crate::view;
use emd_core::uapi::{SetInfo, Target, TaskState, VolumeInfo};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often progress is asked for while something runs.
pub const REFRESH: Duration = Duration::from_millis(500);

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows that something is at work, and for how long, until it is dropped: on a terminal, else nothing.
pub fn patience(what: &'static str) -> Patience {
    let spinner = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
    spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.set_message(what);
    spinner.enable_steady_tick(REFRESH);
    Patience(spinner)
}

/// See [`patience`].
pub struct Patience(ProgressBar);

impl Drop for Patience {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar for each running task, by the volume's id. Hidden when standard output is no terminal.
pub struct Bars {
    all: MultiProgress,
    bars: HashMap<[u8; 16], ProgressBar>,
}

impl Bars {
    /// No bars yet.
    pub fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            bars: HashMap::new(),
        }
    }

    /// Whether bars can be seen.
    pub fn visible() -> bool {
        std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Prints a line above the bars.
    pub fn println(&self, line: &str) {
        self.all.suspend(|| println!("{line}"));
    }

    /// Shows the tasks of these volumes, and only those.
    pub fn update<'a>(&mut self, volumes: impl Iterator<Item = &'a VolumeInfo>) {
        if !Self::visible() {
            return;
        }
        let mut seen = Vec::new();
        for volume in volumes {
            let Some(task) = &volume.task else { continue };
            seen.push(volume.id);
            let bar = self.bars.entry(volume.id).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(task.total_sectors));
                let style = ProgressStyle::with_template("{prefix:12} {wide_bar} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(view::call(volume));
                bar
            });
            bar.set_length(task.total_sectors);
            bar.set_position(task.done_sectors);
            bar.set_message(view::task_text(task));
        }
        self.bars.retain(|id, bar| {
            let keep = seen.contains(id);
            if !keep {
                bar.finish_and_clear();
            }
            keep
        });
    }
}

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
    let device = Device::open()?;
    let targets: Vec<Target> = args
        .targets
        .iter()
        .map(|text| find(&device, text))
        .collect::<Result<_>>()?;
    let end = args
        .timeout
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let mut bars = Bars::new();
    let mut line_at = Instant::now();
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
            let well = chosen(&sets, &targets).all(view::is_well);
            if json {
                view::print_json(&json!({ "waited": true, "well": well }));
            }
            return Ok(Outcome::Done);
        }
        if !json {
            bars.update(running.iter().copied());
            if !Bars::visible() && Instant::now() >= line_at {
                line_at = Instant::now() + LINE_EVERY;
                for volume in &running {
                    if let Some(task) = &volume.task {
                        println!("{}: {}", view::call(volume), view::task_text(task));
                    }
                }
            }
        }
        let mut pause = REFRESH;
        if let Some(end) = end {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let names: Vec<String> = running.iter().map(|v| view::call(v)).collect();
                return Err(Failure::Timeout(format!(
                    "time ran out while {} still has a task",
                    names.join(", ")
                )));
            }
            pause = pause.min(left);
        }
        // An event may mean the end: look at once then.
        device.events(Some(pause))?;
    }
}
