// SPDX-License-Identifier: GPL-2.0
/*
 * I/O past the page cache as few programs do it. Prints "done", or why not.
 *
 *   odd-io gap DEVICE OFFSET BYTE    writes a block of 4096 bytes from buffers with a gap between them in memory: 512 bytes at the start of
 *                                    a page, and the rest at the start of another one
 *   odd-io nowait DEVICE OFFSET      reads such a block, and does not want to wait (RWF_NOWAIT)
 *   odd-io whole-write DEVICE OFFSET MIB    writes so much from huge pages (which there have to be): that is one bio
 *   odd-io whole-read DEVICE OFFSET MIB     reads it
 *   odd-io scribble DEVICE OFFSET COUNT     writes so many pieces of 64 KiB, one after the other, from a buffer that somebody else changes all the
 *                                           time. Prints during how many writes it was changed
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, FIRST = 512, PIECE = 65536 };

static int say(ssize_t done, ssize_t wanted)
{
	if (done == wanted)
		puts("done");
	else
		puts(done < 0 ? strerror(errno) : "cut short");
	return 0;
}

static int whole(int device, int is_write, off_t offset, size_t bytes)
{
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (room == MAP_FAILED) {
		perror("huge pages");
		return 1;
	}
	memset(room, 1, bytes);
	return say(is_write ? pwrite(device, room, bytes, offset) : pread(device, room, bytes, offset), (ssize_t)bytes);
}

static int scribble(int device, off_t offset, int count)
{
	volatile uint64_t *words = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	pid_t scribbler;
	int changed = 0;

	if (words == MAP_FAILED || (scribbler = fork()) < 0) {
		perror("scribble");
		return 1;
	}
	if (!scribbler)
		for (uint64_t value = 1;; value++)
			for (int i = 0; i < PIECE / 8; i++)
				words[i] = value << 16 ^ i;
	for (int i = 0; i < count; i++) {
		uint64_t before = words[0];

		if (pwrite(device, (void *)words, PIECE, offset + (off_t)i * PIECE) != PIECE) {
			perror("scribble");
			count = -1;
		}
		changed += words[0] != before;
	}
	kill(scribbler, SIGKILL);
	waitpid(scribbler, NULL, 0);
	printf("%d\n", changed);
	return count < 0;
}

int main(int argc, char **argv)
{
	struct iovec parts[2];
	ssize_t done;
	int device;

	if (argc < 4)
		return 2;
	device = open(argv[2], O_RDWR | O_DIRECT);
	if (device < 0) {
		perror(argv[2]);
		return 1;
	}
	if (!strncmp(argv[1], "whole-", 6))
		return argc < 5 ? 2 : whole(device, !strcmp(argv[1], "whole-write"), atoll(argv[3]), (size_t)atoll(argv[4]) << 20);
	if (!strcmp(argv[1], "scribble"))
		return argc < 5 ? 2 : scribble(device, atoll(argv[3]), atoi(argv[4]));
	for (int i = 0; i < 2; i++) {
		parts[i].iov_base = aligned_alloc(BLOCK, BLOCK);
		if (!parts[i].iov_base)
			return 1;
		memset(parts[i].iov_base, argc > 4 ? atoi(argv[4]) : 0, BLOCK);
	}
	if (!strcmp(argv[1], "gap")) {
		parts[0].iov_len = FIRST;
		parts[1].iov_len = BLOCK - FIRST;
		done = pwritev(device, parts, 2, atoll(argv[3]));
	} else {
		parts[0].iov_len = BLOCK;
		done = preadv2(device, parts, 1, atoll(argv[3]), RWF_NOWAIT);
	}
	return say(done, BLOCK);
}
