// SPDX-License-Identifier: GPL-2.0
/*
 * Writes and verifies data that is known, quickly: for the many states of an array that fio takes too long to start for.
 *
 *   pattern write  DEVICE SEED [FIRST_KIB KIB]    pieces of 512 bytes to 128 KiB, every second one first, by several processes
 *   pattern verify DEVICE SEED [FIRST_KIB KIB]    status 1 and the first sector that is wrong
 *   pattern load   DEVICE STOPFILE FIRST_KIB KIB  writes and verifies over and over until STOPFILE is there
 *   pattern sum    DEVICE [FIRST_KIB KIB]         prints a checksum of what it holds, read past the page cache
 *   pattern fill   DEVICE SEED [KIB]              writes all of it, or its start, a megabyte at a time; prints what `sum` should find there
 *   pattern known  SEED BYTES                     prints so many bytes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, SECTOR = 512, PIECE_MAX = 256, STREAM = 1 << 20 };

static int device;
static unsigned int granule; /* sectors that can be addressed */
static uint64_t *buffer;

static uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
	return value ^ (value >> 31);
}

static void fail(const char *what, uint64_t sector)
{
	fprintf(stderr, "pattern: %s at sector %llu: %s\n", what, (unsigned long long)sector, errno ? strerror(errno) : "other data");
	exit(1);
}

/* No two sectors of any seeds have the same. */
static void make(uint64_t seed, uint64_t sector, unsigned int sectors)
{
	for (unsigned int s = 0; s < sectors; s++) {
		uint64_t start = mix(seed << 40 ^ (sector + s));

		for (unsigned int i = 0; i < SECTOR / 8; i++)
			buffer[s * (SECTOR / 8) + i] = start + i * 0x9e3779b97f4a7c15ull;
	}
}

static void put(uint64_t seed, uint64_t sector, unsigned int sectors)
{
	ssize_t done;

	make(seed, sector, sectors);
	errno = 0;
	done = pwrite(device, buffer, (size_t)sectors * SECTOR, (off_t)(sector * SECTOR));
	if (done != (ssize_t)sectors * SECTOR)
		fail("write", sector);
}

static void check(uint64_t seed, uint64_t sector, unsigned int sectors)
{
	uint64_t *read = buffer + PIECE_MAX * SECTOR / 8;

	errno = 0;
	if (pread(device, read, (size_t)sectors * SECTOR, (off_t)(sector * SECTOR)) != (ssize_t)sectors * SECTOR)
		fail("read", sector);
	make(seed, sector, sectors);
	errno = 0;
	for (unsigned int s = 0; s < sectors; s++)
		if (memcmp((char *)read + s * SECTOR, (char *)buffer + s * SECTOR, SECTOR))
			fail("verify", sector + s);
}

/* One of two: even pieces, odd pieces. Lengths follow from the place, so they are the same each time. */
static void write_pieces(uint64_t seed, uint64_t first, uint64_t end, unsigned int which)
{
	unsigned int number = 0;

	for (uint64_t at = first; at < end; number++) {
		uint64_t chance = mix(at ^ seed << 32);
		/* As many small ones as large ones. */
		uint64_t length = (chance >> 8) % (1u << (1 + chance % 8)) + 1;

		length = (length + granule - 1) / granule * granule;
		if (length > end - at)
			length = end - at;
		if (number % 2 == which)
			put(seed, at, (unsigned int)length);
		at += length;
	}
}

static void write_all(uint64_t seed, uint64_t first, uint64_t end)
{
	write_pieces(seed, first, end, 0);
	write_pieces(seed, first, end, 1);
}

static void verify_all(uint64_t seed, uint64_t first, uint64_t end)
{
	for (uint64_t at = first; at < end; at += PIECE_MAX)
		check(seed, at, end - at < PIECE_MAX ? (unsigned int)(end - at) : PIECE_MAX);
}

/* In order of places: what stands elsewhere gives another sum. */
static uint64_t lanes[4] = { 1, 2, 3, 4 };

static void add(const uint64_t *words, size_t bytes)
{
	for (size_t i = 0; i + 4 <= bytes / 8; i += 4)
		for (int lane = 0; lane < 4; lane++)
			lanes[lane] = (lanes[lane] << 23 | lanes[lane] >> 41) * 0x9e3779b97f4a7c15ull + words[i + lane];
}

