// SPDX-License-Identifier: GPL-2.0

//! `examine`: what image files and disks carry, by the kernel's own code, without the kernel.

use crate::cli::ExamineArgs;
use crate::failure::{Failure, Outcome, Result};
use crate::out::say;
use crate::text;
use crate::view::{self, SetView};
use emd_core::metadata::{
    registry, DiskImage, Extent, Format, Probe, Region, PROBE_BYTES_MAX, PROBE_ROUNDS_MAX,
};
use emd_core::model::{Checked, DiskFacts, Identity, Text};
use emd_core::uapi::{DevNumber, SetInfo};
use kernel::prelude::{KVVec, KVec, GFP_KERNEL};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A file or device that is looked at.
struct Source<'a> {
    path: &'a Path,
    file: File,
    /// A block device once more, past its page cache, which knows nothing of what a running set writes.
    direct: Option<File>,
    facts: DiskFacts,
}

/// Something that people should know of one source, or of a set.
struct Problem {
    source: Option<usize>,
    format: &'static str,
    text: String,
}

/// What was found on one source.
struct Finding {
    source: usize,
    format: &'static dyn Format,
    set: Identity,
    image: DiskImage,
}

/// `emdadm examine`
pub fn run(args: &ExamineArgs, json: bool) -> Result<Outcome> {
    let mut sources = Vec::new();
    for argument in &args.paths {
        let (path, serial) = split(argument);
        sources.push(open(path, serial, sources.len() as u64, args.sector_size)?);
    }
    let mut problems = Vec::new();
    let mut findings = Vec::new();
    for (nth, source) in sources.iter().enumerate() {
        for &format in registry::FORMATS {
            look(source, nth, format, &mut findings, &mut problems);
        }
    }
    let (sets, in_doubt) = assemble(&mut findings, &sources, &mut problems);
    let name = |dev: DevNumber| {
        let source = sources.get((dev.minor() as usize).wrapping_sub(1));
        source.map_or_else(String::new, |source| source.path.display().to_string())
    };
    let bare: Vec<&Source<'_>> = (0..)
        .zip(&sources)
        .filter(|(nth, _)| {
            findings.iter().all(|finding| finding.source != *nth)
                && problems.iter().all(|problem| problem.source != Some(*nth))
        })
        .map(|(_, source)| source)
        .collect();
    let found = Found {
        sets: &sets,
        in_doubt: &in_doubt,
        problems: &problems,
        bare: &bare,
        sources: &sources,
        name: &name,
    };
    if !json {
        found.print();
    }
    if findings.is_empty() && problems.is_empty() {
        return Err(Failure::NothingFound {
            text: "no RAID metadata was found of any format that EMD knows".into(),
            report: found.to_json(),
        });
    }
    if json {
        view::print_json(&found.to_json());
    }
    let well = problems.is_empty() && sets.iter().all(view::all_is_well);
    match args.check && !well {
        true => Ok(Outcome::NotAllWell),
        false => Ok(Outcome::Done),
    }
}

/// `FILE=SERIAL`, where there is no file of that whole name.
fn split(argument: &Path) -> (&Path, Option<&str>) {
    let parts = argument.to_str().and_then(|text| text.rsplit_once('='));
    match parts {
        Some((path, serial)) if !argument.exists() => (Path::new(path), Some(serial)),
        _ => (argument, None),
    }
}

