// SPDX-License-Identifier: GPL-2.0
// Throws at /dev/emd what no honest program would.
//
//   ioctl-hostile wrong              each call with one thing wrong: the errno and the reason that docs/ioctl.md promises
//   ioctl-hostile random SEED COUNT MAJOR:MINOR...   random calls; the disks are members, and so in use
//   ioctl-hostile powerless          what a program without CAP_SYS_ADMIN may do
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emd.h"
#include "said.h"

#define PAGE 4096ul
#define KERNEL_ADDRESS 0xffff888000000000ul
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct call {
	unsigned long cmd;
	const char *name;
	unsigned int size;
	int modifies;
	int target; /* where a target is, or 0 */
	int out;    /* where a buffer for records is, or 0 */
} calls[] = {
	{ EMD_IOC_VERSION, "VERSION", sizeof(struct emd_version), 0, 0, 0 },
	{ EMD_IOC_FORMATS, "FORMATS", sizeof(struct emd_list), 0, 0, offsetof(struct emd_list, out) },
	{ EMD_IOC_LIST, "LIST", sizeof(struct emd_list), 0, 0, offsetof(struct emd_list, out) },
	{ EMD_IOC_QUERY, "QUERY", sizeof(struct emd_query), 0, offsetof(struct emd_query, target), offsetof(struct emd_query, out) },
	{ EMD_IOC_SCAN, "SCAN", sizeof(struct emd_scan), 1, 0, offsetof(struct emd_scan, out) },
	{ EMD_IOC_CREATE, "CREATE", sizeof(struct emd_create), 1, 0, 0 },
	{ EMD_IOC_STOP, "STOP", sizeof(struct emd_stop), 1, offsetof(struct emd_stop, target), 0 },
	{ EMD_IOC_DELETE, "DELETE", sizeof(struct emd_delete), 1, offsetof(struct emd_delete, target), 0 },
	{ EMD_IOC_MEMBER, "MEMBER", sizeof(struct emd_member), 1, offsetof(struct emd_member, target), 0 },
	{ EMD_IOC_RENAME, "RENAME", sizeof(struct emd_rename), 1, offsetof(struct emd_rename, target), 0 },
	{ EMD_IOC_TASK, "TASK", sizeof(struct emd_task), 1, offsetof(struct emd_task, target), 0 },
	{ EMD_IOC_EVENTS, "EVENTS", sizeof(struct emd_events), 0, 0, 0 },
	{ EMD_IOC_POLICY, "POLICY", sizeof(struct emd_policy), 1, offsetof(struct emd_policy, target), 0 },
	{ EMD_IOC_MISMATCHES, "MISMATCHES", sizeof(struct emd_mismatches), 0, offsetof(struct emd_mismatches, target), offsetof(struct emd_mismatches, out) },
};

static unsigned char *pages;	/* two, then one that is not there */
static unsigned char *fixed;	/* one that can only be read */
static unsigned char scratch[1 << 18];	/* room for whatever is written */

static void prepare(void)
{
	open_emd();
	pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fixed = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || fixed == MAP_FAILED || munmap(pages + 2 * PAGE, PAGE))
		die("mmap");
}

static int reason_is_text(void)
{
	return memchr(reason, 0, sizeof(reason)) && reason[0] && reason[0] != 'x';
}

/* The call is refused with this errno. told: and says why. */
static void refused(const char *what, unsigned long cmd, void *arg, int want, int told)
{
	int status = ioctl(fd, cmd, arg);

	if (status >= 0)
		complain("%s: was done", what);
	else if (errno != want)
		complain("%s: errno %d, wanted %d (%.200s)", what, errno, want, told ? reason : "");
	else if (told && !reason_is_text())
		complain("%s: no reason is given", what);
}

