# SPDX-License-Identifier: GPL-2.0
"""The guest's disks: sparse raw files, as QEMU objects that can be plugged and unplugged.

Flushes are not carried to this machine's disk unless the test says "# cache: flush": a power cut here means
that QEMU is killed, and what it wrote stays in this machine's page cache all the same. So a power cut
loses what the guest had not sent to the disk; it does not lose what a disk's volatile cache held.
"""

import hashlib
import json
import os
from pathlib import Path

from .limits import scale

PLUG_SECONDS = 60
PIECE = 64 << 10
ZEROES = bytes(PIECE)
# Linux's virtio_scsi has room for news of 8 disks that were plugged in. When it has missed some, it sends INQUIRY to all disks that it knows of; also to one
# that another thread of its is adding, and that has no budget map yet. That crashes in scsi_device_unbusy, with the map that is there when the answer comes (seen with 7.3.4).
AT_ONCE = 6


def create(disk, folder: Path):
    """A new, empty disk."""
    path = folder / f"{disk.name}.img"
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        stream.truncate(disk.bytes)


def arguments(spec, folder: Path) -> list:
    """Of a machine that has its disks from the start."""
    command = controller() if any(disk.bus == "scsi" for disk in spec.disks) else []
    command += backends(spec, folder)
    for disk in spec.disks:
        if disk.plugged:
            command += ["-device", json.dumps(_device(spec, disk))]
    return command


def controller() -> list:
    return ["-device", "virtio-scsi-pci,id=scsi"]


def backends(spec, folder: Path) -> list:
    command = []
    for disk in spec.disks:
        command += ["-blockdev", json.dumps(_backend(spec, disk, folder))]
    return command


def plug(machine, spec, name: str):
    machine.qmp("device_add", **_device(spec, _named(spec, name)))


def batches(spec) -> list:
    """Disks that a test begins with: those that can be plugged in before the guest runs, and those for which it asks then, each time when it has all before (init)."""
    plugged = [disk for disk in spec.disks if disk.plugged]
    scsi = [disk for disk in plugged if disk.bus == "scsi"]
    first = [disk for disk in plugged if disk not in scsi[AT_ONCE:]]
    return [first, *(scsi[at : at + AT_ONCE] for at in range(AT_ONCE, len(scsi), AT_ONCE))]


def unplug(machine, spec, name: str):
    machine.qmp("device_del", id=_named(spec, name).name)
    machine.wait_event("DEVICE_DELETED", PLUG_SECONDS * scale(), device=name)


def blank(machine, spec, name: str, folder: Path):
    """An unplugged disk is swapped for a new one of the same size."""
    disk = _named(spec, name)
    machine.qmp("blockdev-del", **{"node-name": disk.name})
    create(disk, folder)
    machine.qmp("blockdev-add", **_backend(spec, disk, folder))


def contents(spec, names: str, folder: Path) -> str:
    """A checksum of what each of the disks holds. In the guest, without KVM, this would take minutes."""
    return " ".join(_contents(folder / f"{_named(spec, name).name}.img") for name in names.split())


def _contents(path: Path) -> str:
    """What is not zero, and where. The file is sparse, and its holes are not read."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while at < end:
            try:
                data = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing follows but a hole
                break
            until = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            at = data // PIECE * PIECE
            while at < until:
                piece = os.pread(file.fileno(), PIECE, at)
                if piece != ZEROES[: len(piece)]:
                    digest.update(b"%d " % at + piece)
                at += PIECE
    return digest.hexdigest()[:16]


def _named(spec, name: str):
    for disk in spec.disks:
        if disk.name == name:
            return disk
    raise ValueError(f"no disk {name!r}; there are: {' '.join(disk.name for disk in spec.disks)}")


def _backend(spec, disk, folder: Path) -> dict:
    cache = {"no-flush": spec.cache == "unsafe"}
    file = {"driver": "file", "filename": str(folder / f"{disk.name}.img"), "discard": "unmap", "cache": cache}
    return {"driver": "raw", "node-name": disk.name, "discard": "unmap", "cache": cache, "file": file}


def _device(spec, disk) -> dict:
    device = {
        "id": disk.name,
        "drive": disk.name,
        "serial": disk.name,
        "logical_block_size": disk.sector,
        "physical_block_size": disk.physical,
    }
    if disk.bus == "scsi":
        return device | {"driver": "scsi-hd", "bus": "scsi.0", "scsi-id": spec.disks.index(disk), "lun": 0}
    return device | {"driver": "virtio-blk-pci", "discard": True, "write-zeroes": True, "num-queues": spec.cpus}
