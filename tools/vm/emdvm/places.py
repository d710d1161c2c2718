# SPDX-License-Identifier: GPL-2.0
"""Where things are. All of it as seen inside the toolbox."""

import os
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
BUILD = CLONE / "build"
GUEST_FILES = CLONE / "tools/vm/guest"
GUEST_TESTS = CLONE / "tests/guest"
BENCHES = CLONE / "tests/bench"
EMDADM = BUILD / "emdadm"
UAPI = CLONE / "src/uapi"
SAMPLES = CLONE / "tests/samples"
# Of the host tests' samples those that guests need, too.
HOST_SAMPLES = sorted((CLONE / "tests/host/samples/imsm/gen").glob("grow-*/*.xz"))

KERNEL = Path("/kernel")
# The debug guest (make test-debug): /kernel is what tools/toolbox/debug-kernel made, and emd.ko was built for it.
DEBUG = (KERNEL / "release").read_text().strip().endswith("-emd-debug")
OUTPUT = BUILD / "debug" if DEBUG else BUILD
RUNS = OUTPUT / "vm"
MODULE = OUTPUT / "module/emd.ko"


def cache() -> Path:
    return Path(os.environ["EMD_CACHE"])


def kernel_release() -> str:
    return (KERNEL / "release").read_text().strip()


def kernel_modules() -> Path:
    return KERNEL / "image/lib/modules" / kernel_release()
