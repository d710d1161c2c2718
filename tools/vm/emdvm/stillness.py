# SPDX-License-Identifier: GPL-2.0
"""Notices a machine that stands still: QEMU uses no processor time although its guest has timers, and nothing comes from it.

That is none of the guest's doing, whatever the guest does: who waits for ever in it leaves the kernel its clock, and who spins uses time. It has been
seen once in hundreds of boots, on machines without KVM.
"""

import os
import time
from pathlib import Path

SECONDS = 20
# Until the kernel has answered, on a machine that is busy otherwise.
ANSWER_SECONDS = 10
# A guest that sleeps uses a twentieth of a processor or so.
LEAST_CPU_SHARE = 0.002
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Stillness:
    def __init__(self, pid: int):
        self.process = Path(f"/proc/{pid}")
        self.heard()

    def heard(self):
        """Something came from the guest."""
        self.since = time.monotonic()
        self.used = self._cpu_seconds()

    def suspected(self) -> bool:
        """Whether for so long nothing has come, and no time was used. Asked again, it waits as long again."""
        seconds = time.monotonic() - self.since
        if seconds < SECONDS:
            return False
        is_idle = self._cpu_seconds() - self.used < LEAST_CPU_SHARE * seconds
        self.heard()
        return is_idle

    def threads(self) -> str:
        """What QEMU's threads do, for the log."""
        found = []
        for task in sorted(self.process.glob("task/*")):
            try:
                name, state = (task / "comm").read_text().strip(), self._stat(task)[0]
                found.append(f"{name} {state} in {(task / 'wchan').read_text().strip() or '?'}")
            except OSError:
                pass  # it has ended
        return "; ".join(found)

    def _cpu_seconds(self) -> float:
        try:
            user, system = self._stat(self.process)[11:13]
        except OSError:
            return 0.0
        return (int(user) + int(system)) / TICKS_PER_SECOND

    @staticmethod
    def _stat(folder: Path) -> list:
        """The fields after the name."""
        return (folder / "stat").read_text().rpartition(")")[2].split()
