# SPDX-License-Identifier: GPL-2.0
"""Writes cpio archives (newc), the format of an initramfs. Everything in them belongs to root."""

import os
import stat
from pathlib import Path


class Archive:
    def __init__(self, stream):
        self.stream = stream
        self.inode = 0
        self.folders = set()

    def folder(self, path: str):
        path = path.strip("/")
        if not path or path in self.folders:
            return
        self.folder(os.path.dirname(path))
        self.folders.add(path)
        self._entry(path, stat.S_IFDIR | 0o755, b"")

    def bytes(self, path: str, data: bytes, mode: int = 0o644):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFREG | mode, data)

    def file(self, path: str, source: Path, mode: int = 0):
        self.bytes(path, source.read_bytes(), mode or stat.S_IMODE(source.stat().st_mode))

    def link(self, path: str, target: str):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def node(self, path: str, major: int, minor: int):
        self.folder(os.path.dirname(path))
        self._entry(path.strip("/"), stat.S_IFCHR | 0o600, b"", major, minor)

    def close(self):
        self._entry("TRAILER!!!", 0, b"")
        self.stream.write(bytes(-self.stream.tell() % 512))

    def _entry(self, path, mode, data, major=0, minor=0):
        self.inode += 1
        name = path.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self.stream.write(header + name + bytes(-(len(header) + len(name)) % 4))
        self.stream.write(data + bytes(-len(data) % 4))
