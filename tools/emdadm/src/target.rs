// SPDX-License-Identifier: GPL-2.0

//! From what people type to devices, arrays and sets, and back.

use crate::device::Device;
use crate::failure::{Failure, Result};
use emd_core::uapi::{DevNumber, Target};
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
    let sets = device.list()?.sets;
    let id = parse_id(text);
    let mut found = Vec::new();
    for set in &sets {
        if id == Some(set.id) || (id.is_none() && set.name.as_str() == text) {
            found.push((Target::Set(set.id), "set", set.id));
        }
        for volume in &set.volumes {
            if id == Some(volume.id) || (id.is_none() && volume.name.as_str() == text) {
                found.push((Target::Array(volume.id), "array", volume.id));
            }
        }
    }
    match found.as_slice() {
        [(target, _, _)] => Ok(*target),
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

    #[test]
    fn ids_survive_showing_and_typing() {
        let id: [u8; 16] = core::array::from_fn(|nth| nth as u8 * 17);
        assert_eq!(show_id(&id), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(parse_id(&show_id(&id)), Some(id));
        assert_eq!(parse_id(&show_id(&id).to_uppercase()), Some(id));
        assert_eq!(parse_id("data"), None);
        assert_eq!(parse_id("00"), None);
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
