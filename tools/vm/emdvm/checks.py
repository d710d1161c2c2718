# SPDX-License-Identifier: GPL-2.0
"""Checks of the runner that need no guest: `tools/vm/selftest` runs them. Each returns what is wrong, or nothing."""

import fcntl
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import accel, health, initramfs, places, runner, spec, template
from .machine import Machine
from .streams import Deadline, Died, Streams

SECONDS = 60  # for what takes no time; only what hangs takes it


class Played:
    """Streams whose other ends are here: the check plays QEMU. `on_control` is what is done for a request; `early`, what is there when they are begun with."""

    def __init__(self, on_control, early=b""):
        ends, self.far = {}, {}
        for name in ("kernel", "control", "qmp"):
            ends[name], self.far[name] = socket.socketpair()
        self.on_control = on_control
        self.got = []
        self.streams = Streams(ends, self._data)
        self.streams.deadline = time.monotonic() + SECONDS
        self.far["control"].sendall(early)
        self.far["qmp"].sendall(b'{"QMP": {}}\n')
        self.answer_next()
        self.streams.greeting()
        self.streams.nudge_at = float("inf")
        if self.got:
            raise AssertionError(f"came before all was ready: {self.got}")

    def _data(self, stream, data):
        self.got.append((stream, data))
        if stream == "control":
            self.on_control(self.streams)

    def asked(self) -> dict:
        """The next command on QMP. They come one by one."""
        return json.loads(self.far["qmp"].recv(65536))

    def answers(self, command: dict, **answer):
        given = {"id": command["id"]} if "id" in command else {}
        self.far["qmp"].sendall(json.dumps({**answer, **given}).encode() + b"\n")

    def answer_next(self):
        """The next command is answered when it comes."""
        threading.Thread(target=lambda: self.answers(self.asked(), **{"return": {}}), daemon=True).start()

    def close(self):
        self.streams.close()
        for end in self.far.values():
            end.close()


