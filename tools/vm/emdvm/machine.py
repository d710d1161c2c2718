# SPDX-License-Identifier: GPL-2.0
"""One QEMU process and the four streams to it.

kernel   what the kernel prints on its serial console
output   what the test prints (virtio console)
control  the guest's requests to the host, line by line (virtio port org.emd.control)
qmp      QEMU's own control

They are socket pairs handed over as open files: no names, no left-overs, closed when either side dies.
QEMU gets SIGKILL when the thread that started it ends.
"""

import os
import signal
import socket
import subprocess
import time

from .limits import scale
from .stillness import Stillness
from .streams import Streams

STREAMS = ("kernel", "output", "control", "qmp")
# Between fork and exec no Python may run where there are threads, so this asks for the signal.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
SO_SNDBUFFORCE = 32  # Python has no name for it
STREAM_BYTES = 64 << 20


def _make_room(end):
    """QEMU's serial port writes byte by byte, and each byte costs a socket nearly a kilobyte: by default there is room for some 250. A guest
    has been seen to stand still when they were full for a while and its console had to wait. A person who is not root gets twice as much."""
    try:
        end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, STREAM_BYTES)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BYTES)


class Machine(Streams):
    PROGRAM = "qemu-system-x86_64"
    START_SECONDS = 20

    def __init__(self, arguments, on_data, stderr, terminal=False):
        """Raises a MachineError when QEMU does not start. on_data(stream, bytes) gets all but qmp. With `terminal`, output is this process's own terminal."""
        self.cpu_seconds = 0.0  # of this machine, known when it has ended
        ours, theirs = {}, {}
        for name in STREAMS:
            ours[name], theirs[name] = socket.socketpair()
            _make_room(theirs[name])
        command = [*DIES_WITH_US, self.PROGRAM, *arguments]
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
        )
        for end in theirs.values():
            end.close()
        self.stillness = Stillness(self.process.pid)

        def heard(stream, data):
            self.stillness.heard()
            on_data(stream, data)

        super().__init__(ours, heard)
        try:
            self.deadline = time.monotonic() + self.START_SECONDS * scale()
            self.greeting()
        except BaseException:
            self.kill()
            raise

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
        """Power cut: what the guest has not written yet never comes. Once more does nothing."""
        if self.process.returncode is not None:
            return
        os.kill(self.process.pid, signal.SIGKILL)  # it has not been waited for
        _, _, used = os.wait4(self.process.pid, 0)
        self.process.returncode = -signal.SIGKILL
        self.cpu_seconds = used.ru_utime + used.ru_stime
        self.close()
