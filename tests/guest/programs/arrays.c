// SPDX-License-Identifier: GPL-2.0
/*
 * Answers questions about EMD's arrays, one line each, as long as there are any: so that who asks ten times a second starts no program.
 *
 *   ARRAY WORD [SLOT]    ARRAY is emdN or a volume's name; the answer is "=" and what `emdadm show --json` calls so:
 *
 *   device  state  consistency  mismatches (how many)  task (its kind)  task-state  task-done (its sectors)  set (its set's id)
 *   members (the states of all)  member-device, member-state, member-offset (with SLOT)
 *
 * "=null" where there is none, or no such array. "!" without the module.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "emd.h"

enum { ROOM = 1 << 20, MEMBERS = 256 };

static const char *const STATES[] = { 0, "optimal", "partially-optimal", "degraded", "failed", "inactive" };
static const char *const CONSISTENCIES[] = { 0, "clean", "dirty", "initialising" };
static const char *const TASKS[] = { 0, "initialise", "rebuild", "resync", "check", "repair" };
static const char *const TASK_STATES[] = { 0, "running", "paused", "waiting" };
static const char *const MEMBER_STATES[] = { 0, "in-sync", "rebuilding", "failed", "missing" };

#define WORD(table, code) ((code) < sizeof(table) / sizeof((table)[0]) && (table)[code] ? (table)[code] : "null")

struct array {
	int found;
	__u8 set[16];
	struct emd_rec_volume volume;
	struct emd_rec_member members[MEMBERS];
	unsigned int count, mismatches;
};

static char sets[ROOM], one[ROOM];
static struct array array;

static struct emd_head head(unsigned int size)
{
	return (struct emd_head){ .size = size };
}

/* Notes the first volume of that name or number, with what follows it. */
static void look(const char *records, unsigned int length, const char *name)
{
	const struct emd_rec *rec;
	int inside = 0;

	for (unsigned int at = 0; at + sizeof(*rec) <= length; at += rec->size) {
		rec = (const void *)(records + at);
		if (rec->size < sizeof(*rec))
			return;
		if (rec->kind == EMD_REC_VOLUME) {
			const struct emd_rec_volume *volume = (const void *)rec;
			char number[16];

			if (array.found)
				return;
			snprintf(number, sizeof(number), "emd%u", volume->number);
			inside = !strcmp(volume->name, name) || (volume->number != EMD_NONE && !strcmp(number, name));
			if (inside) {
				array.found = 1;
				array.volume = *volume;
			}
		} else if (inside && rec->kind == EMD_REC_MEMBER && array.count < MEMBERS) {
			array.members[array.count++] = *(const struct emd_rec_member *)rec;
		} else if (inside && rec->kind == EMD_REC_RANGE) {
			array.mismatches += ((const struct emd_rec_range *)rec)->what == EMD_RANGE_MISMATCH;
		}
	}
}

/* 0, or -1 without the module. */
static int find(const char *name)
{
	struct emd_list list = { head(sizeof(list)), { .ptr = (unsigned long)sets, .len = ROOM } };
	const struct emd_rec *rec;
	int device = open("/dev/emd", O_RDWR | O_CLOEXEC);

	memset(&array, 0, sizeof(array));
	if (device < 0)
		return -1;
	if (ioctl(device, EMD_IOC_LIST, &list))
		list.out.needed = 0;
	for (unsigned int at = 0; at < list.out.needed && at < ROOM && !array.found; at += rec->size) {
		rec = (const void *)(sets + at);
		if (rec->kind == EMD_REC_SET) {
			struct emd_query query = { head(sizeof(query)), { .kind = EMD_TARGET_SET }, { .ptr = (unsigned long)one, .len = ROOM } };

			memcpy(array.set, ((const struct emd_rec_set *)rec)->id, sizeof(array.set));
			memcpy(query.target.id, array.set, sizeof(array.set));
			/* A set that has just gone has no array. */
			if (!ioctl(device, EMD_IOC_QUERY, &query))
				look(one, query.out.needed < ROOM ? query.out.needed : ROOM, name);
		}
		if (rec->size < sizeof(*rec))
			break;
	}
	close(device);
	return 0;
}

static void print_device(unsigned long long number)
{
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof(link), "/sys/dev/block/%llu:%llu", number >> 32, number & 0xffffffff);
	length = number ? readlink(link, path, sizeof(path) - 1) : -1;
	if (length < 0) {
		printf("=null\n");
		return;
	}
	path[length] = 0;
	printf("=/dev/%s\n", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

static void print_id(const __u8 *id)
{
	printf("=");
	for (int i = 0; i < 16; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
	printf("\n");
}

static void answer(const char *word, const char *slot)
{
	const struct emd_rec_volume *volume = &array.volume;
	const struct emd_rec_member *member = 0;

	for (unsigned int i = 0; i < array.count; i++)
		if (array.members[i].slot == strtoul(slot, 0, 10))
			member = &array.members[i];
	if (!array.found)
		printf("=null\n");
	else if (!strcmp(word, "device") && volume->number != EMD_NONE)
		printf("=/dev/emd%u\n", volume->number);
	else if (!strcmp(word, "state"))
		printf("=%s\n", WORD(STATES, volume->state));
	else if (!strcmp(word, "consistency"))
		printf("=%s\n", WORD(CONSISTENCIES, volume->consistency));
	else if (!strcmp(word, "set"))
		print_id(array.set);
	else if (!strcmp(word, "mismatches"))
		printf("=%u\n", array.mismatches);
	else if (!strcmp(word, "task"))
		printf("=%s\n", WORD(TASKS, volume->task_kind));
	else if (!strcmp(word, "task-state") && volume->task_kind)
		printf("=%s\n", WORD(TASK_STATES, volume->task_state));
	else if (!strcmp(word, "task-done") && volume->task_kind)
		printf("=%llu\n", volume->task_done_sectors);
	else if (!strcmp(word, "members") && array.count)
		for (unsigned int i = 0; i < array.count; i++)
			printf("%c%s%s", i ? ' ' : '=', WORD(MEMBER_STATES, array.members[i].state), i + 1 == array.count ? "\n" : "");
	else if (!strcmp(word, "member-device") && member)
		print_device(member->dev);
	else if (!strcmp(word, "member-state") && member)
		printf("=%s\n", WORD(MEMBER_STATES, member->state));
	else if (!strcmp(word, "member-offset") && member)
		printf("=%llu\n", member->offset_sectors);
	else
		printf("=null\n");
}

int main(void)
{
	char line[256], name[64], word[64], slot[16];

	while (fgets(line, sizeof(line), stdin)) {
		strcpy(slot, "0");
		if (sscanf(line, "%63s %63s %15s", name, word, slot) < 2 || find(name))
			printf("!\n");
		else
			answer(word, slot);
		fflush(stdout);
	}
	return 0;
}