fn open<'a>(path: &'a Path, told: Option<&str>, key: u64, sector_size: u32) -> Result<Source<'a>> {
    let shown = path.display();
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotThere(format!("there is no {shown}")),
        std::io::ErrorKind::PermissionDenied => Failure::Io(format!(
            "{shown} cannot be opened: you may not read it; try again with sudo"
        )),
        _ => Failure::Io(format!("{shown} cannot be opened: {error}")),
    })?;
    let fail = |error| Failure::Io(format!("{shown} cannot be looked at: {error}"));
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Failure::Usage(format!(
            "{shown} is neither a file nor a block device"
        )));
    }
    let bytes = file.seek(SeekFrom::End(0)).map_err(fail)?;
    let direct = kind.is_block_device().then(|| open_direct(path)).flatten();
    let sysfs = kind.is_block_device().then(|| {
        let dev = metadata.rdev();
        format!(
            "/sys/dev/block/{}:{}",
            rustix::fs::major(dev),
            rustix::fs::minor(dev)
        )
    });
    let attribute = |name: &str| {
        let text = std::fs::read_to_string(format!("{}/{name}", sysfs.as_ref()?)).ok()?;
        Some(text.trim().to_owned())
    };
    let block = attribute("queue/logical_block_size").and_then(|text| text.parse().ok());
    let serial = told
        .map(str::to_owned)
        .or_else(|| attribute("device/serial"))
        .or_else(|| attribute("serial"))
        .or_else(|| scsi_serial(sysfs.as_ref()?));
    Ok(Source {
        path,
        file,
        direct,
        facts: DiskFacts {
            key,
            size_sectors: bytes / 512,
            logical_block_bytes: block.unwrap_or(sector_size),
            serial: tail(&serial.unwrap_or_default()),
        },
    })
}

/// The text of the SCSI page 0x80, behind its header of 4 bytes.
fn scsi_serial(sysfs: &str) -> Option<String> {
    let page = std::fs::read(format!("{sysfs}/device/vpd_pg80")).ok()?;
    let text = String::from_utf8(page.get(4..)?.to_vec()).ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned())
}

/// What the kernel takes of a serial number: the last bytes.
fn tail(serial: &str) -> Text<24> {
    let first = serial.len().saturating_sub(24);
    Text::from_text(serial.get(first..).unwrap_or_default())
}

/// Lets one format look at one source: reads what it asks for until it has made up its mind.
fn look(
    source: &Source<'_>,
    nth: usize,
    format: &'static dyn Format,
    findings: &mut Vec<Finding>,
    problems: &mut Vec<Problem>,
) {
    let mut image = DiskImage {
        facts: source.facts,
        extents: KVec::new(),
    };
    let mut problem = |text: String| {
        problems.push(Problem {
            source: Some(nth),
            format: format.name(),
            text,
        });
    };
    let mut bytes_left = PROBE_BYTES_MAX;
    for _ in 0..=PROBE_ROUNDS_MAX {
        match format.probe(&image) {
            Probe::NotMine => return,
            Probe::Damaged(reason) => return problem(reason.text().to_owned()),
            Probe::Found { set, .. } => {
                findings.push(Finding {
                    source: nth,
                    format,
                    set,
                    image,
                });
                return;
            }
            Probe::Read(region) => match read(source, &region, &mut bytes_left) {
                // The stand-in's allocations do not fail.
                Ok(bytes) => drop(image.extents.push(Extent { region, bytes }, GFP_KERNEL)),
                Err(text) => return problem(text),
            },
        }
    }
    problem("probing takes more rounds of reading than is allowed".into());
}

/// Reads a region: `Ok(None)` when the disk could not, `Err` when it must not be tried.
fn read(
    source: &Source<'_>,
    region: &Region,
    bytes_left: &mut usize,
) -> std::result::Result<Option<KVVec<u8>>, String> {
    let end = region.sector.checked_add(region.len_sectors.into());
    if region.len_sectors == 0 || end.is_none_or(|end| end > source.facts.size_sectors) {
        return Err(format!(
            "probing wants {} sectors at {}, beyond the end",
            region.len_sectors, region.sector
        ));
    }
    let len = region.len_sectors as usize * 512;
    *bytes_left = bytes_left
        .checked_sub(len)
        .ok_or("probing wants to read more than is allowed")?;
    let mut bytes = KVVec::from_elem(0u8, len, GFP_KERNEL).map_err(|_| "out of memory")?;
    let at = region.sector * 512;
    let direct = source.direct.as_ref();
    let done = match direct.map(|file| read_direct(file, source, &mut bytes, at)) {
        // Some devices take no such reads, or not at such places.
        None => source.file.read_exact_at(&mut bytes, at),
        Some(Err(error)) if error.kind() == ErrorKind::InvalidInput => {
            source.file.read_exact_at(&mut bytes, at)
        }
        Some(done) => done,
    };
    Ok(done.is_ok().then_some(bytes))
}

