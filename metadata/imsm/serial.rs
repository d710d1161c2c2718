// SPDX-License-Identifier: GPL-2.0

//! Serial numbers: all that tells one disk of a set from another.
//!
//! What a disk says of itself is taken as mdadm takes it: blanks and control characters are dropped,
//! `:` becomes `;`, and of more than 16 characters the last 16 count. The entry of a disk that failed
//! gets `:0` at the end, which no disk can have; what does not fit any more falls off in front. mdadm
//! appends it once for each volume that the disk was in.

use super::layout::TEXT_BYTES;
use crate::model::Text;

/// A serial number as the disk table has it: NUL-padded.
pub type Serial = [u8; TEXT_BYTES];

/// Mark of a disk that failed or is gone.
const MARK: &[u8; 2] = b":0";

/// Shortest rest of a serial number that is taken as that of a failed disk.
const STEM_MIN: usize = 4;

/// What a disk says of itself, in the table's form. `None` when it says nothing.
pub fn of_disk(text: &str) -> Option<Serial> {
    let mut serial = [0u8; TEXT_BYTES];
    let mut len = 0usize;
    for byte in text.bytes().filter(|&byte| byte > b' ') {
        if len == TEXT_BYTES {
            serial.copy_within(1.., 0);
            len -= 1;
        }
        if let Some(slot) = serial.get_mut(len) {
            *slot = if byte == b':' { b';' } else { byte };
            len += 1;
        }
    }
    (len > 0).then_some(serial)
}

/// A serial number of the table with blanks dropped, as old firmware wrote them.
pub fn squeezed(serial: &Serial) -> Serial {
    let mut out = [0u8; TEXT_BYTES];
    let solid = serial
        .iter()
        .copied()
        .take_while(|&byte| byte != 0)
        .filter(|&byte| byte > b' ');
    for (slot, byte) in out.iter_mut().zip(solid) {
        *slot = byte;
    }
    out
}

/// Its characters.
pub fn text(serial: &Serial) -> &[u8] {
    let len = serial
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(TEXT_BYTES);
    serial.get(..len).unwrap_or(&[])
}

/// For people.
pub fn label(serial: &Serial) -> Text<32> {
    Text::from_disk(serial)
}

/// The one that a [`label`] shows. (Bytes that are not printable are not known from it; they do not occur.)
pub fn of_label(label: &Text<32>) -> Serial {
    let mut out = [0u8; TEXT_BYTES];
    for (slot, byte) in out.iter_mut().zip(label.as_str().bytes()) {
        *slot = byte;
    }
    out
}

/// Whether it is that of a disk that failed or is gone.
pub fn is_marked(serial: &Serial) -> bool {
    text(serial).ends_with(MARK)
}

/// Marks it, as mdadm does for a disk that failed. Marked ones stay as they are.
pub fn mark_failed(serial: &Serial) -> Serial {
    if is_marked(serial) {
        return *serial;
    }
    let old = text(serial);
    // The result keeps a NUL at the end.
    let room = TEXT_BYTES - 1 - MARK.len();
    let stem = old.get(old.len().saturating_sub(room)..).unwrap_or(old);
    let mut out = [0u8; TEXT_BYTES];
    for (slot, &byte) in out.iter_mut().zip(Iterator::chain(stem.iter(), MARK)) {
        *slot = byte;
    }
    out
}

/// Marks it as mdadm does for a disk that is gone: one character more falls off in front.
pub fn mark_gone(serial: &Serial) -> Serial {
    let failed = mark_failed(serial);
    let mut out = [0u8; TEXT_BYTES];
    for (slot, &byte) in out.iter_mut().zip(failed.iter().skip(1)) {
        *slot = byte;
    }
    out
}

/// Whether the marked entry `entry` may be that of the disk with `serial`.
pub fn was(entry: &Serial, serial: &Serial) -> bool {
    let squeezed = squeezed(entry);
    let mut stem = text(&squeezed);
    let mut marks = 0usize;
    while let Some(rest) = stem.strip_suffix(MARK) {
        stem = rest;
        marks += 1;
    }
    if marks == 0 {
        return false;
    }
    let whole = text(serial);
    // Serial numbers are often short; then nothing, or one character a mark has fallen off.
    whole.ends_with(stem)
        && (stem.len() >= STEM_MIN || stem.len() + marks >= whole.len())
        && !stem.is_empty()
}
