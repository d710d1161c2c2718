# SPDX-License-Identifier: GPL-2.0
"""Checks of the runner that need no guest: `tools/vm/selftest` runs them. Each returns what is wrong, or nothing."""

import json
import socket
import threading
import time

from .streams import Streams

SECONDS = 30  # for what takes no time; only what hangs takes it


class Played:
    """Streams whose other ends are here: the check plays QEMU. What comes, and `answer`, says what is done with a request on `control`."""

    def __init__(self, on_control):
        ends, self.far = {}, {}
        for name in ("kernel", "control", "qmp"):
            ends[name], self.far[name] = socket.socketpair()
        self.on_control = on_control
        self.got = []
        self.streams = Streams(ends, self._data)
        self.streams.deadline = time.monotonic() + SECONDS

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
    played.streams.nudge()
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


ALL = {
    "request and answer": request_and_answer,
    "request and end": request_and_end,
}
