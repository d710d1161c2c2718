// SPDX-License-Identifier: GPL-2.0

//! From what people type to devices, arrays and sets, and back.

use crate::device::Device;
use crate::failure::{Failure, Result};
use emd_core::uapi::{DevNumber, SetInfo, Target};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The number of the block device at `path`.
pub fn dev_number(path: &Path) -> Result<DevNumber> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotThere(format!("there is no {shown}")),
        _ => Failure::Io(format!("{shown} cannot be looked at: {error}")),
    })?;
    let kind = metadata.file_type();
    if kind.is_file() {
        return Err(Failure::Usage(format!(
            "{shown} is a file, not a disk; give it a loop device first (losetup -f --show {shown}), or look at it with: emdadm examine {shown}"
        )));
    }
    if !kind.is_block_device() {
        return Err(Failure::Usage(format!("{shown} is not a block device")));
    }
    let dev = metadata.rdev();
    DevNumber::new(rustix::fs::major(dev), rustix::fs::minor(dev))
        .ok_or_else(|| Failure::Usage(format!("{shown} has no usable device number")))
}

/// The numbers of several.
pub fn dev_numbers(paths: &[impl AsRef<Path>]) -> Result<Vec<DevNumber>> {
    paths.iter().map(|path| dev_number(path.as_ref())).collect()
}

/// What a block device is called: `/dev/sda`, or its number when nobody knows.
pub fn dev_name(dev: DevNumber) -> String {
    let link = format!("/sys/dev/block/{dev}");
    std::fs::read_link(link)
        .ok()
        .and_then(|path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .map_or_else(
            || dev.to_string(),
            |name| format!("/dev/{}", name.replace('!', "/")),
        )
}

/// An id as it is shown: 8-4-4-4-12 hexadecimal digits.
pub fn show_id(id: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (nth, byte) in id.iter().enumerate() {
        if matches!(nth, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// An id as it is typed: 32 hexadecimal digits, dashes and colons left out.
pub fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => (high << 4) | low,
            _ => 0,
        })
        .collect();
    if digits.len() != 32 {
        return None;
    }
    bytes.try_into().ok()
}

/// An array's number in `emd0`, `/dev/emd0`.
fn parse_number(text: &str) -> Option<u32> {
    text.strip_prefix("/dev/")
        .unwrap_or(text)
        .strip_prefix("emd")?
        .parse()
        .ok()
}

/// What `text` names: an array by device, or either by id or by name.
pub fn find(device: &Device, text: &str) -> Result<Target> {
    if let Some(number) = parse_number(text) {
        return Ok(Target::Number(number));
    }
    choose(&device.list()?.sets, text)
}

/// What `text`, an id or a name, names of `sets`. A set and its only volume may have the same name, as md's have: the
/// array is meant then.
fn choose(sets: &[SetInfo], text: &str) -> Result<Target> {
    let id = parse_id(text);
    let mut found = Vec::new();
    let mut lone_volumes = Vec::new();
    for set in sets {
        if id == Some(set.id) || (id.is_none() && set.name.as_str() == text) {
            found.push((Target::Set(set.id), "set", set.id));
        }
        for volume in &set.volumes {
            if id == Some(volume.id) || (id.is_none() && volume.name.as_str() == text) {
                found.push((Target::Array(volume.id), "array", volume.id));
                if set.volumes.len() == 1 {
                    lone_volumes.push((set.id, volume.id));
                }
            }
        }
    }
    match found.as_slice() {
        [(target, _, _)] => Ok(*target),
        [(Target::Set(_), _, set), (array, _, volume)]
            if lone_volumes.contains(&(*set, *volume)) =>
        {
            Ok(*array)
        }
        [] => Err(Failure::NotThere(format!(
            "there is no array or set \"{text}\"; see: emdadm list"
        ))),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|(_, what, id)| format!("{what} {}", show_id(id)))
                .collect();
            Err(Failure::Usage(format!(
                "\"{text}\" may be any of: {}; give the id instead",
                names.join(", ")
            )))
        }
    }
}

/// The set that `text` names, or that holds the array it names.
pub fn find_set(device: &Device, text: &str) -> Result<[u8; 16]> {
    match find(device, text)? {
        Target::Set(id) => Ok(id),
        target => {
            let sets = device.query(&target)?.sets;
            sets.first()
                .map(|set| set.id)
                .ok_or_else(|| Failure::NotThere(format!("\"{text}\" is in no set")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use emd_core::model::Text;
    use emd_core::uapi::TaskKind;
    use kernel::prelude::GFP_KERNEL;

    #[test]
    fn ids_survive_showing_and_typing() {
        let id: [u8; 16] = core::array::from_fn(|nth| nth as u8 * 17);
        assert_eq!(show_id(&id), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(parse_id(&show_id(&id)), Some(id));
        assert_eq!(parse_id(&show_id(&id).to_uppercase()), Some(id));
        assert_eq!(parse_id("data"), None);
        assert_eq!(parse_id("00"), None);
    }

    /// A set with volumes of these names; ids are its number, and from there on.
    fn set(number: u8, name: &str, volumes: &[&str]) -> SetInfo {
        let mut set = sample::set();
        set.id = [number; 16];
        set.name = Text::from_text(name);
        for (nth, name) in (1..).zip(volumes) {
            let mut volume = sample::volume((number + nth).into(), TaskKind::Check, 0);
            volume.name = Text::from_text(name);
            set.volumes.push(volume, GFP_KERNEL).expect("memory");
        }
        set
    }

    #[test]
    fn names_that_fit_one_thing_name_it() {
        let sets = [
            set(10, "shelf", &["data", "more"]),
            set(20, "alone", &["alone"]),
            set(30, "pair", &["pair", "other"]),
            set(40, "twice", &["twice"]),
            set(50, "twice", &["twice"]),
        ];
        let choose = |text: &str| choose(&sets, text);
        assert_eq!(choose("shelf").expect("set"), Target::Set([10; 16]));
        assert_eq!(choose("more").expect("array"), Target::Array([12; 16]));
        // md's: a set and its only volume.
        assert_eq!(choose("alone").expect("array"), Target::Array([21; 16]));
        assert_eq!(
            choose(&show_id(&[20; 16])).expect("set"),
            Target::Set([20; 16])
        );
        for unclear in ["pair", "twice"] {
            let failure = choose(unclear).expect_err(unclear);
            assert!(matches!(failure, Failure::Usage(_)), "{failure}");
            assert!(failure.to_string().contains("may be any of: set "));
        }
        assert!(matches!(choose("none"), Err(Failure::NotThere(_))));
    }

    #[test]
    fn arrays_by_device() {
        assert_eq!(parse_number("/dev/emd12"), Some(12));
        assert_eq!(parse_number("emd0"), Some(0));
        assert_eq!(parse_number("emd"), None);
        assert_eq!(parse_number("md0"), None);
        assert_eq!(parse_number("emd0p1"), None);
    }
}
