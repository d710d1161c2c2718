// SPDX-License-Identifier: GPL-2.0
/*
 * A disk with sectors that cannot be read until they are written, as a disk of today has them, or that refuse to be written (its own server of the kernel's nbd).
 *
 *   baddisk DEVICE KIB FOLDER
 *
 * FOLDER/data is what it holds, FOLDER/bad has a byte for each sector of 512 bytes: not 0, and the sector cannot be read. FOLDER/fixed has one, too: not 0, and
 * a write that touches the sector may be refused, and changes nothing then; FOLDER/refusals, a single byte, says how many of these are (255: all), and counts down.
 * FOLDER/unflushed is the same for flushes: so many are refused.
 * FOLDER/../refused is such a byte for all disks at the same time: not 0, and all are refused.
 * All may be looked at and changed by others at any time (but not made shorter). Returns when DEVICE is there; the server ends when DEVICE is disconnected (or the machine is gone).
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SECTOR = 512, ALL = 255 };

struct disk {
	unsigned char *data, *bad, *fixed;
	volatile unsigned char *refusals, *refused, *unflushed;
	uint64_t size;
};

static void fail(const char *what)
{
	fprintf(stderr, "baddisk: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned char *mapped(const char *folder, const char *name, size_t bytes)
{
	char path[256];
	void *room;
	int file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = open(path, O_RDWR | O_CREAT, 0600);
	if (file < 0 || ftruncate(file, (off_t)bytes))
		fail(path);
	room = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (room == MAP_FAILED)
		fail(path);
	close(file);
	return room;
}

/* Whether all of it came, or went. */
static int whole(ssize_t (*move)(int, void *, size_t), int wire, void *bytes, size_t left)
{
	for (unsigned char *at = bytes; left;) {
		ssize_t moved = move(wire, at, left);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return 0;
		at += moved;
		left -= (size_t)moved;
	}
	return 1;
}

static ssize_t put(int wire, void *bytes, size_t left)
{
	return write(wire, bytes, left);
}

/* Whether a write of these sectors is one of those that are refused. */
static int refuses(const struct disk *disk, uint64_t first, uint64_t sectors)
{
	int touches = 0;

	for (uint64_t sector = first; sector < first + sectors; sector++)
		touches |= disk->fixed[sector];
	if (!touches || (!*disk->refusals && !*disk->refused))
		return 0;
	if (*disk->refusals && *disk->refusals != ALL)
		--*disk->refusals;
	return 1;
}

/* Bytes from the wire that go nowhere. */
static int skip(int wire, size_t left)
{
	static unsigned char nowhere[4096];

	for (size_t part; left; left -= part) {
		part = left < sizeof(nowhere) ? left : sizeof(nowhere);
		if (!whole(read, wire, nowhere, part))
			return 0;
	}
	return 1;
}

static void serve(int wire, const struct disk *disk)
{
	unsigned char *data = disk->data, *bad = disk->bad;
	uint64_t size = disk->size;
	struct nbd_request request;

	while (whole(read, wire, &request, sizeof(request))) {
		struct nbd_reply reply = { .magic = htobe32(NBD_REPLY_MAGIC) };
		uint32_t type = be32toh(request.type) & 0xffff, len = be32toh(request.len);
		uint64_t from = be64toh(request.from), first = from / SECTOR, sectors = len / SECTOR;
		int inside = from <= size && len <= size - from;

		memcpy(&reply.handle, &request.handle, sizeof(reply.handle));
		if (be32toh(request.magic) != NBD_REQUEST_MAGIC || type == NBD_CMD_DISC || !inside)
			return;
		if (type == NBD_CMD_WRITE && refuses(disk, first, sectors)) {
			if (!skip(wire, len))
				return;
			reply.error = htobe32(EIO);
		} else if (type == NBD_CMD_WRITE) {
			if (!whole(read, wire, data + from, len))
				return;
			memset(bad + first, 0, sectors);
		}
		if (type == NBD_CMD_FLUSH && *disk->unflushed) {
			--*disk->unflushed;
			reply.error = htobe32(EIO);
		}
		for (uint64_t sector = 0; type == NBD_CMD_READ && sector < sectors; sector++)
			if (bad[first + sector])
				reply.error = htobe32(EIO);
		if (!whole(put, wire, &reply, sizeof(reply)))
			return;
		if (type == NBD_CMD_READ && !reply.error && !whole(put, wire, data + from, len))
			return;
	}
}

int main(int argc, char **argv)
{
	struct disk disk;
	uint64_t size;
	int wires[2], device;

	if (argc != 4) {
		fprintf(stderr, "usage: baddisk DEVICE KIB FOLDER\n");
		return 2;
	}
	size = strtoull(argv[2], 0, 10) * 1024;
	disk = (struct disk){
		.data = mapped(argv[3], "data", size),
		.bad = mapped(argv[3], "bad", size / SECTOR),
		.fixed = mapped(argv[3], "fixed", size / SECTOR),
		.refusals = mapped(argv[3], "refusals", 1),
		.refused = mapped(argv[3], "../refused", 1),
		.unflushed = mapped(argv[3], "unflushed", 1),
		.size = size,
	};
	device = open(argv[1], O_RDWR);
	if (device < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, wires))
		fail(argv[1]);
	if (ioctl(device, NBD_SET_BLKSIZE, (unsigned long)SECTOR) || ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / SECTOR)) ||
	    ioctl(device, NBD_SET_FLAGS, (unsigned long)(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)) || ioctl(device, NBD_SET_SOCK, (unsigned long)wires[0]))
		fail(argv[1]);
	/* One serves, one is the kernel's thread for the device, and who asked for it goes on when it can be read. */
	if (!fork()) {
		close(wires[0]);
		close(device);
		serve(wires[1], &disk);
		_exit(0);
	}
	close(wires[1]);
	if (!fork()) {
		ioctl(device, NBD_DO_IT);
		_exit(0);
	}
	for (int tries = 0; tries < 1000; tries++) {
		static char sector[SECTOR];

		if (pread(device, sector, SECTOR, 0) == SECTOR)
			return 0;
		usleep(10000);
	}
	errno = ETIMEDOUT;
	fail(argv[1]);
}
