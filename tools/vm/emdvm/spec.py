# SPDX-License-Identifier: GPL-2.0
"""What a test says about itself in the comments at its head (see tests/guest/README.md)."""

import re
from dataclasses import dataclass, field
from pathlib import Path

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
KEYS = ("disks", "timeout", "memory", "cpus", "emd", "cache", "extra", "needs", "cmdline", "boot", "run", "dmesg-allow")


class SpecError(Exception):
    pass


@dataclass
class Disk:
    name: str
    bus: str = "virtio"
    bytes: int = 0
    sector: int = 512
    physical: int = 512
    plugged: bool = True


@dataclass
class Spec:
    name: str
    path: Path
    disks: list = field(default_factory=list)
    timeout: float = 120
    memory: int = 1 << 30
    cpus: int = 2
    emd: str = "load"
    cache: str = "unsafe"
    extras: list = field(default_factory=list)
    needs: list = field(default_factory=list)
    cmdline: str = ""
    boot: str = "quick"
    run: str = "daily"
    dmesg_allow: list = field(default_factory=list)


def parse_size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if not match:
        raise SpecError(f"no size: {text!r} (like 256M)")
    return int(match[1]) * UNITS.get(match[2], 1)


def read(path: Path) -> Spec:
    spec = Spec(path.stem, path)
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            break
        match = re.match(r"# ([a-z-]+): +(.*)", line)
        if match and match[1] in KEYS:
            try:
                take(spec, match[1], match[2].strip())
            except (ValueError, re.error) as problem:
                raise SpecError(f"{spec.name}: '# {match[1]}:' {problem}") from None
    return spec


def take(spec: Spec, key: str, value: str):
    if key == "disks":
        for group in value.split(","):
            _take_disks(spec, group.split())
    elif key == "timeout":
        spec.timeout = float(value)
    elif key == "memory":
        spec.memory = parse_size(value)
    elif key == "cpus":
        spec.cpus = int(value)
    elif key == "emd":
        spec.emd = _one_of(spec, key, value, ("load", "manual"))
    elif key == "cache":
        spec.cache = _one_of(spec, key, value, ("unsafe", "flush"))
    elif key == "extra":
        spec.extras += value.split()
    elif key == "needs":
        spec.needs += value.split()
    elif key == "cmdline":
        spec.cmdline = value
    elif key == "boot":
        spec.boot = _one_of(spec, key, value, ("quick", "plain"))
    elif key == "run":
        spec.run = _one_of(spec, key, value, ("daily", "whole"))
    elif key == "dmesg-allow":
        spec.dmesg_allow.append(re.compile(value))


def _one_of(spec: Spec, key: str, value: str, choices) -> str:
    if value not in choices:
        raise SpecError(f"{spec.name}: '# {key}:' is {' or '.join(choices)}, not {value!r}")
    return value


def _take_disks(spec: Spec, words):
    match = re.fullmatch(r"(\d+)x(\d+[KMGT]?)", words[0]) if words else None
    if not match:
        raise SpecError(f"{spec.name}: '# disks:' wants COUNTxSIZE first, like 5x256M, not {' '.join(words)!r}")
    settings = {"bytes": parse_size(match[2])}
    for word in words[1:]:
        sectors = re.fullmatch(r"(512|4096)(?:/(512|4096))?", word)
        if word in ("virtio", "scsi"):
            settings["bus"] = word
        elif sectors:
            settings["sector"] = int(sectors[1])
            settings["physical"] = int(sectors[2] or sectors[1])
        elif word == "unplugged":
            settings["plugged"] = False
        else:
            raise SpecError(f"{spec.name}: '# disks:' does not know {word!r}; it knows virtio scsi 512 4096 512/4096 unplugged")
    for _ in range(int(match[1])):
        spec.disks.append(Disk(f"disk{len(spec.disks) + 1}", **settings))
