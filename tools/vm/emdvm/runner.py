# SPDX-License-Identifier: GPL-2.0
"""Runs one guest test from its first boot to its verdict."""

import fcntl
import hashlib
import os
import shutil
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import accel, disks, health, initramfs, places, stillness, template
from .control import Control
from .limits import scale
from .log import Log
from .machine import Machine
from .streams import Deadline, Died, MachineError, Refused

BOOT_SECONDS = 60
MOST_BOOTS = 100
# vmgenid tells the kernel that there are others with the same random numbers, and it mixes in new ones.
TEMPLATE_DEVICES = [*disks.controller(), "-device", "vmgenid,guid=auto"]
# From the template to its disks takes a guest a second or two. It has been seen to stand still there, once (`Machine.nudge`), and to crash (see `disks.AT_ONCE`).
# Nothing of the test has run then, nor emd.ko, so it begins again, plainly.
DISKS_SECONDS = 15
ENDED_SECONDS = 20  # from the last that is heard of QEMU to its end
ASK_SECONDS = 5
CRASH_SECONDS = 3  # for the rest of the crash's report to arrive
# nokaslr, norandmaps: QEMU finds again what it has translated once when programs are where they were.
KERNEL_OPTIONS = (
    "console=ttyS0 loglevel=7 printk.time=1 panic=-1 oops=panic sysrq_always_enabled mitigations=off"
    " no_timer_check tsc=reliable cryptomgr.notests random.trust_cpu=on net.ifnames=0 nokaslr norandmaps"
)


@dataclass
class Result:
    name: str
    passed: bool
    seconds: float
    cpu_seconds: float
    reason: str = ""
    tail: list = field(default_factory=list)
    stood_still: int = 0  # how often its machine did


class Finished(Exception):
    """A boot is over: next is 'boot', 'pass' or 'fail'."""

    def __init__(self, following: str, reason: str = ""):
        super().__init__(following)
        self.following = following
        self.reason = reason


class NotReady(Exception):
    """A guest that began from the template does not come to its test."""


class StoodStill(Exception):
    """The machine did nothing any more (`stillness`)."""


def run(spec, on_line=None, mode="test") -> Result:
    """Never raises, or one test would take all others along: the result says what went wrong."""
    started = time.monotonic()
    try:
        return _run(spec, on_line, mode)
    except Exception as problem:
        reason = f"the runner itself failed: {type(problem).__name__}: {problem}"
        return Result(spec.name, False, time.monotonic() - started, 0.0, reason, traceback.format_exc().splitlines())