/* What every call has to refuse whatever it does. */
static void wrong_heads(const struct call *call)
{
	unsigned char arg[8192] = { 0 };
	struct emd_head *start = (void *)arg;
	char what[80];

#define TRY(text) (snprintf(what, sizeof(what), "%s, " text, call->name), memset(arg, 0, sizeof(arg)), *start = head(call->size), what)
	refused(TRY("no argument"), call->cmd, NULL, EFAULT, 0);
	refused(TRY("argument at 1"), call->cmd, (void *)1, EFAULT, 0);
	refused(TRY("argument in the kernel"), call->cmd, (void *)KERNEL_ADDRESS, EFAULT, 0);
	refused(TRY("argument at the end of all"), call->cmd, (void *)-8l, EFAULT, 0);

	memcpy(pages + 2 * PAGE - 16, arg, 16);
	refused(TRY("argument cut by the end of memory"), call->cmd, pages + 2 * PAGE - 16, EFAULT, 0);
	TRY("");
	memcpy(pages + 2 * PAGE - call->size + 8, arg, call->size - 8);
	refused(TRY("argument's end beyond memory"), call->cmd, pages + 2 * PAGE - call->size + 8, EFAULT, 0);

	TRY("size 0"), start->size = 0;
	refused(what, call->cmd, arg, EINVAL, 0);
	TRY("size 8"), start->size = 8;
	refused(what, call->cmd, arg, EINVAL, 0);
	TRY("size of the head less one"), start->size = sizeof(*start) - 1;
	refused(what, call->cmd, arg, EINVAL, 0);
	TRY("size above the limit"), start->size = EMD_ARG_BYTES_MAX + 8;
	refused(what, call->cmd, arg, E2BIG, 1);
	TRY("absurd size"), start->size = 0xffffffff;
	refused(what, call->cmd, arg, E2BIG, 1);
	TRY("a later version's field"), start->size = call->size + 16, arg[call->size + 3] = 1;
	refused(what, call->cmd, arg, E2BIG, 1);
	TRY("a later version's field, far behind"), start->size = EMD_ARG_BYTES_MAX, arg[EMD_ARG_BYTES_MAX - 1] = 1;
	refused(what, call->cmd, arg, E2BIG, 1);
	TRY("unknown flag"), start->flags = 1u << 31;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("all flags"), start->flags = ~0u;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("reserved field"), start->reserved = 1;
	refused(what, call->cmd, arg, EINVAL, 1);

	/* A bad place for the reason changes nothing. */
	TRY("reason to nowhere"), start->flags = 1u << 31, start->reason_ptr = KERNEL_ADDRESS;
	refused(what, call->cmd, arg, EINVAL, 0);
	TRY("reason to what can only be read"), start->flags = 1u << 31, start->reason_ptr = (uintptr_t)fixed;
	refused(what, call->cmd, arg, EINVAL, 0);
	TRY("reason of one byte"), start->flags = 1u << 31, start->reason_len = 1;
	refused(what, call->cmd, arg, EINVAL, 0);
	if (reason[0] != 0 || reason[1] != 'x')
		complain("%s: not cut", what);
	TRY("reason of ten bytes"), start->flags = 1u << 31, start->reason_len = 10;
	refused(what, call->cmd, arg, EINVAL, 0);
	if (strnlen(reason, 11) != 9 || reason[10] != 'x')
		complain("%s: not cut", what);
#undef TRY
}

