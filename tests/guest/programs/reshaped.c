// SPDX-License-Identifier: GPL-2.0
/*
 * The samples imsm/gen/grow-*: volumes in Intel metadata that mdadm was reshaping when the power went (docs/formats/imsm.md, "Migration record").
 *
 *   reshaped put DEVICE [copied] <SAMPLE  SAMPLE is one of tests/host/samples/imsm/gen/grow-r*, unpacked (pack.py there says what it is in). It becomes what
 *                                         the disk holds, whose table names disk1, disk2 ... instead of the sample's serial numbers. With "copied" the power
 *                                         went in the first unit: it is in the copy area, and what it is to replace is half written.
 *   reshaped check DEVICE SECTORS         whether it holds, in as many sectors, what was written before the reshape: sectors 0 to 4095 and the last 512 their
 *                                         numbers, counted from 1, the others zeroes
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
#include <unistd.h>

enum { SECTOR = 512, NUMBERED = 4096, NUMBERED_END = 512, PIECE = 2048 };
/* In bytes, in the MPB and in the migration record. */
enum { MPB_SUM = 0x20, MPB_BYTES = 0x24, MPB_DISKS = 0x38, MPB_TABLE = 0xd8, ENTRY = 48, SERIAL = 16, VOLUME_CHECKPOINT = 0x50 };
enum { RECORD_STATE = 0, RECORD_UNIT = 4, RECORD_DEPTH = 0x14, RECORD_COPY = 0x18, RECORD_TARGET = 0x1c };

static int device;

static void fail(const char *what)
{
	fprintf(stderr, "reshaped: %s: %s\n", what, errno ? strerror(errno) : "it is not as it should be");
	exit(1);
}

static uint32_t word(const unsigned char *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void set_word(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t take_number(int bytes)
{
	unsigned char in[8] = { 0 };

	if (fread(in, 1, (size_t)bytes, stdin) != (size_t)bytes)
		fail("the sample is too short");
	return word(in) | (uint64_t)word(in + 4) << 32;
}

static void get(void *to, uint64_t sector, uint64_t sectors)
{
	if (pread(device, to, sectors * SECTOR, (off_t)(sector * SECTOR)) != (ssize_t)(sectors * SECTOR))
		fail("read");
}

static void put(const void *from, uint64_t sector, uint64_t sectors)
{
	if (pwrite(device, from, sectors * SECTOR, (off_t)(sector * SECTOR)) != (ssize_t)(sectors * SECTOR))
		fail("write");
}

/* All of the sample; the disk's size in sectors. */
static uint64_t unpack(void)
{
	char magic[8];
	uint64_t bytes, size, all[2] = { 0 };
	int next;

	if (fread(magic, 1, sizeof(magic), stdin) != sizeof(magic) || memcmp(magic, "EMDSPRS1", sizeof(magic)))
		fail("no sample");
	bytes = take_number(8);
	if (take_number(8) != SECTOR || ioctl(device, BLKGETSIZE64, &size) || size != bytes)
		fail("the disk has another size than the sample's");
	all[1] = bytes;
	if (ioctl(device, BLKZEROOUT, all))
		fail("zeroes");
	while ((next = getchar()) != EOF) {
		uint64_t first, count;
		unsigned char *run;

		ungetc(next, stdin);
		first = take_number(8);
		count = take_number(8);
		run = malloc(count * SECTOR);
		if (!run || fread(run, SECTOR, count, stdin) != count)
			fail("the sample is too short");
		put(run, first, count);
		free(run);
	}
	return bytes / SECTOR;
}

/* The MPB: its first sector is the last but one of the disk, what follows is before that. */
static void change_mpb(uint64_t size, int is_copied)
{
	unsigned char mpb[8 * SECTOR], *volume;
	uint32_t bytes, sum = 0;
	uint64_t sectors;

	get(mpb, size - 2, 1);
	bytes = word(mpb + MPB_BYTES);
	sectors = (bytes + SECTOR - 1) / SECTOR;
	if (memcmp(mpb, "Intel Raid ISM", 14) || bytes <= SECTOR || bytes > sizeof(mpb))
		fail("the MPB");
	get(mpb + SECTOR, size - 1 - sectors, sectors - 1);
	for (int i = 0; i < mpb[MPB_DISKS]; i++) {
		char *serial = (char *)mpb + MPB_TABLE + i * ENTRY;

		if (memcmp(serial, "QM0000", 6))
			fail("a serial number");
		snprintf(serial, SERIAL, "disk%c", serial[6] + 1);
		memset(serial + 5, 0, SERIAL - 5);
	}
	volume = mpb + MPB_TABLE + mpb[MPB_DISKS] * ENTRY;
	if (is_copied)
		set_word(volume + VOLUME_CHECKPOINT, 0);
	set_word(mpb + MPB_SUM, 0);
	for (uint32_t at = 0; at < bytes; at += 4)
		sum += word(mpb + at);
	set_word(mpb + MPB_SUM, sum);
	put(mpb, size - 2, 1);
	put(mpb + SECTOR, size - 1 - sectors, sectors - 1);
}

/* It moved the first unit to the copy area, and has begun to write it to where it belongs. */
static void go_back(uint64_t size)
{
	/* Of members without a record these are known from the sample. */
	static const uint32_t copy = 128863, depth = 2048;
	unsigned char record[SECTOR], *unit = malloc(depth * SECTOR);

	get(record, size - 1, 1);
	if (!unit)
		fail("memory");
	get(unit, 0, depth);
	put(unit, copy, depth);
	memset(unit, 0xee, depth * SECTOR);
	put(unit, 0, depth);
	free(unit);
	if (!word(record + RECORD_DEPTH))
		return;
	if (word(record + RECORD_COPY) != copy || word(record + RECORD_DEPTH) != depth)
		fail("the record");
	set_word(record + RECORD_STATE, 1);
	set_word(record + RECORD_UNIT, 0);
	set_word(record + RECORD_TARGET, 0);
	put(record, size - 1, 1);
}

static void check(uint64_t sectors)
{
	static uint64_t buffer[PIECE * SECTOR / 8] __attribute__((aligned(4096)));

	for (uint64_t at = 0; at < sectors; at += PIECE) {
		uint64_t count = sectors - at < PIECE ? sectors - at : PIECE;

		get(buffer, at, count);
		for (uint64_t i = 0; i < count * (SECTOR / 8); i++) {
			uint64_t sector = at + i / (SECTOR / 8);
			uint64_t wanted = sector < NUMBERED || sector >= sectors - NUMBERED_END ? sector + 1 : 0;

			if (buffer[i] != wanted) {
				fprintf(stderr, "reshaped: sector %llu: %llx, not %llx\n", (unsigned long long)sector, (unsigned long long)buffer[i], (unsigned long long)wanted);
				exit(1);
			}
		}
	}
}

int main(int argc, char **argv)
{
	int is_put = argc >= 3 && !strcmp(argv[1], "put");

	if (!is_put && (argc != 4 || strcmp(argv[1], "check")))
		return 2;
	device = open(argv[2], is_put ? O_RDWR : O_RDONLY | O_DIRECT);
	if (device < 0)
		fail(argv[2]);
	errno = 0;
	if (is_put) {
		uint64_t size = unpack();

		change_mpb(size, argc > 3);
		if (argc > 3)
			go_back(size);
		if (fsync(device))
			fail("flush");
	} else {
		check(strtoull(argv[3], NULL, 10));
	}
	return 0;
}