def _run(spec, on_line, mode) -> Result:
    folder = places.RUNS / spec.name
    places.RUNS.mkdir(parents=True, exist_ok=True)
    with (places.RUNS / f"{spec.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = time.monotonic()
        stood_still = 0
        # A machine may stand still once: that is not the test's doing. What its log has is kept beside that of the next one.
        for is_last in (False, True):
            folder.mkdir(exist_ok=True)
            put_aside(folder)
            folder.mkdir()
            job = Run(spec, folder, on_line, mode)
            try:
                passed, reason = job.all_boots()
                break
            except StoodStill as problem:
                stood_still += 1
                print(f"     {spec.name}: {problem}", flush=True)
                passed, reason = False, str(problem)
                if is_last or mode != "test":
                    break
        if passed:
            _leave_logs(folder)
        return Result(spec.name, passed, time.monotonic() - started, job.cpu_seconds, reason, job.tail, stood_still)


def _leave_logs(folder: Path):
    for path in [folder / "initrd", *folder.glob("*.img")]:
        path.unlink(missing_ok=True)


def put_aside(folder: Path):
    """What the last run of the same test left becomes NAME.before, without its disks."""
    _leave_logs(folder)
    if any(folder.iterdir()):
        before = folder.with_name(f"{folder.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
    else:
        folder.rmdir()


class Run:
    def __init__(self, spec, folder, on_line, mode):
        self.spec = spec
        self.folder = folder
        self.on_line = on_line
        self.mode = mode
        self.tail = []
        self.cpu_seconds = 0.0  # of all its boots
        self.boot = 0
        self.template = None
        self.batches = []  # of disks that are still to be plugged in before the test runs

    def all_boots(self):
        with ExitStack() as held:
            if self._quick():
                try:
                    what = [hashlib.sha256(initramfs.overlay()).hexdigest(), str(initramfs.base()), *self._template_arguments(Path("-"))]
                    self.template = held.enter_context(template.held(what, scale(), self._start_template))
                except template.Unusable as problem:
                    self._plainly(problem)
            return self._all_boots()

    def _quick(self) -> bool:
        if os.environ.get("EMD_PLAIN_BOOT") == "1" or places.DEBUG or self.mode != "test" or self.spec.boot == "plain" or self.spec.extras:
            return False
        # How fast a guest is does not depend on what it began from.
        return places.BENCHES not in self.spec.path.parents

    def _plainly(self, problem):
        """Not as quick, but every test can begin like this."""
        self.template = None
        print(f"     {self.spec.name}: plain boot, without a template: {problem}", flush=True)

    def _all_boots(self):
        self.deadline = time.monotonic() + (self.spec.timeout * scale() if self.mode == "test" else 1e9)
        for disk in self.spec.disks:
            disks.create(disk, self.folder)
        while self.boot < MOST_BOOTS:
            self.boot += 1
            following, reason = self._one_boot()
            if following != "boot":
                return following == "pass", reason
        return False, f"more than {MOST_BOOTS} boots"

    def _settings(self) -> dict:
        """What the guest's init must know."""
        spec = self.spec
        return {
            "mode": self.mode,
            "boot": self.boot,
            "load": spec.emd,
            "disks": ",".join(disk.name for disk in spec.disks if disk.plugged),
            "script": spec.path.relative_to(places.CLONE) if spec.path else "-",
        }

    def _machine_arguments(self):
        spec = self.spec
        # KASAN keeps an eighth for its shadow, and what was freed for a while.
        memory = spec.memory * 3 // 2 if places.DEBUG else spec.memory
        return [
            *("-M", "pc", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *accel.arguments(),
            *("-smp", str(spec.cpus), "-m", f"{memory >> 20}M"),
        ]

    def _kernel_arguments(self, folder: Path, settings: dict):
        # What a person wants otherwise this time: `make bench QUICK=1` uses it.
        wishes = os.environ.get("EMD_GUEST_OPTIONS", "")
        words = [f"emdtest.{name}={value}" for name, value in settings.items()]
        options = " ".join([KERNEL_OPTIONS, self.spec.cmdline, wishes, *words])
        return ["-kernel", str(initramfs.kernel()), "-initrd", str(folder / "initrd"), "-append", options]

    def _arguments(self):
        """Of a plain boot."""
        return [
            *self._machine_arguments(),
            *self._kernel_arguments(self.folder, self._settings()),
            *disks.arguments(self.spec, self.folder),
        ]

    def _template_arguments(self, folder: Path):
        """Of the boot that becomes the template."""
        return [
            *self._machine_arguments(),
            *self._kernel_arguments(folder, {"mode": "template"}),
            *template.memory(self.spec, folder, private=False),
            *TEMPLATE_DEVICES,
        ]

    def _start_template(self, folder: Path):
        initramfs.write(folder / "initrd", self.spec.extras)
        return self._template_arguments(folder)

    def _resume_arguments(self):
        """Of a machine that begins from the template: the same devices, and the disks' files."""
        return [
            *self._machine_arguments(),
            # The kernel is in the memory already; only QEMU's helper that started it is a part of the machine.
            *("-option-rom", "pvh.bin", "-incoming", "defer", "-S"),
            *template.memory(self.spec, self.template, private=True),
            *TEMPLATE_DEVICES,
            *disks.backends(self.spec, self.folder),
        ]

    def _start(self, stderr):
        """The machine runs afterwards, and if it began from the template, the guest knows what to do."""
        if self.template:
            try:
                self.machine = Machine(self._resume_arguments(), self.data, stderr)
                template.resume(self.machine, self.template, scale())
                self.batches = disks.batches(self.spec)
                # What begins one.
                later = ",".join(batch[0].name for batch in self.batches[1:])
                self._more("")
                self.machine.qmp("cont")
            except MachineError as problem:
                # No disk has been touched.
                self._end_machine()
                template.refuse(self.template)
                stderr.seek(0)
                self._plainly(f"{str(problem) or type(problem).__name__} {stderr.read().decode(errors='replace').strip()}")
                stderr.seek(0)
                stderr.truncate()
            else:
                self.log.line("host", f"begins from {self.template}, where the log of the kernel's start is")
                settings = {**self._settings(), "later": later}
                words = [f"{name}={value}" for name, value in settings.items()]
                self._answer(" ".join(["ok", *words, f"time={time.time():.6f}", f"seed={os.urandom(32).hex()}"]))
                self.greeted = True
                self.ready_by = time.monotonic() + DISKS_SECONDS * scale()
                return
        if not (self.folder / "initrd").exists():
            initramfs.write(self.folder / "initrd", self.spec.extras)
        self.machine = Machine(self._arguments(), self.data, stderr, self.mode == "shell")

    def _end_machine(self):
        if self.machine:
            self.machine.kill()
            self.cpu_seconds += self.machine.cpu_seconds
            self.machine = None

    def _one_boot(self):
        try:
            return self.try_boot()
        except NotReady as problem:
            (self.folder / f"boot{self.boot}.log").rename(self.folder / f"boot{self.boot}.not-ready.log")
            self._plainly(problem)
            return self.try_boot()

    def begin_boot(self):
        """What is known of a boot before there is a machine."""
        self.log = Log(self.folder / f"boot{self.boot}.log", self.on_line)
        self.greeted = False
        self.ready_by = None
        self.is_given_up = False
        self.cut_at = None
        self.leaving = False
        self.fatal_at = None
        self.is_over = False
        self.machine = None
        actions = {
            "hello": self._hello,
            "ready": self._ready,
            "stuck": self._stuck,
            "more": self._more,
            "plug": lambda name: self._disk_action(disks.plug, name),
            "unplug": lambda name: self._disk_action(disks.unplug, name),
            "blank": lambda name: self._disk_action(disks.blank, name, self.folder),
            "contents": lambda names: disks.contents(self.spec, names, self.folder),
            "powercut": self._powercut,
            "reboot-clean": self._reboot_clean,
            "pass": lambda _: self._finish("pass"),
            "fail": lambda reason: self._finish("fail", reason or "failed"),
        }
        self.control = Control(actions, self._answer, self.folder / "out")

    def try_boot(self):
        self.begin_boot()
        with (self.folder / f"qemu{self.boot}.err").open("w+b") as stderr:
            try:
                self._start(stderr)
                following, reason = self._watch()
            except Finished as end:
                following, reason = end.following, end.reason
            except (Deadline, Died) as problem:
                if not self.machine:
                    following, reason = "fail", self._not_started(problem, stderr)
                elif isinstance(problem, Died):
                    following, reason = self._ended(stderr)
                else:
                    following, reason = "fail", self.too_late()
            except MachineError as problem:
                following, reason = "fail", str(problem)
            finally:
                self._end_machine()
                self.log.close()
        return self._judge(following, reason)

    def _watch(self):
        boot_limit = time.monotonic() + BOOT_SECONDS * scale()
        while True:
            limits = [self.deadline]
            if not self.greeted:
                limits.append(boot_limit)
            self.machine.deadline = min(limits)
            soon = [moment for moment in (self.cut_at, self.fatal_at) if moment]
            self.machine.pump(min([self.machine.deadline, time.monotonic() + 1, *soon]))
            now = time.monotonic()
            if self.ready_by and now >= self.ready_by:
                # It waits for the answer before it begins, and gets none any more.
                self.is_given_up = True
                self._ask_kernel()
                raise NotReady(f"no disks within {DISKS_SECONDS * scale():.0f} s")
            self.check_stillness()
            if self.cut_at and now >= self.cut_at:
                self.log.line("host", "power cut")
                return "boot", ""
            if self.fatal_at and now >= self.fatal_at:
                return self._crashed()

    def data(self, stream: str, data: bytes):
        if stream == "control":
            if not self.is_over:
                self.control.feed(data)
            return
        seen = len(self.log.kernel)
        self.log.data(stream, data)
        if not self.fatal_at and any(health.FATAL.search(line) for line in self.log.kernel[seen:]):
            self.fatal_at = time.monotonic() + CRASH_SECONDS

    def _answer(self, text: str):
        self.machine.send("control", text.encode() + b"\n")

    def _hello(self, _):
        self.greeted = True
        return ""

    def _ready(self, _):
        """The test is about to run."""
        if self.is_given_up:
            raise NotReady(f"its disks came late, after {DISKS_SECONDS * scale():.0f} s")
        self.ready_by = None
        return ""

    def _more(self, _):
        """Disks that a guest which began from the template begins with, as many as it can take at once."""
        if not self.batches:
            raise ValueError("no disks are left")
        for disk in self.batches.pop(0):
            disks.plug(self.machine, self.spec, disk.name)
        return ""

    def _stuck(self, reason):
        """Before the test: its disks are not there."""
        if self.ready_by:
            raise NotReady(reason)
        self._finish("fail", reason)

    def _disk_action(self, action, name, *more):
        self.log.line("host", f"{action.__name__} {name}")
        # It may be asked for in the midst of what has a shorter one.
        self.machine.deadline = self.deadline
        action(self.machine, self.spec, name, *more)
        return ""

    def _powercut(self, seconds):
        """Now, without an answer; or in so many seconds, while the guest goes on."""
        self.cut_at = time.monotonic() + float(seconds or 0)
        return "" if seconds else None

    def _reboot_clean(self, _):
        self.leaving = True
        return ""

    def _finish(self, following, reason=""):
        self._answer("ok")
        raise Finished(following, reason)

    def too_late(self) -> str:
        what = f"time-out: not done in {self.spec.timeout * scale():.0f} s" if self.greeted else f"did not boot in {BOOT_SECONDS * scale():.0f} s"
        self.log.line("host", what)
        self.is_over = True
        self._ask_kernel()
        return what

    def _ask_kernel(self):
        """What every blocked task waits for goes to the log, and what the processors do."""
        try:
            self.machine.deadline = time.monotonic() + ASK_SECONDS * scale()
            for key in (b"w", b"l"):
                self._press(key, 1)
        except MachineError:
            pass

    def _press(self, key: bytes, seconds: float):
        """The SysRq key; what comes within so many seconds is in the log."""
        self.machine.qmp("chardev-send-break", id="kernel")
        self.machine.send("kernel", key)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.machine.pump(until)

    def check_stillness(self):
        if self.mode != "test" or not self.machine.stillness.suspected():
            return
        before = len(self.log.kernel)
        try:
            self.machine.deadline = until = time.monotonic() + stillness.ANSWER_SECONDS
            while time.monotonic() < until and len(self.log.kernel) == before:
                self._press(b"h", 1)
        except (Deadline, Refused):
            pass
        # Also when it came in the last second, which the deadline cuts.
        if len(self.log.kernel) > before:
            return
        what = f"its machine stood still: {self.machine.stillness.threads()}"
        self.log.line("host", what)
        raise StoodStill(what)

    def _crashed(self):
        # emd.ko is not loaded before the disks are there.
        if self.ready_by:
            raise NotReady("the kernel crashed while its disks were plugged in")
        return "fail", "the kernel crashed"

    def _ended(self, stderr):
        if self.mode == "shell":
            return "pass", ""
        if not self.machine.ended(ENDED_SECONDS * scale()):
            return "fail", "QEMU closed its streams but did not end"
        if self.leaving:
            return "boot", ""
        if self.fatal_at:
            return self._crashed()
        return "fail", f"the machine ended by itself: {self._words(stderr) or 'powered off or rebooted'}"

    def _not_started(self, problem, stderr) -> str:
        what = "QEMU did not start" if isinstance(problem, Died) else "QEMU started and does not answer"
        return f"{what}: {self._words(stderr) or 'it says nothing'}"

    def _words(self, stderr) -> str:
        """What QEMU says; it has ended."""
        stderr.seek(0)
        words = stderr.read().decode(errors="replace").strip()
        for line in words.splitlines():
            self.log.line("host", f"qemu: {line}")
        return words

    def _judge(self, following, reason):
        kernel = "\n".join([*self.log.kernel, self.control.dmesg])
        if self.control.dmesg:
            (self.folder / f"boot{self.boot}.dmesg").write_text(self.control.dmesg)
        # What too_late asked for is full of traces: its reason stands.
        bad = [] if reason.startswith("time-out") else health.complaints(kernel, self.spec.dmesg_allow)
        if bad and self.mode == "test":
            reason = "; ".join(filter(None, [reason, f"kernel: {bad[0]}" + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else "")]))
            following = "fail"
        if following == "fail":
            self.tail = self.log.lines[-30:]
        return following, reason
