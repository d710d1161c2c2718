// SPDX-License-Identifier: GPL-2.0
/*
 * Writes and verifies data that is known, quickly: for the many states of an array that fio takes too long to start for.
 *
 *   pattern write  DEVICE SEED [FIRST_KIB KIB]    pieces of 512 bytes to 128 KiB, every second one first, by several processes
 *   pattern verify DEVICE SEED [FIRST_KIB KIB]    status 1 and the first sector that is wrong
 *   pattern load   DEVICE STOPFILE FIRST_KIB KIB  writes and verifies over and over until STOPFILE is there
 *   pattern sum    DEVICE                         prints a checksum of all that it holds, read past the page cache
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, SECTOR = 512, PIECE_MAX = 256 };

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
static int sum(const char *name)
{
	uint64_t lanes[4] = { 1, 2, 3, 4 }, total = 0;
	ssize_t got;

	device = open(name, O_RDONLY | O_DIRECT);
	if (device < 0 || posix_memalign((void **)&buffer, 4096, 1 << 20))
		fail(name, 0);
	while ((got = read(device, buffer, 1 << 20)) > 0)
		for (ssize_t i = 0; i + 4 <= got / 8; i += 4)
			for (int lane = 0; lane < 4; lane++)
				lanes[lane] = (lanes[lane] << 23 | lanes[lane] >> 41) * 0x9e3779b97f4a7c15ull + buffer[i + lane];
	if (got < 0)
		fail(name, (uint64_t)lseek(device, 0, SEEK_CUR) / SECTOR);
	for (int lane = 0; lane < 4; lane++)
		total = mix(total ^ lanes[lane]);
	printf("%016llx\n", (unsigned long long)total);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t bytes, first, end, share;
	int size, status, result = 0;

	if (argc == 3 && !strcmp(argv[1], "sum"))
		return sum(argv[2]);
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
