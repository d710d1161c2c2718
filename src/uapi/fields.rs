// SPDX-License-Identifier: GPL-2.0

//! What may be in a field of an argument, whichever call it is of: zeroes, texts, targets, words, and lists in
//! the program's memory. Which `errno` is whose is said in [`decode`](super::decode).

use super::args::{Out, TargetArg};
use super::constants::*;
use super::request::{DevNumber, Target};
use super::wire::Wire;
use super::words::{layout_by_name, level_by_name};
use crate::model::{Checked, Layout, Level, Text};
use crate::reason;
use kernel::prelude::*;

/// Reads memory of the calling program.
pub trait UserMemory {
    /// Fills `into` from `address`.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Checked;
}

/// Refuses what is reserved and not 0.
pub(super) fn zero(value: u64, name: &str) -> Checked {
    if value != 0 {
        return Err(reason!(EINVAL, "{name} must be 0"));
    }
    Ok(())
}

/// Refuses a buffer that has a length and no place.
pub(super) fn out(out: &Out) -> Checked {
    zero(out.reserved.into(), "out.reserved")?;
    if out.ptr == 0 && out.len != 0 {
        return Err(reason!(EINVAL, "out.len is {} but out.ptr is 0", out.len));
    }
    Ok(())
}

/// An id, which is not all zeroes.
pub(super) fn id(bytes: [u8; 16]) -> Option<[u8; 16]> {
    Some(bytes).filter(|id| id.iter().any(|&byte| byte != 0))
}

/// What a call is about.
pub(super) fn target(arg: &TargetArg) -> Checked<Target> {
    let id = id(arg.id);
    let by_id = matches!(arg.kind, TARGET_ARRAY | TARGET_SET);
    if !by_id && id.is_some() {
        return Err(reason!(
            EINVAL,
            "target.id must be 0 with target.kind {}",
            arg.kind
        ));
    }
    if arg.kind != TARGET_NUMBER {
        zero(arg.number.into(), "target.number (without its kind)")?;
    }
    let missing = || reason!(EINVAL, "target.id is missing");
    match arg.kind {
        TARGET_NUMBER if arg.number <= NUMBER_MAX => Ok(Target::Number(arg.number)),
        TARGET_NUMBER => Err(reason!(
            EINVAL,
            "array number {} is larger than {NUMBER_MAX}",
            arg.number
        )),
        TARGET_ARRAY => id.map(Target::Array).ok_or_else(missing),
        TARGET_SET => id.map(Target::Set).ok_or_else(missing),
        TARGET_ALL => Ok(Target::All),
        TARGET_NONE => Err(reason!(
            EINVAL,
            "no target is given; name an array or a set"
        )),
        kind => Err(reason!(EINVAL, "unknown target.kind {kind}")),
    }
}

/// The same, where everything at once makes no sense.
pub(super) fn one_target(arg: &TargetArg) -> Checked<Target> {
    match target(arg)? {
        Target::All => Err(reason!(
            EINVAL,
            "this call is about one array or set, not all"
        )),
        target => Ok(target),
    }
}

/// The same, where only an array makes sense.
pub(super) fn array_target(arg: &TargetArg) -> Checked<Target> {
    match one_target(arg)? {
        Target::Set(_) => Err(reason!(EINVAL, "this call is about an array, not a set")),
        target => Ok(target),
    }
}

/// A text field: NUL-terminated UTF-8 without control characters, zeros after it, at most `N` bytes.
pub(super) fn text<const N: usize>(field: &[u8], name: &str) -> Checked<Text<N>> {
    let Some(len) = field.iter().position(|&byte| byte == 0) else {
        return Err(reason!(EINVAL, "{name} does not end with NUL"));
    };
    let (bytes, rest) = field.split_at_checked(len).unwrap_or((&[], &[]));
    if rest.iter().any(|&byte| byte != 0) {
        return Err(reason!(EINVAL, "{name} has bytes after its NUL"));
    }
    if len > N {
        return Err(reason!(
            EINVAL,
            "{name} has {len} bytes; {N} are the most there can be"
        ));
    }
    let text =
        core::str::from_utf8(bytes).map_err(|_| reason!(EINVAL, "{name} is not UTF-8 text"))?;
    if text.chars().any(char::is_control) {
        return Err(reason!(EINVAL, "{name} has control characters"));
    }
    Ok(Text::from_text(text))
}

/// A level by its name in a field.
pub(super) fn level(field: &[u8; 16]) -> Checked<Level> {
    let name: Text<15> = text(field, "level")?;
    level_by_name(name.as_str())
        .ok_or_else(|| reason!(EINVAL, "there is no level called \"{name}\""))
}

/// A layout by its name in a field.
pub(super) fn layout(field: &[u8; 24]) -> Checked<Layout> {
    let name: Text<23> = text(field, "layout")?;
    layout_by_name(name.as_str())
        .ok_or_else(|| reason!(EINVAL, "there is no layout called \"{name}\""))
}

/// Reads a list of device numbers from user memory. 0 is an empty place.
pub(super) fn devices(
    ptr: u64,
    count: u32,
    count_max: u32,
    name: &str,
    user: &mut dyn UserMemory,
) -> Checked<KVec<Option<DevNumber>>> {
    if count > count_max {
        return Err(reason!(
            E2BIG,
            "{count} {name} are given; {count_max} are the most there can be"
        ));
    }
    if count != 0 && ptr == 0 {
        return Err(reason!(
            EINVAL,
            "a list of {name} is announced but not given"
        ));
    }
    let mut list = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for nth in 0..u64::from(count) {
        let address = ptr
            .checked_add(nth * u64::BYTES as u64)
            .ok_or_else(|| reason!(EFAULT, "the list of {name} is beyond the end of memory"))?;
        let mut bytes = [0u8; u64::BYTES];
        user.read(address, &mut bytes)?;
        let wire = u64::from_ne_bytes(bytes);
        let dev = DevNumber::from_wire(wire);
        if wire != 0 && dev.is_none() {
            return Err(reason!(
                EINVAL,
                "{:#x} among the {name} is no device number (major << 32 | minor)",
                wire
            ));
        }
        if let Some(dev) = dev.filter(|_| list.contains(&dev)) {
            return Err(reason!(
                EINVAL,
                "device {dev} stands twice among the {name}"
            ));
        }
        list.push(dev, GFP_KERNEL)?;
    }
    Ok(list)
}

/// The same, with no empty places.
pub(super) fn whole_devices(
    ptr: u64,
    count: u32,
    name: &str,
    user: &mut dyn UserMemory,
) -> Checked<KVec<DevNumber>> {
    let list = devices(ptr, count, DISKS_MAX, name, user)?;
    let mut whole = KVec::with_capacity(list.len(), GFP_KERNEL)?;
    for dev in list.iter() {
        let dev = dev.ok_or_else(|| reason!(EINVAL, "0 among the {name} is no device"))?;
        whole.push(dev, GFP_KERNEL)?;
    }
    Ok(whole)
}