static void wrong_outs(void)
{
	static unsigned char buffer[65536];
	struct emd_list list;

	FRESH(list);
	memcpy(fixed, &list, sizeof(list));
	mprotect(fixed, PAGE, PROT_READ);
	done("LIST into nothing", EMD_IOC_LIST, &list);
	if (!list.out.needed || list.out.count)
		complain("LIST into nothing: %u needed, %u there", list.out.needed, list.out.count);
	unsigned int needed = list.out.needed;

	FRESH(list), list.out.ptr = (uintptr_t)buffer, list.out.len = needed - 1, memset(buffer, 'x', sizeof(buffer));
	done("LIST into a byte too few", EMD_IOC_LIST, &list);
	if (buffer[needed - 1] != 'x')
		complain("LIST wrote beyond its buffer");
	FRESH(list), list.out.len = 4096;
	refused("LIST to address 0", EMD_IOC_LIST, &list, EINVAL, 1);
	FRESH(list), list.out.len = 4096, list.out.ptr = KERNEL_ADDRESS;
	refused("LIST into the kernel", EMD_IOC_LIST, &list, EFAULT, 1);
	FRESH(list), list.out.len = 4096, list.out.ptr = (uintptr_t)fixed;
	refused("LIST into what can only be read", EMD_IOC_LIST, &list, EFAULT, 1);
	FRESH(list), list.out.len = 4096, list.out.ptr = (uintptr_t)pages + 2 * PAGE - 64;
	refused("LIST beyond the end of memory", EMD_IOC_LIST, &list, EFAULT, 1);
	FRESH(list), list.out.reserved = 1;
	refused("LIST, reserved field", EMD_IOC_LIST, &list, EINVAL, 1);
	struct emd_mismatches places;
#define PLACES() (FRESH(places), places.target.kind = EMD_TARGET_NUMBER, places.out.ptr = (uintptr_t)buffer, places.out.len = sizeof(buffer))
	PLACES(), places.out.ptr = 0;
	refused("MISMATCHES to address 0", EMD_IOC_MISMATCHES, &places, EINVAL, 1);
	PLACES(), places.out.reserved = 1;
	refused("MISMATCHES, reserved field", EMD_IOC_MISMATCHES, &places, EINVAL, 1);
	PLACES(), places.target.kind = EMD_TARGET_SET, places.target.id[0] = 1;
	refused("MISMATCHES of a set", EMD_IOC_MISMATCHES, &places, EINVAL, 1);
	/* The one call that does something and has such a buffer. */
	struct emd_scan scan;
	FRESH(scan), scan.out.len = 4096, scan.out.ptr = KERNEL_ADDRESS;
	refused("SCAN into the kernel", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(scan), scan.out.len = 4096, scan.out.ptr = (uintptr_t)fixed;
	refused("SCAN into what can only be read", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(scan), scan.out.len = 4096, scan.out.ptr = (uintptr_t)pages + 2 * PAGE - 64;
	refused("SCAN beyond the end of memory", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(scan), scan.out.len = 4096, scan.out.ptr = UINT64_MAX - 64;
	refused("SCAN around the end of the address space", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(list), list.out.ptr = (uintptr_t)buffer, list.out.len = sizeof(buffer), list.head.size = sizeof(list) + 8;
	unsigned char longer[sizeof(list) + 8] = { 0 };
	memcpy(longer, &list, sizeof(list));
	done("LIST of a later version that uses nothing new", EMD_IOC_LIST, longer);
	if (((struct emd_list *)longer)->out.count == 0 || reason[0])
		complain("LIST of a later version: nothing, or a reason in spite of success");

	refused("LIST, argument that can only be read", EMD_IOC_LIST, fixed, EFAULT, 1);
	for (unsigned int nr = 0; nr < 256; nr++) {
		int known = 0;

		for (size_t n = 0; n < COUNT(calls); n++)
			known |= nr == _IOC_NR(calls[n].cmd);
		FRESH(list);
		if (!known)
			refused("unknown call", _IOWR(EMD_IOC_TYPE, nr, struct emd_list), &list, ENOTTY, 0);
		refused("call of another driver", _IOWR(EMD_IOC_TYPE - 1, nr, struct emd_list), &list, ENOTTY, 0);
	}
}

/* All but the target is right. */
static void fill(unsigned char *to, const struct call *of)
{
	if (of->cmd == EMD_IOC_RENAME)
		strcpy(((struct emd_rename *)to)->name, "other");
	if (of->cmd == EMD_IOC_MEMBER)
		((struct emd_member *)to)->op = EMD_MEMBER_OP_UNSPARE, ((struct emd_member *)to)->dev = 1ull << 32 | 1;
	if (of->cmd == EMD_IOC_TASK)
		((struct emd_task *)to)->op = EMD_TASK_OP_PAUSE;
	if (of->cmd == EMD_IOC_POLICY)
		((struct emd_policy *)to)->policy = EMD_POLICY_RESYNC;
}

static void wrong_targets(const struct call *call)
{
	unsigned char arg[1024] = { 0 };
	struct emd_head *start = (void *)arg;
	struct emd_target *target = (void *)(arg + call->target);
	char what[80];

#define TRY(text) (snprintf(what, sizeof(what), "%s, " text, call->name), memset(arg, 0, sizeof(arg)), *start = head(call->size), fill(arg, call))
	TRY("no target");
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("unknown kind of target"), target->kind = 99;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("number and id"), target->kind = EMD_TARGET_NUMBER, target->id[15] = 1;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("id and number"), target->kind = EMD_TARGET_ARRAY, target->id[0] = 1, target->number = 1;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("a number that no array can have"), target->kind = EMD_TARGET_NUMBER, target->number = EMD_NUMBER_MAX + 1;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("everything and more"), target->kind = EMD_TARGET_ALL, target->number = 1;
	refused(what, call->cmd, arg, EINVAL, 1);
	TRY("an array that is not there"), target->kind = EMD_TARGET_NUMBER, target->number = 4711;
	refused(what, call->cmd, arg, ENOENT, 1);
	TRY("an id that nobody has"), target->kind = EMD_TARGET_ARRAY, memset(target->id, 0x5a, 16);
	refused(what, call->cmd, arg, ENOENT, 1);
#undef TRY
}

static void wrong_lists(void)
{
	static uint64_t devs[EMD_DISKS_MAX + 1];
	struct emd_scan scan;
	struct emd_create create;

	FRESH(scan), scan.devs_ptr = (uintptr_t)devs, scan.devs_count = EMD_DISKS_MAX + 1;
	refused("SCAN of too many", EMD_IOC_SCAN, &scan, E2BIG, 1);
	FRESH(scan), scan.devs_ptr = (uintptr_t)devs, scan.devs_count = 0xffffffff;
	refused("SCAN of absurdly many", EMD_IOC_SCAN, &scan, E2BIG, 1);
	FRESH(scan), scan.devs_ptr = KERNEL_ADDRESS, scan.devs_count = 1;
	refused("SCAN of a list in the kernel", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(scan), scan.devs_count = 1;
	refused("SCAN of a list at 0", EMD_IOC_SCAN, &scan, EINVAL, 1);
	FRESH(scan), scan.devs_ptr = (uintptr_t)pages + 2 * PAGE - 8, scan.devs_count = 2;
	refused("SCAN of a list cut by the end of memory", EMD_IOC_SCAN, &scan, EFAULT, 1);
	FRESH(scan), scan.devs_ptr = (uintptr_t)devs, scan.devs_count = 1, devs[0] = ~0ull;
	refused("SCAN of a number that is no disk's", EMD_IOC_SCAN, &scan, EINVAL, 1);

#define CREATE() (FRESH(create), strcpy(create.format, "ddf"), strcpy(create.level, "raid1"), strcpy(create.volume_name, "v"), \
		  create.members_ptr = (uintptr_t)devs, create.members_count = 2, devs[0] = 1ull << 32 | 1, devs[1] = 1ull << 32 | 2)
	CREATE(), create.members_count = EMD_MEMBERS_MAX + 1;
	refused("CREATE of too many members", EMD_IOC_CREATE, &create, E2BIG, 1);
	CREATE(), create.members_count = 0x20000001;
	refused("CREATE of absurdly many members", EMD_IOC_CREATE, &create, E2BIG, 1);
	CREATE(), create.spares_count = 0xffffffff, create.spares_ptr = (uintptr_t)devs;
	refused("CREATE of absurdly many spares", EMD_IOC_CREATE, &create, E2BIG, 1);
	CREATE(), create.members_ptr = KERNEL_ADDRESS;
	refused("CREATE of members in the kernel", EMD_IOC_CREATE, &create, EFAULT, 1);
	CREATE(), memset(create.volume_name, 'x', sizeof(create.volume_name));
	refused("CREATE, a name without an end", EMD_IOC_CREATE, &create, EINVAL, 1);
	CREATE(), strcpy(create.volume_name, "\xff\xfe");
	refused("CREATE, a name that is no UTF-8", EMD_IOC_CREATE, &create, EINVAL, 1);
	CREATE(), create.volume_name[20] = 'x';
	refused("CREATE, a name with something behind its end", EMD_IOC_CREATE, &create, EINVAL, 1);
	CREATE(), memset(create.level, 'x', sizeof(create.level));
	refused("CREATE, a level without an end", EMD_IOC_CREATE, &create, EINVAL, 1);
	CREATE(), devs[1] = devs[0];
	refused("CREATE, a disk twice", EMD_IOC_CREATE, &create, EINVAL, 1);
	CREATE(), create.size_sectors = ~0ull;
	if (ioctl(fd, EMD_IOC_CREATE, &create) >= 0 || !reason_is_text())
		complain("CREATE of an absurd size");
	CREATE(), create.chunk_sectors = ~0u, strcpy(create.level, "raid5"), create.members_count = 3, devs[2] = 1ull << 32 | 3;
	refused("CREATE of an absurd chunk", EMD_IOC_CREATE, &create, EINVAL, 1);

	struct emd_member member;
#define MEMBER() (FRESH(member), member.target.kind = EMD_TARGET_NUMBER, member.op = EMD_MEMBER_OP_ADD, member.dev = 1ull << 32 | 1)
	MEMBER(), member.op = 0;
	refused("MEMBER, no operation", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.op = 99;
	refused("MEMBER, unknown operation", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.dev = 0;
	refused("MEMBER, no disk", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.dev = ~0ull;
	refused("MEMBER, no disk's number", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.reserved0 = 1;
	refused("MEMBER, reserved field", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.reserved1 = 1;
	refused("MEMBER, other reserved field", EMD_IOC_MEMBER, &member, EINVAL, 1);
	MEMBER(), member.head.flags = EMD_MEMBER_DEDICATED;
	refused("MEMBER, a spare's flag for ADD", EMD_IOC_MEMBER, &member, EINVAL, 1);

	struct emd_rename rename;
	FRESH(rename), rename.target.kind = EMD_TARGET_NUMBER, memset(rename.name, 'x', sizeof(rename.name));
	refused("RENAME, a name without an end", EMD_IOC_RENAME, &rename, EINVAL, 1);
	FRESH(rename), rename.target.kind = EMD_TARGET_NUMBER, strcpy(rename.name, "a\tb");
	refused("RENAME, control characters", EMD_IOC_RENAME, &rename, EINVAL, 1);

	struct emd_policy policy;
#define POLICY() (FRESH(policy), policy.target.kind = EMD_TARGET_NUMBER, policy.policy = EMD_POLICY_LOG)
	POLICY(), policy.policy = 0;
	refused("POLICY, none given", EMD_IOC_POLICY, &policy, EINVAL, 1);
	POLICY(), policy.policy = 99;
	refused("POLICY, an unknown one", EMD_IOC_POLICY, &policy, EINVAL, 1);
	POLICY(), policy.reserved0 = 1;
	refused("POLICY, reserved field", EMD_IOC_POLICY, &policy, EINVAL, 1);
	POLICY(), policy.reserved1 = 1;
	refused("POLICY, other reserved field", EMD_IOC_POLICY, &policy, EINVAL, 1);

	struct emd_task task;
	FRESH(task), task.target.kind = EMD_TARGET_NUMBER;
	refused("TASK, no operation", EMD_IOC_TASK, &task, EINVAL, 1);
	FRESH(task), task.target.kind = EMD_TARGET_NUMBER, task.op = EMD_TASK_OP_START, task.kind = 99;
	refused("TASK, unknown kind", EMD_IOC_TASK, &task, EINVAL, 1);
}

static int all_wrong(void)
{
	for (size_t n = 0; n < COUNT(calls); n++) {
		wrong_heads(&calls[n]);
		if (calls[n].target)
			wrong_targets(&calls[n]);
	}
	wrong_lists();
	wrong_outs();
	return wrong != 0;
}

static uint64_t state;

static uint64_t number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t limit) { return (number() >> 16) % limit; }

static uint64_t disks[16];
static unsigned int disks_count;
static uint64_t list[EMD_DISKS_MAX];

static uint64_t interesting(void)
{
	const uint64_t values[] = {
		0, 1, 2, 3, 5, 63, 64, 65, 255, 256, 257, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX,
		UINT64_MAX, UINT64_MAX - 7, KERNEL_ADDRESS, (uintptr_t)pages, (uintptr_t)pages + PAGE, (uintptr_t)pages + 2 * PAGE - 8,
		(uintptr_t)pages + 2 * PAGE - 1, (uintptr_t)fixed, (uintptr_t)scratch, (uintptr_t)scratch + 8, 0x3564646672616964, 0x00666464,
	};

	return values[below(COUNT(values))];
}

/* Takes out what would be right: everything here is to be refused, or to change nothing. */
static void spoil(const struct call *call, unsigned char *arg)
{
	struct emd_target *target = (void *)(arg + call->target);

	if (call->modifies && call->target) {
		if (target->kind == EMD_TARGET_ALL)
			target->kind = 77;
		target->number |= 0x800;
	}
	if (call->cmd == EMD_IOC_SCAN) {
		struct emd_scan *scan = (void *)arg;

		/* All disks of the machine would take too long each time. */
		if (!scan->devs_count)
			scan->devs_count = 1;
	}
}

/* Bytes from `at` to the end of the room for the kernel's writes that it is in; 0 when it is in none. */
static size_t room(uint64_t at)
{
	const struct { uint64_t first, bytes; } rooms[] = {
		{ (uintptr_t)scratch, sizeof(scratch) }, { (uintptr_t)reason, sizeof(reason) }, { (uintptr_t)pages, 2 * PAGE },
	};

	for (size_t n = 0; n < COUNT(rooms); n++)
		if (at - rooms[n].first < rooms[n].bytes)
			return rooms[n].bytes - (at - rooms[n].first);
	return 0;
}

/* Whether the kernel may write up to `bytes` there: a room that is large enough or ends before what is not mapped, or no memory of ours. */
static int harmless(uint64_t at, size_t bytes)
{
	if (at < PAGE || at >= (uint64_t)1 << 47 || at - (uintptr_t)fixed < PAGE || at - (uintptr_t)pages < 3 * PAGE)
		return 1;
	/* Far from what a static program and its heap take. */
	if (at >= INT32_MAX && at <= (uint64_t)1 << 32)
		return 1;
	return room(at) >= bytes;
}

/* Of numbers put together at random some are addresses of this program: nothing of it that matters may be written to. */
static void guard(const struct call *call, unsigned char *arg, size_t bytes)
{
	struct emd_head *start = (void *)arg;
	struct emd_out *out = (void *)(arg + call->out);

	if (bytes >= sizeof(*start) && !harmless(start->reason_ptr, EMD_REASON_BYTES))
		start->reason_ptr = KERNEL_ADDRESS;
	if (call->out && bytes >= call->out + sizeof(*out) && !harmless(out->ptr, sizeof(scratch) / 2))
		out->ptr = KERNEL_ADDRESS;
}

static void random_call(unsigned long *tally)
{
	static unsigned char arg[8192];
	const struct call *call = &calls[below(COUNT(calls))];
	/* Those of docs/ioctl.md; a host test compares. */
	const int known[] = { EFAULT, EINVAL, E2BIG, EPERM, ENOTTY, ENOENT, ENODEV, ENXIO, EBUSY, ENOSPC, EEXIST, EFBIG, EOVERFLOW,
			      EOPNOTSUPP, EACCES, EALREADY, EUCLEAN, ESHUTDOWN, EROFS, EAGAIN, EIO, ENOMEM };
	struct emd_head *start = (void *)arg;
	unsigned long cmd = call->cmd;
	void *at = arg;
	unsigned int style = below(8);

	for (size_t n = 0; n < COUNT(list); n += 1 + below(64))
		list[n] = below(3) ? disks[below(disks_count)] : below(40) ? interesting() : (below(300) << 32 | below(64));
	memset(arg, 0, sizeof(arg));
	if (style < 3) {
		for (size_t n = 0; n < call->size; n += 8) {
			uint64_t value = below(3) ? number() : interesting();

			memcpy(arg + n, &value, 8);
		}
		if (style < 2)
			*start = head(call->size);
	} else {
		*start = head(call->size);
		for (uint64_t n = 1 + below(6); n; n--) {
			uint64_t value = below(3) ? interesting() : number();
			size_t width = 1u << below(4);

			memcpy(arg + (sizeof(*start) + below(call->size - sizeof(*start))) / width * width, &value, width);
		}
		if (call->cmd == EMD_IOC_CREATE && below(2)) {
			struct emd_create *create = (void *)arg;

			strcpy(create->format, "ddf");
			strcpy(create->level, below(2) ? "raid5" : "raid1");
			create->members_ptr = (uintptr_t)list;
			create->members_count = below(70);
		}
	}
	if (!below(6))
		start->flags = below(2) ? below(8) : number();
	if (!below(8))
		start->size = below(2) ? below(5000) : interesting();
	if (!below(16))
		start->reason_ptr = interesting();
	if (!below(16))
		cmd = number();
	else
		cmd = (cmd & ~(0x3ffful << 16)) | (below(4) ? cmd & (0x3ffful << 16) : below(0x4000) << 16);
	/* Another call of ours would find in the argument what was not spoiled for it. */
	if (_IOC_TYPE(cmd) == EMD_IOC_TYPE && _IOC_NR(cmd) != _IOC_NR(call->cmd))
		cmd = call->cmd;
	spoil(call, arg);
	guard(call, arg, call->size);
	/* What is there by now may be anything, so it has to be a place that cannot be read, or a harmless call. */
	if (!below(16)) {
		uint64_t place = interesting();

		if (!call->modifies ? harmless(place, sizeof(arg)) : place < PAGE || place >= (uint64_t)1 << 47) {
			at = (void *)(uintptr_t)place;
			guard(call, at, room(place));
		}
	}
	if (!below(16) && call->size < PAGE)
		at = memcpy(pages + 2 * PAGE - call->size + below(2) * 8, arg, call->size - 8);
	if (ioctl(fd, cmd, at) >= 0) {
		tally[0]++;
		return;
	}
	tally[errno < 200 ? errno : 199]++;
	for (size_t n = 0; n < COUNT(known); n++)
		if (errno == known[n])
			return;
	complain("%s: errno %d is none that is documented (%.200s)", call->name, errno, reason);
}

static int random_calls(uint64_t seed, unsigned long count)
{
	static unsigned long tally[200];

	state = seed * 2 + 1;
	mprotect(fixed, PAGE, PROT_READ);
	for (unsigned long n = 0; n < count && wrong < 20; n++)
		random_call(tally);
	for (int n = 0; n < 200; n++)
		if (tally[n])
			printf("%8lu %s\n", tally[n], n ? strerror(n) : "done");
	return wrong != 0;
}

static int powerless(void)
{
	unsigned char arg[1024];

	/* The file was opened by somebody who may; who calls may not. */
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		die("setresuid");
	if (open("/dev/emd", O_RDWR) >= 0 || errno != EACCES)
		complain("everybody may open /dev/emd");
	for (size_t n = 0; n < COUNT(calls); n++) {
		memset(arg, 0, sizeof(arg));
		*(struct emd_head *)arg = head(calls[n].size);
		if (calls[n].modifies)
			refused(calls[n].name, calls[n].cmd, arg, EPERM, 1);
		else if (calls[n].target)
			refused(calls[n].name, calls[n].cmd, arg, EINVAL, 1);
		else
			done(calls[n].name, calls[n].cmd, arg);
	}
	mprotect(fixed, PAGE, PROT_READ);
	return wrong != 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	prepare();
	if (!strcmp(mode, "wrong"))
		return all_wrong();
	if (!strcmp(mode, "powerless"))
		return powerless();
	if (!strcmp(mode, "random") && argc > 4) {
		for (int n = 4; n < argc && disks_count < COUNT(disks); n++) {
			unsigned int major, minor;

			if (sscanf(argv[n], "%u:%u", &major, &minor) == 2)
				disks[disks_count++] = (uint64_t)major << 32 | minor;
		}
		return random_calls(strtoull(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
	}
	fprintf(stderr, "ioctl-hostile: see the source\n");
	return 2;
}
