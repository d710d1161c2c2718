#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Packs a sample disk into the compact form that tests/host/src/samples.rs reads.

    pack.py IN OUT.sparse.xz [--size BYTES] [--block BYTES]

IN is a whole disk, or with --size the tail piece of a disk of that many bytes; .xz and .gz are
unpacked. OUT holds, xz-compressed and little-endian: "EMDSPRS1", u64 disk size in bytes, u32
logical block size, u32 0, then runs of sectors that are not all zero: u64 first sector, u64 number
of sectors, the bytes. Sectors in no run are zero (of a tail piece: unknown, read as zero).
"""
import argparse, gzip, lzma, struct

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("target")
parser.add_argument("--size", type=int)
parser.add_argument("--block", type=int, default=512)
args = parser.parse_args()
opener = lzma.open if args.source.endswith(".xz") else gzip.open if args.source.endswith(".gz") else open
with opener(args.source, "rb") as f:
    data = f.read()
size = args.size or len(data)
assert size % 512 == 0 and len(data) % 512 == 0, (size, len(data))
first = (size - len(data)) // 512
zero = bytes(512)
runs = []
for i in range(len(data) // 512):
    if data[i * 512:i * 512 + 512] != zero:
        if runs and runs[-1][0] + runs[-1][1] == i:
            runs[-1][1] += 1
        else:
            runs.append([i, 1])
out = [b"EMDSPRS1", struct.pack("<QII", size, args.block, 0)]
for start, count in runs:
    out.append(struct.pack("<QQ", first + start, count))
    out.append(data[start * 512:(start + count) * 512])
with open(args.target, "wb") as f:
    f.write(lzma.compress(b"".join(out), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=9))