static int print_sum(void)
{
	uint64_t total = 0;

	for (int lane = 0; lane < 4; lane++)
		total = mix(total ^ lanes[lane]);
	printf("%016llx\n", (unsigned long long)total);
	return 0;
}

static int sum(const char *name, uint64_t at, uint64_t end)
{
	ssize_t got = 1;

	device = open(name, O_RDONLY | O_DIRECT);
	if (device < 0 || posix_memalign((void **)&buffer, 4096, STREAM))
		fail(name, 0);
	for (; at < end && got > 0; at += (uint64_t)got) {
		got = pread(device, buffer, end - at < STREAM ? end - at : STREAM, (off_t)at);
		if (got < 0)
			fail(name, at / SECTOR);
		add(buffer, (size_t)got);
	}
	return print_sum();
}

static int fill(const char *name, uint64_t seed, uint64_t most)
{
	uint64_t bytes;

	device = open(name, O_WRONLY | O_DIRECT);
	if (device < 0 || ioctl(device, BLKGETSIZE64, &bytes) || posix_memalign((void **)&buffer, 4096, STREAM))
		fail(name, 0);
	if (bytes > most)
		bytes = most;
	for (uint64_t at = 0; at < bytes; at += STREAM) {
		unsigned int length = bytes - at < STREAM ? (unsigned int)(bytes - at) : STREAM;

		put(seed, at / SECTOR, length / SECTOR);
		add(buffer, length);
	}
	return print_sum();
}

static int known(uint64_t seed, uint64_t bytes)
{
	if (posix_memalign((void **)&buffer, 4096, STREAM))
		return 2;
	for (uint64_t at = 0; at < bytes; at += STREAM) {
		uint64_t length = bytes - at < STREAM ? bytes - at : STREAM;

		make(seed, at / SECTOR, (unsigned int)((length + SECTOR - 1) / SECTOR));
		/* Who has enough of it reads no more. */
		for (uint64_t done = 0; done < length;) {
			ssize_t put = write(1, (char *)buffer + done, length - done);

			if (put < 0)
				return 1;
			done += (uint64_t)put;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t bytes, first, end, share;
	int size, status, result = 0;
	cpu_set_t processors;

	if (argc == 3 && !strcmp(argv[1], "sum"))
		return sum(argv[2], 0, UINT64_MAX);
	if (argc == 5 && !strcmp(argv[1], "sum"))
		return sum(argv[2], strtoull(argv[3], NULL, 10) << 10, (strtoull(argv[3], NULL, 10) + strtoull(argv[4], NULL, 10)) << 10);
	if (argc == 4 && !strcmp(argv[1], "fill"))
		return fill(argv[2], strtoull(argv[3], NULL, 10), UINT64_MAX);
	if (argc == 5 && !strcmp(argv[1], "fill"))
		return fill(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10) << 10);
	if (argc == 4 && !strcmp(argv[1], "known"))
		return known(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	if (argc != 4 && argc != 6)
		return 2;
	device = open(argv[2], O_RDWR | O_DIRECT);
	if (device < 0 || ioctl(device, BLKGETSIZE64, &bytes) || ioctl(device, BLKSSZGET, &size))
		fail(argv[2], 0);
	granule = (unsigned int)size / SECTOR;
	if (posix_memalign((void **)&buffer, 4096, 2 * PIECE_MAX * SECTOR))
		return 2;
	first = argc == 6 ? strtoull(argv[4], NULL, 10) * 2 : 0;
	end = argc == 6 ? first + strtoull(argv[5], NULL, 10) * 2 : bytes / SECTOR;
	/* On all processors, wherever the shell may be. */
	memset(&processors, 0xff, sizeof(processors));
	sched_setaffinity(0, sizeof(processors), &processors);
	share = (end - first) / PROCESSES / granule * granule;
	for (int i = 0; i < PROCESSES; i++) {
		uint64_t from = first + (uint64_t)i * share, to = i == PROCESSES - 1 ? end : from + share;
		uint64_t seed = 100;

		if (fork())
			continue;
		if (!strcmp(argv[1], "write")) {
			write_all(strtoull(argv[3], NULL, 10), from, to);
		} else if (!strcmp(argv[1], "verify")) {
			verify_all(strtoull(argv[3], NULL, 10), from, to);
		} else {
			do {
				write_all(++seed, from, to);
				verify_all(seed, from, to);
			} while (access(argv[3], F_OK));
		}
		exit(0);
	}
	while (wait(&status) > 0)
		if (status)
			result = 1;
	return result;
}