/// Opens a block device for reading past its page cache; not everything can be read so.
fn open_direct(path: &Path) -> Option<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags).open(path).ok()
}

/// Memory for direct reads begins at a multiple of this; no device asks for more.
const ALIGNMENT: usize = 4096;

/// Fills `bytes` from byte `at` on: reads the whole blocks that they are in.
fn read_direct(file: &File, source: &Source<'_>, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    let block = u64::from(source.facts.logical_block_bytes.max(512));
    let first = at / block * block;
    let end = (at + bytes.len() as u64).next_multiple_of(block);
    let len = usize::try_from(end - first).map_err(|_| ErrorKind::InvalidInput)?;
    let mut room = vec![0u8; len + ALIGNMENT];
    let start = room.as_ptr().align_offset(ALIGNMENT);
    let room = room
        .get_mut(start..start.saturating_add(len))
        .ok_or(ErrorKind::InvalidInput)?;
    file.read_exact_at(room, first)?;
    let skip = usize::try_from(at - first).map_err(|_| ErrorKind::InvalidInput)?;
    let wanted = room
        .get(skip..skip + bytes.len())
        .ok_or(ErrorKind::InvalidInput)?;
    bytes.copy_from_slice(wanted);
    Ok(())
}

/// Makes sets of what was found, and says of each whether it is not known which disks of it are here.
fn assemble(
    findings: &mut [Finding],
    sources: &[Source<'_>],
    problems: &mut Vec<Problem>,
) -> (Vec<SetInfo>, Vec<bool>) {
    let mut sets = Vec::new();
    let mut in_doubt = Vec::new();
    let mut done: Vec<(&str, Identity)> = Vec::new();
    for first in 0..findings.len() {
        let (format, id) = (findings[first].format, findings[first].set);
        if done.contains(&(format.name(), id)) {
            continue;
        }
        done.push((format.name(), id));
        let mut own: Vec<&mut Finding> = findings
            .iter_mut()
            .filter(|other| other.format.name() == format.name() && other.set == id)
            .collect();
        let source = own[0].source;
        let presumption = presume(format, &mut own, sources);
        let images: Vec<&DiskImage> = own.iter().map(|finding| &finding.image).collect();
        // Keys are places in the list; a made-up device number carries them to the view.
        let dev = |key: u64| DevNumber::new(0, u32::try_from(key).ok()?.checked_add(1)?);
        let made = presumption.and_then(|presumption| {
            let set = format.assemble(&images)?;
            Ok((SetInfo::from_model(set.set(), &dev)?, presumption))
        });
        let problem = |text: String| Problem {
            source: Some(source),
            format: format.name(),
            text,
        };
        match made {
            Ok((mut set, presumption)) => {
                for &nth in &presumption.alike {
                    forget(&mut set, dev(nth as u64));
                }
                if let Some(note) = presumption.note {
                    // The stand-in's allocations do not fail.
                    let _ = set.notes.push(note, GFP_KERNEL);
                }
                in_doubt.push(presumption.doubt.is_some());
                problems.extend(presumption.doubt.map(problem));
                sets.push(set);
            }
            Err(reason) => problems.push(problem(reason.text().to_owned())),
        }
    }
    (sets, in_doubt)
}

/// What is said of files without serial numbers, in formats that go by them.
#[derive(Default)]
struct Presumption {
    /// Sources that are disks of the set, though which is which is not known.
    alike: Vec<usize>,
    /// The same in words.
    note: Option<Text<200>>,
    /// Why not all is known of the set.
    doubt: Option<String>,
}

/// Lets the format say which disks those may be whose serial numbers are not known, and takes them for those.
fn presume(
    format: &dyn Format,
    own: &mut [&mut Finding],
    sources: &[Source<'_>],
) -> Checked<Presumption> {
    if own
        .iter()
        .all(|finding| !finding.image.facts.serial.is_empty())
    {
        return Ok(Presumption::default());
    }
    let images: Vec<&DiskImage> = own.iter().map(|finding| &finding.image).collect();
    let presumed = format.presume(&images)?;
    let mut presumption = Presumption::default();
    let shown = |nth: usize| {
        let source = sources.get(nth);
        source.map_or_else(String::new, |source| source.path.display().to_string())
    };
    for ((finding, serial), alike) in own.iter_mut().zip(&presumed.serials).zip(&presumed.alike) {
        if !serial.is_empty() {
            finding.image.facts.serial = *serial;
        }
        if *alike {
            presumption.alike.push(finding.source);
        }
    }
    if !presumption.alike.is_empty() {
        let text =
            "which of some files is which disk is not known, as files have no serial numbers; \
                    to tell them: FILE=SERIAL";
        presumption.note = Some(Text::from_text(text));
    }
    let unknown: Vec<String> = own
        .iter()
        .filter(|finding| finding.image.facts.serial.is_empty())
        .map(|finding| shown(finding.source))
        .collect();
    if !unknown.is_empty() && !presumed.left.is_empty() {
        let left: Vec<&str> = presumed.left.iter().map(Text::as_str).collect();
        presumption.doubt = Some(format!(
            "which disk of the set this is is not known, nor the state of the set: files have no serial numbers; \
             say FILE=SERIAL for {}; those left are: {}",
            unknown.join(", "),
            left.join(", ")
        ));
    }
    Ok(presumption)
}

/// Takes a device out of what is shown of a set: it is not known which disk it is.
fn forget(set: &mut SetInfo, dev: Option<DevNumber>) {
    for disk in set.disks.iter_mut().filter(|disk| disk.dev == dev) {
        disk.dev = None;
    }
    let members = set
        .volumes
        .iter_mut()
        .flat_map(|volume| volume.members.iter_mut());
    for member in members.filter(|member| member.dev == dev) {
        member.dev = None;
    }
}

/// All that is said at the end.
struct Found<'a> {
    sets: &'a [SetInfo],
    in_doubt: &'a [bool],
    problems: &'a [Problem],
    /// Without metadata.
    bare: &'a [&'a Source<'a>],
    sources: &'a [Source<'a>],
    name: view::Namer<'a>,
}

impl Found<'_> {
    fn path(&self, source: Option<usize>) -> Option<String> {
        let source = source.and_then(|nth| self.sources.get(nth));
        source.map(|source| source.path.display().to_string())
    }

    fn to_json(&self) -> serde_json::Value {
        let sets: Vec<_> = self
            .sets
            .iter()
            .zip(self.in_doubt)
            .map(|(set, &in_doubt)| SetView::new(set, self.name, in_doubt))
            .collect();
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|problem| {
                json!({
                    "device": self.path(problem.source),
                    "format": problem.format,
                    "text": problem.text,
                })
            })
            .collect();
        let bare: Vec<_> = self.bare.iter().map(|source| source.path).collect();
        json!({ "sets": sets, "problems": problems, "without_metadata": bare })
    }

    fn print(&self) {
        for (nth, (set, &in_doubt)) in self.sets.iter().zip(self.in_doubt).enumerate() {
            if nth != 0 {
                say!();
            }
            text::print_set(set, self.name, in_doubt);
        }
        for problem in self.problems {
            let path = self.path(problem.source).unwrap_or_default();
            say!("{path}: {}: {}", problem.format, problem.text);
        }
        for source in self.bare {
            say!("{}: no RAID metadata", source.path.display());
        }
    }
}
