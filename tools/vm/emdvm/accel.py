# SPDX-License-Identifier: GPL-2.0
"""KVM or TCG. /dev/kvm may exist and yet not run an ordinary kernel, so a trial boot decides, once per boot of this machine."""

import os
import subprocess
from pathlib import Path

from . import initramfs, places
from .limits import scale
from .machine import DIES_WITH_US, Machine

TRIAL_SECONDS = 6
# An emulated processor does `rep movsb` byte by byte and `crc32` bit by bit. Without these flags the kernel copies by whole words, ten
# times as fast, and has a table for checksums. With la57 page tables have five levels, which an emulated processor walks one by one.
TCG = ["-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm,-fsrs,-fsrc,-fzrm,-sse4.2,-la57"]
KVM = ["-accel", "kvm", "-cpu", "host"]


def arguments() -> list:
    choice = os.environ.get("EMD_ACCEL") or _remembered()
    return {"kvm": KVM, "tcg": TCG}[choice]


def _remembered() -> str:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    memory = places.cache() / "guest/accel"
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        known, choice = memory.read_text().split()
        if known == machine and choice in ("kvm", "tcg"):
            return choice
    except (OSError, ValueError):
        pass
    choice = "kvm" if _trial() else "tcg"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{machine} {choice}\n")
    return choice


def _trial(program: str = Machine.PROGRAM, seconds: float = TRIAL_SECONDS) -> bool:
    """Whether the kernel gets as far as looking for its root. Without an initramfs it panics there and QEMU ends."""
    command = [*DIES_WITH_US, program, *KVM, "-nodefaults", "-display", "none", "-no-reboot", "-m", "512", "-smp", "2"]
    command += ["-serial", "stdio", "-kernel", str(initramfs.kernel()), "-append", "console=ttyS0 panic=-1"]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds * scale())
    except subprocess.TimeoutExpired:
        return False
    return b"Unable to mount root" in result.stdout
