# SPDX-License-Identifier: GPL-2.0
"""One QEMU process and the four streams to it.

kernel   what the kernel prints on its serial console
output   what the test prints (virtio console)
control  the guest's requests to the host, line by line (virtio port org.emd.control)
qmp      QEMU's own control

They are socket pairs handed over as open files: no names, no left-overs, closed when either side dies.
All waiting has a deadline. QEMU gets SIGKILL when the thread that started it ends.
"""

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import time

from .stillness import Stillness

STREAMS = ("kernel", "output", "control", "qmp")
PR_SET_PDEATHSIG = 1
NUDGE = "nudge"
SO_SNDBUFFORCE = 32  # Python has no name for it
STREAM_BYTES = 64 << 20
_libc = ctypes.CDLL(None)


class MachineError(Exception):
    pass


class Died(MachineError):
    pass


class Deadline(MachineError):
    pass


class Refused(MachineError):
    """QEMU or the guest did not do what was asked; the machine goes on."""


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _make_room(end):
    """QEMU's serial port writes byte by byte, and each byte costs a socket nearly a kilobyte: by default there is room for some 250. A guest
    has been seen to stand still when they were full for a while and its console had to wait. A person who is not root gets twice as much."""
    try:
        end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, STREAM_BYTES)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BYTES)


class Machine:
    def __init__(self, arguments, on_data, stderr, terminal=False):
        """on_data(stream, bytes) gets all but qmp. With `terminal`, output is this process's own terminal."""
        self.on_data = on_data
        self.ours = {}
        self.events = []
        self.cpu_seconds = 0.0  # of this machine, known when it has ended
        self._qmp_rest = b""
        self._answers = []
        theirs = {}
        for name in STREAMS:
            self.ours[name], theirs[name] = socket.socketpair()
            self.ours[name].setblocking(True)
            _make_room(theirs[name])
        command = ["qemu-system-x86_64", *arguments]
        for name, end in theirs.items():
            if name == "output" and terminal:
                command += ["-chardev", "stdio,id=output,signal=off,mux=on"]
            else:
                command += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
        command += ["-serial", "chardev:kernel", "-mon", "chardev=qmp,mode=control"]
        command += ["-device", "virtio-serial-pci,id=ports", "-device", "virtconsole,chardev=output"]
        command += ["-device", "virtserialport,chardev=control,name=org.emd.control"]
        if terminal:
            command += ["-mon", "chardev=output"]
        self.process = subprocess.Popen(
            command,
            stdin=None if terminal else subprocess.DEVNULL,
            stdout=None if terminal else stderr,
            stderr=stderr,
            pass_fds=[end.fileno() for end in theirs.values()],
            preexec_fn=_die_with_parent,
        )
        self.stillness = Stillness(self.process.pid)
        self.selector = selectors.DefaultSelector()
        for name, end in theirs.items():
            end.close()
            self.selector.register(self.ours[name], selectors.EVENT_READ, name)
        self.deadline = time.monotonic() + 20
        self._qmp_line(lambda message: "QMP" in message)
        self.qmp("qmp_capabilities")

    def pump(self, until: float):
        """Handles what has arrived, waiting up to `until` for something to arrive."""
        ready = self.selector.select(max(0.0, until - time.monotonic()))
        if not ready and time.monotonic() >= self.deadline:
            raise Deadline
        for key, _ in ready:
            data = self._receive(key.fileobj)
            if not data:
                self.selector.unregister(key.fileobj)
                if not self.selector.get_map():
                    raise Died
            elif key.data == "qmp":
                self._qmp_data(data)
            else:
                self.stillness.heard()
                self.on_data(key.data, data)

    @staticmethod
    def _receive(end) -> bytes:
        try:
            return end.recv(65536)
        except ConnectionResetError:
            return b""

    def send(self, stream: str, data: bytes):
        try:
            self.ours[stream].sendall(data)
        except BrokenPipeError:
            raise Died from None

    def qmp(self, command: str, **arguments):
        self.send("qmp", json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer = self._qmp_line(lambda message: "return" in message or "error" in message)
        if "error" in answer:
            raise Refused(f"QEMU refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def nudge(self):
        """Has QEMU's main loop look at all that there is to do. It has been seen asleep, once in hundreds of boots, with disks' I/O done and
        output to be sent, until it was asked something. Nobody waits for the answer."""
        try:
            self.ours["qmp"].sendall(json.dumps({"execute": "query-status", "id": NUDGE}).encode() + b"\n")
        except OSError:
            pass  # it ends: `pump` will see that, after what it said last

    def wait_event(self, name: str, seconds: float, **data):
        """Waits for a QMP event with these data, among those that came since the last call too."""
        limit = time.monotonic() + seconds
        while True:
            for event in self.events:
                if event["event"] == name and all(event["data"].get(k) == v for k, v in data.items()):
                    self.events.remove(event)
                    return
            if time.monotonic() > limit:
                raise Refused(f"no {name} within {seconds:.0f} s")
            self.pump(min(limit, time.monotonic() + 1))

    def _qmp_data(self, data: bytes):
        *lines, self._qmp_rest = (self._qmp_rest + data).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            message = json.loads(line)
            if message.get("id") == NUDGE:
                continue
            (self.events if "event" in message else self._answers).append(message)

    def _qmp_line(self, wanted):
        while True:
            for message in self._answers:
                if wanted(message):
                    self._answers.remove(message)
                    return message
            self.pump(min(self.deadline, time.monotonic() + 1))

    def ended(self, seconds: float) -> bool:
        """Whether QEMU ends by itself within so many seconds."""
        limit = time.monotonic() + seconds
        # Its times are there until it is waited for.
        while not os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > limit:
                return False
            time.sleep(0.01)
        return True

    def kill(self):
        """Power cut: what the guest has not written yet never comes."""
        os.kill(self.process.pid, signal.SIGKILL)  # it has not been waited for
        _, _, used = os.wait4(self.process.pid, 0)
        self.process.returncode = -signal.SIGKILL
        self.cpu_seconds = used.ru_utime + used.ru_stime
        self.selector.close()
        for end in self.ours.values():
            end.close()