def within(function) -> str:
    """What goes wrong in it; it may be that it does not return."""
    wrong = [f"it did not return within {SECONDS} s"]

    def run():
        try:
            function()
            wrong[0] = ""
        except Exception as problem:
            wrong[0] = repr(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return wrong[0]


def request_and_answer() -> str:
    """The guest's request and QEMU's answer to a nudge are there at once, and what is done for the request reads the answer."""
    played = Played(lambda streams: streams.qmp("device_del", id="disk1"))
    played.streams.nudge_at = 0
    played.streams.pump(0)
    played.streams.nudge_at = float("inf")
    nudge = played.asked()
    # In this order they are found.
    played.far["control"].sendall(b"unplug disk1\n")
    played.answers(nudge, **{"return": {}})
    played.far["kernel"].sendall(b"[    9.1] gone\n")
    played.answer_next()
    wrong = within(lambda: played.streams.pump(time.monotonic() + 1))
    if wrong:
        return wrong  # who hangs in it has its sockets
    played.close()
    wanted = [("control", b"unplug disk1\n"), ("kernel", b"[    9.1] gone\n")]
    return "" if sorted(played.got) == wanted else f"came: {played.got}"


def request_and_end() -> str:
    """The same with a stream that ends."""
    played = Played(lambda streams: streams.qmp("device_del", id="disk1"))
    played.far["control"].sendall(b"unplug disk1\n")
    played.far["kernel"].close()
    played.answer_next()
    wrong = within(lambda: played.streams.pump(time.monotonic() + 1))
    if wrong:
        return wrong
    played.close()
    return "" if played.got == [("control", b"unplug disk1\n")] else f"came: {played.got}"


def whose_answer() -> str:
    """While an answer is waited for, the guest asks for what QEMU is told too: each gets its own answer."""
    given = []
    played = Played(lambda streams: given.append(streams.qmp("inner")))

    def qemu():
        outer = played.asked()
        played.far["control"].sendall(b"plug disk1\n")
        inner = played.asked()
        for command in (outer, inner):
            played.answers(command, **{"return": command["execute"]})

    threading.Thread(target=qemu, daemon=True).start()
    wrong = within(lambda: given.append(played.streams.qmp("outer")))
    if wrong:
        return wrong
    played.close()
    return "" if given == ["inner", "outer"] else f"answers: {given}"


def talks_without_end() -> str:
    """A guest that never stops printing does not get by the deadline."""
    return _past_deadline(lambda played: played.streams.pump(time.monotonic() + 1), lambda played: prints(played))


def prints(played):
    played.far["kernel"].sendall(b"again\n")
    time.sleep(0.01)


def does_not_read() -> str:
    """Nor one that reads no answer."""
    return _past_deadline(lambda played: played.streams.send("control", bytes(65536)), lambda played: time.sleep(0.1))


def nudged_without_end() -> str:
    """QEMU that reads nothing is nudged all the same."""
    played = Played(lambda streams: None)
    wrong = within(lambda: [played.streams.nudge() for _ in range(10000)] and None)
    if not wrong:
        played.close()
    return wrong


def early_request() -> str:
    """What the guest asks for before QEMU has greeted is heard then."""
    played = Played(lambda streams: streams.send("control", b"ok\n"), b"hello\n")
    played.streams.pump(time.monotonic() + SECONDS)
    answer = played.far["control"].recv(100)
    played.close()
    return "" if answer == b"ok\n" else f"the answer is {answer!r}"


def last_words() -> str:
    """What the kernel said before the machine ended is read, though an answer finds it gone."""
    played = Played(lambda streams: streams.send("control", b"ok\n"))
    played.far["control"].sendall(b"hello\n")
    played.far["kernel"].sendall(b"Kernel panic\n")
    for end in played.far.values():
        end.close()
    try:
        while True:
            played.streams.pump(time.monotonic() + 1)
    except Died:
        pass
    wanted = [("control", b"hello\n"), ("kernel", b"Kernel panic\n")]
    return "" if played.got == wanted else f"came: {played.got}"


def does_not_greet() -> str:
    """QEMU that starts and says nothing has a deadline, and is not left behind."""
    with tempfile.TemporaryDirectory() as folder:
        program, started = Path(folder, "qemu"), Path(folder, "started")
        program.write_text(f"#!/bin/sh\necho $$ >{started}\nexec sleep 1000\n")
        program.chmod(0o755)

        class Silent(Machine):
            PROGRAM = str(program)
            START_SECONDS = 1

        def start():
            try:
                Silent([], lambda stream, data: None, subprocess.DEVNULL)
            except Deadline:
                return
            raise AssertionError("it has started")

        wrong = within(start)
        if wrong:
            return wrong
        is_left = started.exists() and Path("/proc", started.read_text().strip()).exists()
        return "it is left behind" if is_left else ""


class Fake:
    """A machine that is suspected to stand still. What it does when it is waited for is `pump`."""

    def __init__(self, pump):
        self.pump = pump
        self.stillness = self
        self.deadline = 0.0

    def suspected(self):
        return True

    def threads(self):
        return "CPU 0"

    def qmp(self, command, **arguments):
        pass

    def send(self, stream, data):
        pass


def begun(folder, pump):
    """A test in its first boot, whose machine is a fake; pump(job) is what it does."""
    job = runner.Run(spec.Spec("check", None), Path(folder), None, "test")
    job.boot = 1
    job.begin_boot()
    job.machine = Fake(lambda until: pump(job))
    return job


def stillness() -> str:
    """A machine stands still if the kernel does not answer; it has answered, too, when the deadline was in the same second; and may have ended."""

    def answers(job):
        job.log.line("kernel", "sysrq: HELP")
        raise Deadline

    def is_silent(job):
        raise Deadline

    def ends(job):
        raise Died

    wrong = []
    for pump, wanted in ((answers, None), (is_silent, runner.StoodStill), (ends, Died)):
        with tempfile.TemporaryDirectory() as folder:
            job = begun(folder, pump)
            came = None
            try:
                job.check_stillness()
            except Exception as problem:
                came = type(problem)
            job.log.close()
        if came != wanted:
            wrong.append(f"{pump.__name__}: {came}, not {wanted}")
    return "; ".join(wrong)


def late_verdict() -> str:
    """What the guest says after its time-out changes nothing."""

    def passes(job):
        job.data("control", b"pass\n")
        raise Deadline

    with tempfile.TemporaryDirectory() as folder:
        job = begun(folder, passes)
        job.greeted = True
        try:
            reason = job.too_late()
        except runner.Finished as end:
            return f"its end came through: {end.following}"
        finally:
            job.log.close()
    return "" if reason.startswith("time-out") else reason


def refused_template() -> str:
    """QEMU does not take the template, and then does not start plainly either: the first machine is not ended twice, and the reason is the second's."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder, "template")
        template.mkdir()
        test = spec.Spec("check", None, cpus=1)
        with (template / "memory").open("wb") as memory:
            memory.truncate(test.memory)
        for name in (template / "state", template / "done", Path(folder, "initrd")):
            name.write_bytes(b"no state")

        class Plainly(runner.Run):
            def _arguments(self):
                return ["-smp", "5000"]

        job = Plainly(test, Path(folder), None, "test")
        job.boot = 1
        job.template = template
        job.deadline = time.monotonic() + SECONDS
        verdict, reason = job.try_boot()
        is_kept = (template / "done").exists()
    if verdict != "fail" or "QEMU did not start" not in reason:
        return f"{verdict}: {reason}"
    return "the template is kept" if is_kept else ""


def template_taken() -> str:
    """Another run has the template and does not let go of it: this one waits for it for a while only, and once."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder, "template-of-a-check")

        def is_refused():
            try:
                template._ready(taken, 0, None)
            except template.Unusable:
                return
            raise AssertionError("it is ready")

        with taken.with_name(f"{taken.name}.lock").open("w") as other:
            for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
                template._unusable.discard(taken.name)
                fcntl.flock(other, kind)
                if wrong := within(is_refused):
                    return wrong
            if taken.name not in template._unusable:
                return "it is waited for again"
    return ""


def half_a_folder() -> str:
    """What is made in a folder of its own leaves nothing when it fails, and not its half beside another run's whole."""

    def fails(folder):
        Path(folder, "half").touch()
        raise OSError("no space")

    def is_second(folder):
        Path(parent, "whole").mkdir()
        Path(parent, "whole", "first").touch()

    with tempfile.TemporaryDirectory() as parent:
        try:
            initramfs.make_folder(Path(parent, "whole"), "partial-", fails)
            return "it has not failed"
        except OSError:
            pass
        left = [path.name for path in Path(parent).iterdir()]
        if left:
            return f"left: {left}"
        initramfs.make_folder(Path(parent, "whole"), "partial-", is_second)
        left = sorted(path.relative_to(parent).as_posix() for path in Path(parent).rglob("*"))
    return "" if left == ["whole", "whole/first"] else f"there is: {left}"


def skipped() -> str:
    """A test whose program is not there is no success, unless that is known. What is wrong, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder, "lacks.sh")
        test.write_text("# needs: no-such-program\n")
        for known, status in (("", 1), ("1", 0)):
            command = [places.CLONE / "tools/vm/run-tests", test]
            run = subprocess.run(command, env={**os.environ, "EMD_ALLOW_SKIP": known}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
            last = run.stdout.splitlines()[-1:]
            if (run.returncode, last) != (status, ["0 passed, 0 failed, 1 skipped"]):
                return f"EMD_ALLOW_SKIP={known}: status {run.returncode}: {run.stdout}"
    return ""


def _past_deadline(step, theirs) -> str:
    """The step is done again and again, until the deadline; the other side does its own until it is told off."""
    played = Played(lambda streams: None)
    played.streams.deadline = time.monotonic() + 0.5
    over = threading.Event()

    def other_side():
        while not over.is_set():
            try:
                theirs(played)
            except OSError:
                return

    def steps():
        try:
            while True:
                step(played)
        except Deadline:
            pass

    threading.Thread(target=other_side, daemon=True).start()
    wrong = within(steps)
    over.set()
    if not wrong:
        played.close()
    return wrong


def trial_boot() -> str:
    """KVM is believed only when a kernel ran with it: not where that hangs, dies, or cannot even be started."""
    kernel = "echo 'VFS: Unable to mount root fs on unknown-block(0,0)'"
    with tempfile.TemporaryDirectory() as folder:
        played = Path(folder, "qemu")
        for script, runs in ((kernel, True), ("exec sleep 60", False), ("echo Booting; exit 1", False), ("kill -ABRT $$", False)):
            played.write_text(f"#!/bin/sh\n{script}\n")
            played.chmod(0o755)
            if accel._trial(str(played), 1) != runs:
                return f"with {script!r} KVM is {'not ' if runs else ''}taken"
    return ""


def memory_was_short() -> str:
    """Of allocations that fail only those of the one who may are let pass."""
    log = """[ 1.0] a: page allocation failure: order:0, mode:0xc0de0
[ 1.1] Call Trace:
[ 1.2]  <TASK>
[ 1.3]  {whose}+0x2b/0x90
[ 1.4]  </TASK>
[ 1.5] Mem-Info:"""
    may = [re.compile(r"page allocation failure: order:0.* may_be_short\+")]
    theirs, others = log.format(whose="may_be_short"), log.format(whose="another")
    trace = "[ 2.0] Call Trace:"
    for text, count in ((theirs, 0), (others, 1), (f"{theirs}\n{others}", 1), (f"{theirs}\n{trace}", 1), (f"{others}\n{trace}", 2)):
        found = health.complaints(text, may)
        if len(found) != count:
            return f"{len(found)} complaints instead of {count}: {found}"
    if len(health.complaints(theirs, [])) != 1:
        return "it passes where nobody may"
    return ""


ALL = {
    "memory-was-short": memory_was_short,
    "trial-boot": trial_boot,
    "request and answer": request_and_answer,
    "request and end": request_and_end,
    "whose answer": whose_answer,
    "talks without end": talks_without_end,
    "does not read": does_not_read,
    "nudged without end": nudged_without_end,
    "early request": early_request,
    "last words": last_words,
    "does not greet": does_not_greet,
    "stillness": stillness,
    "late verdict": late_verdict,
    "refused template": refused_template,
    "template taken": template_taken,
    "half a folder": half_a_folder,
    "skipped": skipped,
}
