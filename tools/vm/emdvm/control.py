# SPDX-License-Identifier: GPL-2.0
"""The host's side of `host VERB ...` in the guest (tools/vm/guest/host). One line each way; `put` and `dmesg` carry bytes."""

import re
from pathlib import Path

from .streams import Refused

MOST_BYTES = 64 << 20


class Control:
    """Cuts the stream into requests, and answers each with what `actions` has for its verb.

    actions: {verb: function(arguments)}; it returns the answer's text, or None for a request without an answer.
    """

    def __init__(self, actions, answer, folder: Path):
        self.actions = actions
        self.answer = answer
        self.folder = folder
        self.dmesg = ""
        self._rest = b""
        self._file = None

    def feed(self, data: bytes):
        self._rest += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._file:
            name, size = self._file
            if len(self._rest) < size:
                return False
            body, self._rest, self._file = self._rest[:size], self._rest[size:], None
            self._keep(name, body)
            self.answer("ok")
            return True
        line, found, rest = self._rest.partition(b"\n")
        if not found:
            return False
        self._rest = rest
        self._request(line.decode(errors="replace").strip())
        return True

    def _request(self, line: str):
        verb, _, arguments = line.partition(" ")
        try:
            if verb == "put":
                name, size = arguments.rsplit(" ", 1)
                if not re.fullmatch(r"[\w][\w.+-]*", name) or not 0 <= int(size) <= MOST_BYTES:
                    raise ValueError("put wants a plain file name and at most 64 MiB")
                self._file = (name, int(size))
                return
            if verb not in self.actions:
                raise ValueError(f"no {verb!r}; there are: put {' '.join(self.actions)}")
            text = self.actions[verb](arguments)
        except (ValueError, Refused) as problem:
            text = None
            self.answer(f"error {problem}".replace("\n", " "))
        if text is not None:
            self.answer(f"ok {text}".strip())

    def _keep(self, name: str, body: bytes):
        if name == "dmesg":
            self.dmesg = body.decode(errors="replace")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(body)
