# SPDX-License-Identifier: GPL-2.0
"""A boot's log: what kernel and test said, in the order of arrival, each line with its second."""

import re
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r")
MARKS = {"kernel": "k", "output": "|", "host": "*"}


class Log:
    def __init__(self, path, on_line=None):
        self.stream = path.open("w")
        self.on_line = on_line
        self.started = time.monotonic()
        self.lines = []
        self.kernel = []
        self._rests = {}

    def data(self, source: str, data: bytes):
        *lines, self._rests[source] = (self._rests.get(source, b"") + data).split(b"\n")
        for line in lines:
            self.line(source, line.decode(errors="replace"))

    def line(self, source: str, text: str):
        text = ESCAPES.sub("", text)
        if source == "kernel":
            self.kernel.append(text)
        entry = f"{time.monotonic() - self.started:8.2f} {MARKS[source]} {text}"
        self.lines.append(entry)
        self.stream.write(entry + "\n")
        self.stream.flush()
        if self.on_line:
            self.on_line(source, text)

    def close(self):
        for source, rest in self._rests.items():
            if rest:
                self.line(source, rest.decode(errors="replace"))
        self._rests = {}
        self.stream.close()
