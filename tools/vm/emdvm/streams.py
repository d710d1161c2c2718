# SPDX-License-Identifier: GPL-2.0
"""This side of the streams to a QEMU process (`Machine`), and QMP, which is one of them. One thread has it all. All waiting has a deadline."""

import json
import selectors
import time

NUDGE = "nudge"
GREETING = "greeting"
LATE_SECONDS = 5
NUDGE_SECONDS = 2


class MachineError(Exception):
    pass


class Died(MachineError):
    pass


class Deadline(MachineError):
    pass


class Refused(MachineError):
    """QEMU or the guest did not do what was asked; the machine goes on."""


class Streams:
    def __init__(self, ends, on_data):
        """ends: {stream: socket}; they are closed with it. on_data(stream, bytes) gets all but qmp, and may ask QEMU for something before it returns;
        nothing comes before `greeting`."""
        self.ours = ends
        self.on_data = on_data
        self.deadline = self.nudge_at = float("inf")
        self.events = []
        self._qmp_rest = b""
        self._commands = 0
        self._answers = {}  # by what was asked
        self.selector = selectors.DefaultSelector()
        for end in ends.values():
            end.setblocking(False)
        self.selector.register(ends["qmp"], selectors.EVENT_READ, "qmp")

    def pump(self, until: float):
        """Handles what has arrived, waiting up to `until` for something to arrive."""
        if not self.selector.get_map():
            raise Died
        # What came in time counts, though this program may have stood still meanwhile; but who talks without end has a deadline too.
        is_late = time.monotonic() >= self.deadline + LATE_SECONDS
        ready = self.selector.select(max(0.0, until - time.monotonic()))
        if is_late or not ready and time.monotonic() >= self.deadline:
            raise Deadline
        for key, _ in ready:
            # What was asked for meanwhile (`on_data`) has pumped too: it may have taken this, or seen this stream's end.
            if key.fd not in self.selector.get_map():
                continue
            data = self._receive(key.fileobj)
            if data is None:
                continue
            if not data:
                self.selector.unregister(key.fileobj)
                if not self.selector.get_map():
                    raise Died
            elif key.data == "qmp":
                self._qmp_data(data)
            else:
                self.on_data(key.data, data)
        if time.monotonic() >= self.nudge_at:
            self.nudge()
            self.nudge_at = time.monotonic() + NUDGE_SECONDS

    @staticmethod
    def _receive(end):
        """None when there is nothing, and no bytes at its end."""
        try:
            return end.recv(65536)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def send(self, stream: str, data: bytes):
        end = self.ours[stream]
        while data:
            try:
                data = data[end.send(data) :]
            except BlockingIOError:
                self._wait_for_room(end)
            except (BrokenPipeError, ConnectionResetError):
                self._last_words()
                raise Died from None

    def _last_words(self):
        """What the guest said before the machine ended; its requests come too late."""
        for key in list(self.selector.get_map().values()):
            while key.data not in ("qmp", "control") and (data := self._receive(key.fileobj)):
                self.on_data(key.data, data)

    def _wait_for_room(self, end):
        """Who does not read what it is sent is not waited for longer than for anything else."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise Deadline
        with selectors.DefaultSelector() as room:
            room.register(end, selectors.EVENT_WRITE)
            room.select(min(seconds, 1))

    def qmp(self, command: str, **arguments):
        """QEMU's answer to this command and to no other: while it is waited for, a guest's request may lead to another one (`on_data`)."""
        self._commands += 1
        number = self._commands
        self.send("qmp", json.dumps({"execute": command, "arguments": arguments, "id": number}).encode() + b"\n")
        answer = self._answer(number)
        if "error" in answer:
            raise Refused(f"QEMU refused {command}: {answer['error']['desc']}")
        return answer["return"]

    def greeting(self):
        """QMP's first line, and what makes it ready for commands. From now on the guest is heard."""
        self._answer(GREETING)
        self.qmp("qmp_capabilities")
        for name, end in self.ours.items():
            if name != "qmp":
                self.selector.register(end, selectors.EVENT_READ, name)
        self.nudge_at = time.monotonic()

    def nudge(self):
        """Has QEMU's main loop look at all that there is to do. It has been seen asleep, once in hundreds of boots, with disks' I/O done and
        output to be sent, until it was asked something. Nobody waits for the answer. `pump` does it, whatever is waited for, every few seconds."""
        try:
            self.ours["qmp"].send(json.dumps({"execute": "query-status", "id": NUDGE}).encode() + b"\n")
        except OSError:
            pass  # it ends: `pump` will see that, after what it said last. Or it has not read the many before this one.

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

    def close(self):
        self.selector.close()
        for end in self.ours.values():
            end.close()

    def _qmp_data(self, data: bytes):
        *lines, self._qmp_rest = (self._qmp_rest + data).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif message.get("id") != NUDGE:
                self._answers[message.get("id", GREETING)] = message

    def _answer(self, number):
        while number not in self._answers:
            self.pump(min(self.deadline, time.monotonic() + 1))
        return self._answers.pop(number)
