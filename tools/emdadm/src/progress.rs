// SPDX-License-Identifier: GPL-2.0

//! Progress of tasks: bars on a terminal.

use crate::out::say;
use crate::text;
use emd_core::uapi::VolumeInfo;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

/// How often progress is asked for while something runs.
pub const REFRESH: Duration = Duration::from_millis(500);

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
    shown: bool,
    bars: HashMap<[u8; 16], ProgressBar>,
}

impl Bars {
    /// No bars yet.
    pub fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            shown: Self::visible(),
            bars: HashMap::new(),
        }
    }

    /// Whether bars can be seen.
    pub fn visible() -> bool {
        std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Prints a line above the bars.
    pub fn println(&self, line: &str) {
        self.all.suspend(|| say!("{line}"));
    }

    /// Shows the tasks of these volumes, and only those.
    pub fn update<'a>(&mut self, volumes: impl Iterator<Item = &'a VolumeInfo>) {
        if !self.shown {
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
                bar.set_prefix(text::call(volume));
                bar
            });
            bar.set_length(task.total_sectors);
            bar.set_position(task.done_sectors);
            bar.set_message(text::task_text(task));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::volume;
    use emd_core::uapi::TaskKind;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal in memory: what a person sees.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<Seen>>);

    #[derive(Debug, Default)]
    struct Seen {
        lines: Vec<Vec<char>>,
        row: usize,
        column: usize,
    }

    impl Screen {
        fn change(&self, change: impl FnOnce(&mut Seen)) -> io::Result<()> {
            change(&mut self.0.lock().expect("no panic while it was held"));
            Ok(())
        }

        /// The lines that are not empty, without blanks at their ends.
        fn lines(&self) -> Vec<String> {
            let seen = self.0.lock().expect("no panic while it was held");
            let lines = seen
                .lines
                .iter()
                .map(|line| line.iter().collect::<String>());
            lines
                .map(|line| line.trim_end().to_owned())
                .filter(|line| !line.is_empty())
                .collect()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.change(|seen| seen.row = seen.row.saturating_sub(n))
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.change(|seen| seen.row += n)
        }
        fn move_cursor_right(&self, n: usize) -> io::Result<()> {
            self.change(|seen| seen.column += n)
        }
        fn move_cursor_left(&self, n: usize) -> io::Result<()> {
            self.change(|seen| seen.column = seen.column.saturating_sub(n))
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.write_str("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.change(|seen| {
                for letter in text.chars() {
                    match letter {
                        '\n' => (seen.row, seen.column) = (seen.row + 1, 0),
                        '\r' => seen.column = 0,
                        letter => seen.put(letter),
                    }
                }
            })
        }
        fn clear_line(&self) -> io::Result<()> {
            self.change(|seen| {
                seen.column = 0;
                if let Some(line) = seen.lines.get_mut(seen.row) {
                    line.clear();
                }
            })
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        fn put(&mut self, letter: char) {
            // A terminal goes on in the next line.
            if self.column == 80 {
                (self.row, self.column) = (self.row + 1, 0);
            }
            let rows = self.lines.len().max(self.row + 1);
            self.lines.resize(rows, Vec::new());
            let line = &mut self.lines[self.row];
            line.resize(line.len().max(self.column + 1), ' ');
            line[self.column] = letter;
            self.column += 1;
        }
    }

    /// How much of the bar in `line` is filled, in percent of its length.
    fn filled(line: &str) -> usize {
        let (full, empty) = ('\u{2588}', '\u{2591}');
        let count = |letter| line.chars().filter(|&other| other == letter).count();
        count(full) * 100 / (count(full) + count(empty)).max(1)
    }

    #[test]
    fn bars_show_each_task_until_it_ends() {
        let screen = Screen::default();
        let mut bars = Bars::new();
        bars.shown = true;
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        bars.all.set_draw_target(target);

        let mut one = volume(1, TaskKind::Rebuild, 500);
        let mut two = volume(2, TaskKind::Check, 1000);
        bars.update([&one, &two].into_iter());
        let lines = screen.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].starts_with("/dev/emd1 "), "{lines:#?}");
        assert!(lines[0].ends_with(" rebuild 25.0%, 1024 KiB/s, 1:05 left"));
        assert!(lines[1].starts_with("/dev/emd2 "), "{lines:#?}");
        assert!(lines[1].ends_with(" check 50.0%, 1024 KiB/s, 1:05 left"));
        assert!(filled(&lines[0]) < filled(&lines[1]), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80));

        // It grows in its place; the one whose task has ended goes.
        let before = filled(&lines[0]);
        one.task.as_mut().expect("a task").done_sectors = 1900;
        two.task = None;
        bars.update([&one, &two].into_iter());
        let lines = screen.lines();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("/dev/emd1 "), "{lines:#?}");
        assert!(lines[0].contains("rebuild 95.0%"), "{lines:#?}");
        assert!(filled(&lines[0]) > before + 50, "{lines:#?}");

        bars.update(std::iter::empty());
        assert_eq!(screen.lines(), Vec::<String>::new());
    }

    #[test]
    fn without_a_terminal_there_are_no_bars() {
        let screen = Screen::default();
        let mut bars = Bars::new();
        bars.shown = false;
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        bars.all.set_draw_target(target);
        bars.update([&volume(1, TaskKind::Rebuild, 500)].into_iter());
        assert_eq!(screen.lines(), Vec::<String>::new());
    }
}
