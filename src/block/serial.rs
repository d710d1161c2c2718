// SPDX-License-Identifier: GPL-2.0

//! The serial number that a disk has of itself, asked of the device model: what sysfs shows as `serial`
//! (NVMe, virtio, MMC), or as the SCSI page `vpd_pg80`, of the disk or of the device that it is on.

use super::pages::Pages;
use crate::model::Text;
use core::ffi::CStr;
use kernel::bindings;
use kernel::str::CStrExt;

/// Bytes of a serial number that count: its last ones, as vendors fill up in front.
pub(super) const BYTES: usize = 24;

/// Most groups of a device, and most attributes of a group, that are looked at.
const LIST_MAX: usize = 64;

/// Header of a SCSI page (SPC-4, 7.8.10): the text follows it.
const VPD_HEADER_BYTES: usize = 4;

/// The serial number of a disk; empty when it tells none. Sleeps: some disks are asked anew.
///
/// # Safety
///
/// `disk` was added, and stays there until this returns (it may be leaving the machine: it is open).
pub(super) unsafe fn of_disk(disk: *mut bindings::gendisk) -> Text<BYTES> {
    let Some(mut page) = Pages::alloc(0, bindings::GFP_KERNEL) else {
        return Text::new();
    };
    // SAFETY: By the requirement; the device of a disk is embedded in its first partition.
    let own = unsafe { &raw mut (*(*disk).part0).bd_device };
    // SAFETY: It lives, and was registered when the disk was added.
    if let Some(serial) = unsafe { of_device(own, &mut page) } {
        return serial;
    }
    // SAFETY: By the requirement. Who takes a disk out makes it one that is not live with the mutex held, and lets go
    // of what it is on only after that: so its parent, if it has one, is there as long as the mutex is held here.
    unsafe {
        let mutex = &raw mut (*disk).open_mutex;
        bindings::mutex_lock(mutex);
        let parent = (*own).parent;
        let serial = match bindings::disk_live(disk) && !parent.is_null() {
            true => of_device(parent, &mut page),
            false => None,
        };
        bindings::mutex_unlock(mutex);
        serial.unwrap_or_default()
    }
}

/// The serial number that a device tells.
///
/// # Safety
///
/// `device` is live and was registered.
unsafe fn of_device(device: *mut bindings::device, page: &mut Pages) -> Option<Text<BYTES>> {
    // SAFETY: By the requirement.
    unsafe { text_attribute(device, page).or_else(|| scsi_page(device, page)) }
}

/// The last bytes of what is printable, without blanks around it.
fn tail(bytes: &[u8]) -> Option<Text<BYTES>> {
    let bytes = bytes.split(|&byte| byte == 0).next()?.trim_ascii();
    let first = bytes.len().saturating_sub(BYTES);
    let text = core::str::from_utf8(bytes.get(first..)?).ok()?.trim();
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (is_plain && !text.is_empty()).then(|| Text::from_text(text))
}

/// The lists of groups that a device has.
///
/// # Safety
///
/// `device` is live.
unsafe fn lists(device: *mut bindings::device) -> [*const *const bindings::attribute_group; 3] {
    // SAFETY: By the requirement; type and class, where there are any, outlive the device.
    unsafe {
        let kind = (*device).type_;
        let class = (*device).class;
        [
            (*device).groups.cast_const(),
            if kind.is_null() {
                core::ptr::null()
            } else {
                (*kind).groups.cast_const()
            },
            if class.is_null() {
                core::ptr::null()
            } else {
                (*class).dev_groups
            },
        ]
    }
}

/// The first entry of a null-terminated list for which `find` has something.
///
/// # Safety
///
/// `list` is null, or a null-terminated list.
unsafe fn first_of<T, R>(
    list: *const *const T,
    mut find: impl FnMut(*const T) -> Option<R>,
) -> Option<R> {
    if list.is_null() {
        return None;
    }
    for index in 0..LIST_MAX {
        // SAFETY: By the requirement: no entry before this one was null.
        let entry = unsafe { *list.add(index) };
        if entry.is_null() {
            return None;
        }
        if let Some(found) = find(entry) {
            return Some(found);
        }
    }
    None
}

/// # Safety
///
/// `attribute` is live.
unsafe fn is_called(attribute: *const bindings::attribute, name: &CStr) -> bool {
    // SAFETY: By the requirement; names of attributes are NUL-terminated.
    unsafe { !(*attribute).name.is_null() && CStr::from_char_ptr((*attribute).name) == name }
}

/// The device's attribute `serial`.
///
/// # Safety
///
/// `device` is live and was registered.
unsafe fn text_attribute(device: *mut bindings::device, page: &mut Pages) -> Option<Text<BYTES>> {
    // SAFETY: By the requirement. Attributes of a device's groups are `device_attribute`s, which `show`
    // wants with a page of room; it returns how much it wrote.
    unsafe {
        for list in lists(device) {
            let found = first_of(list, |group| {
                let attributes = (*group).__bindgen_anon_2.attrs;
                first_of(attributes.cast_const().cast(), |attribute| {
                    is_called(attribute, c"serial").then_some(attribute)
                })
            });
            let Some(attribute) = found else { continue };
            let attribute =
                kernel::container_of!(attribute, bindings::device_attribute, attr).cast_mut();
            let show = (*attribute).__bindgen_anon_1.show?;
            page.as_mut_slice().fill(0);
            let len = show(device, attribute, page.address().cast());
            let len = usize::try_from(len).ok()?;
            return tail(page.as_slice().get(..len)?);
        }
    }
    None
}

/// The device's SCSI page 0x80.
///
/// # Safety
///
/// `device` is live and was registered.
unsafe fn scsi_page(device: *mut bindings::device, page: &mut Pages) -> Option<Text<BYTES>> {
    // SAFETY: By the requirement. The attribute's `read` takes no file and a room of the given length;
    // it returns how much it wrote.
    unsafe {
        for list in lists(device) {
            let found = first_of(list, |group| {
                let attributes = (*group).bin_attrs;
                first_of(attributes, |attribute: *const bindings::bin_attribute| {
                    is_called(&raw const (*attribute).attr, c"vpd_pg80").then_some(attribute)
                })
            });
            let Some(attribute) = found else { continue };
            let read = (*attribute).read?;
            page.as_mut_slice().fill(0);
            let len = read(
                core::ptr::null_mut(),
                &raw mut (*device).kobj,
                attribute,
                page.address().cast(),
                0,
                page.len(),
            );
            let len = usize::try_from(len).ok()?;
            return tail(page.as_slice().get(VPD_HEADER_BYTES..len)?);
        }
    }
    None
}
