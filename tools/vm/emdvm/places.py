# SPDX-License-Identifier: GPL-2.0
"""Where things are. All of it as seen inside the toolbox."""

import os
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
BUILD = CLONE / "build"
RUNS = BUILD / "vm"
GUEST_FILES = CLONE / "tools/vm/guest"
GUEST_TESTS = CLONE / "tests/guest"
BENCHES = CLONE / "tests/bench"
MODULE = BUILD / "module/emd.ko"
EMDADM = BUILD / "emdadm"
UAPI = CLONE / "src/uapi"
SAMPLES = CLONE / "tests/samples"

KERNEL = Path("/kernel")


def cache() -> Path:
    return Path(os.environ["EMD_CACHE"])


def kernel_release() -> str:
    return (KERNEL / "release").read_text().strip()


def kernel_modules() -> Path:
    return KERNEL / "image/lib/modules" / kernel_release()
