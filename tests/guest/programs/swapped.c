// SPDX-License-Identifier: GPL-2.0
/*
 * swapped MIB PROCESSES STOPFILE: more memory than there is, which is read, compared and written again, in no order, until STOPFILE is
 * there; then all of it is compared once more. Status 1, and the first page that is wrong, if some page holds anything else than was put there.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, ROUND = 64 };

static uint64_t *memory;
static uint32_t *times; /* that each page was written */
static uint64_t process;

static uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
	return value ^ (value >> 31);
}

/* No two pages have the same, nor has one page it twice. */
static uint64_t start_of(uint64_t page, uint32_t time)
{
	return mix(process << 56 ^ (uint64_t)time << 32 ^ page);
}

static void put(uint64_t page)
{
	uint64_t start = start_of(page, ++times[page]);

	for (unsigned int i = 0; i < WORDS; i++)
		memory[page * WORDS + i] = start + i * 0x9e3779b97f4a7c15ull;
}

static void compare(uint64_t page)
{
	const uint64_t *words = memory + page * WORDS;
	uint64_t start = start_of(page, times[page]);

	for (unsigned int i = 0; i < WORDS; i++) {
		if (words[i] == start + i * 0x9e3779b97f4a7c15ull)
			continue;
		for (uint32_t before = times[page]; before-- > 1;)
			if (words[i] == start_of(page, before) + i * 0x9e3779b97f4a7c15ull)
				fprintf(stderr, "swapped: what was there %u times before: ", times[page] - before);
		fprintf(stderr, "swapped: process %llu, page %llu, word %u: %016llx, not %016llx\n", (unsigned long long)process, (unsigned long long)page, i,
			(unsigned long long)words[i], (unsigned long long)(start + i * 0x9e3779b97f4a7c15ull));
		exit(1);
	}
}

static void work(uint64_t pages, const char *stop)
{
	uint64_t chance = process;

	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	times = calloc(pages, sizeof(*times));
	if (memory == MAP_FAILED || !times) {
		perror("swapped");
		exit(2);
	}
	/* One page at a time is what the device gets. */
	madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t page = 0; page < pages; page++)
		put(page);
	do {
		for (unsigned int i = 0; i < ROUND; i++) {
			uint64_t page = (chance = mix(chance + 0x9e3779b97f4a7c15ull)) % pages;

			compare(page);
			/* One that is only read leaves memory without being written. */
			if (chance >> 63)
				put(page);
		}
	} while (access(stop, F_OK));
	for (uint64_t page = 0; page < pages; page++)
		compare(page);
}

int main(int argc, char **argv)
{
	uint64_t pages, processes;
	cpu_set_t processors;
	int status, result = 0;

	if (argc != 4 || !(processes = strtoull(argv[2], NULL, 10)))
		return 2;
	pages = (strtoull(argv[1], NULL, 10) << 20) / PAGE / processes;
	/* On all processors, wherever the shell may be. */
	memset(&processors, 0xff, sizeof(processors));
	sched_setaffinity(0, sizeof(processors), &processors);
	for (process = 1; process <= processes; process++) {
		switch (fork()) {
		case -1:
			perror("swapped");
			return 2;
		case 0:
			work(pages, argv[3]);
			return 0;
		}
	}
	while (wait(&status) > 0)
		if (status) {
			if (WIFSIGNALED(status))
				fprintf(stderr, "swapped: a process ended with signal %d\n", WTERMSIG(status));
			result = 1;
		}
	return result;
}
