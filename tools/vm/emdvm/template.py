# SPDX-License-Identifier: GPL-2.0
"""A guest that has booted and has seen no disk yet, kept in files. Boots of tests begin from it instead of from nothing.

The guest's memory is one file. The guest that is made into the template writes to it; each that begins from it maps
it privately, so it is not read or copied but where the guest touches it. What else there is of the machine is in `state`.
It is made once for each shape (CPUs, memory, kernel options, initramfs) and kept for later runs: the few newest.
"""

import fcntl
import hashlib
import os
import shutil
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import health, places
from .control import Control
from .log import Log
from .machine import Machine
from .streams import MachineError

BOOT_SECONDS = 60
SAVE_SECONDS = 60
QUIET_SECONDS = 0.3  # for work that the kernel has put off to be done
WAIT_SECONDS = BOOT_SECONDS + 2 * SAVE_SECONDS  # for another run, which makes it or lets go of one that is of no use
LOOK_SECONDS = 0.1
KEPT = 2
NAME = "template-"

_making = threading.Lock()
_unusable = set()


class Unusable(Exception):
    """There is no such template and none can be made."""


def memory(spec, folder: Path, private: bool) -> list:
    """QEMU's arguments for a guest whose memory is the template's file."""
    access = "share=off,readonly=on,rom=off" if private else "share=on"
    size = f"{spec.memory >> 20}M"
    return ["-machine", "memory-backend=memory", "-object", f"memory-backend-file,id=memory,size={size},mem-path={folder / 'memory'},{access}"]


@contextmanager
def held(what, scale, start):
    """The template's folder, which nobody removes meanwhile; made if there is none.

    what: everything the guest's state depends on, as text. scale: how much longer than usual all may take.
    start(folder): the arguments of QEMU for a boot that ends in `host template`.
    """
    key = hashlib.sha256("\0".join([*what, Path("/proc/sys/kernel/random/boot_id").read_text()]).encode()).hexdigest()[:12]
    folder = places.RUNS / f"{NAME}{key}"
    places.RUNS.mkdir(parents=True, exist_ok=True)
    with _making:  # one thread of one process makes it, the others wait
        lock = _ready(folder, scale, start)
    with lock:
        os.utime(folder)
        _forget_old(folder)
        yield folder


def _ready(folder: Path, scale: float, start):
    """Makes it if need be; a lock that keeps it there."""
    while True:
        if folder.name in _unusable:
            raise Unusable("it failed before in this run")
        with ExitStack() as closing:
            lock = closing.enter_context(_lock(folder).open("w"))
            _locked(lock, fcntl.LOCK_SH, folder, scale)
            if _is_there(lock, folder) and (folder / "done").exists():
                closing.pop_all()
                return lock
            _locked(lock, fcntl.LOCK_EX, folder, scale)
            if _is_there(lock, folder) and not (folder / "done").exists():
                try:
                    _make(folder, scale, start)
                except (Unusable, MachineError, OSError) as problem:
                    _unusable.add(folder.name)
                    raise Unusable(f"it could not be made: {str(problem) or type(problem).__name__}; its log: {folder}/boot.log") from None


def _locked(lock, how: int, folder: Path, scale: float):
    """Waits for the lock, not for ever: who has it may hang."""
    deadline = time.monotonic() + WAIT_SECONDS * scale
    while True:
        try:
            return fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                _unusable.add(folder.name)
                raise Unusable(f"another run has had {_lock(folder)} for too long") from None
        time.sleep(LOOK_SECONDS)


def refuse(folder: Path):
    """It did not work: this run does without, and the next makes a new one."""
    _unusable.add(folder.name)
    (folder / "done").unlink(missing_ok=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _is_there(lock, folder: Path) -> bool:
    """Whether the lock is what others find, too: it goes with the template."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), _lock(folder).stat())
    except FileNotFoundError:
        return False


def _forget_old(used: Path):
    folders = [path for path in places.RUNS.glob(f"{NAME}*") if path.is_dir() and path != used]
    try:
        folders.sort(key=lambda path: path.stat().st_mtime)
    except OSError:  # another run removes them
        return
    for old in folders[: -KEPT + 1]:
        with _lock(old).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _is_there(lock, old):
                shutil.rmtree(old, ignore_errors=True)
                _lock(old).unlink(missing_ok=True)


def _make(folder: Path, scale: float, start):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = Log(folder / "boot.log")
    ready = []

    def answer(text):
        machine.send("control", text.encode() + b"\n")

    # Without an answer: the guest waits for it, and each that begins from the template gets its own.
    control = Control({"template": lambda _: ready.append(True), "fail": lambda reason: ready.append(reason)}, answer, folder)

    def on_data(stream, data):
        if stream == "control":
            control.feed(data)
        else:
            log.data(stream, data)

    with (folder / "qemu.err").open("wb") as stderr:
        machine = Machine(start(folder), on_data, stderr)
        try:
            machine.deadline = time.monotonic() + BOOT_SECONDS * scale
            while not ready:
                machine.pump(min(machine.deadline, time.monotonic() + 1))
            if ready[0] is not True:
                raise Unusable(ready[0])
            until = time.monotonic() + QUIET_SECONDS
            while time.monotonic() < until:
                machine.pump(until)
            bad = health.complaints("\n".join(log.kernel), [])
            if bad:
                raise Unusable(f"kernel: {bad[0]}")
            machine.deadline = time.monotonic() + SAVE_SECONDS * scale
            machine.qmp("stop")
            _migration(machine, scale, "migrate", folder)
        finally:
            machine.kill()
            log.close()
    (folder / "initrd").unlink(missing_ok=True)
    (folder / "done").touch()


def resume(machine, folder: Path, scale: float):
    """Fills a machine that was started with `-incoming defer -S`. It stands still afterwards."""
    machine.deadline = time.monotonic() + SAVE_SECONDS * scale
    _migration(machine, scale, "migrate-incoming", folder)


def _migration(machine, scale, command, folder):
    # The memory is in its file already.
    wanted = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    machine.qmp("migrate-set-capabilities", capabilities=wanted)
    machine.qmp(command, uri=f"file:{folder / 'state'}")
    machine.wait_event("MIGRATION", SAVE_SECONDS * scale, status="completed")
