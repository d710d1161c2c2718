// SPDX-License-Identifier: GPL-2.0
// Events of /dev/emd: poll and read wake up, none is missed, and a reader is told what it lost.
//
//   ioctl-events N                   renames /dev/emdN for it, again and again
#define _GNU_SOURCE
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emd.h"
#include "said.h"

#define KERNEL_ADDRESS 0xffff888000000000ul

static void rename_array(unsigned int array, unsigned int nth)
{
	struct emd_rename rename;

	FRESH(rename);
	rename.target = (struct emd_target){ .kind = EMD_TARGET_NUMBER, .number = array };
	snprintf(rename.name, sizeof(rename.name), "name%u", nth);
	done("RENAME", EMD_IOC_RENAME, &rename);
}

/* Reads all there is; each event follows the one before. Says how many there were, those that were lost included. */
static uint64_t read_events(int from, uint64_t *seq, uint64_t *lost)
{
	static struct emd_event events[7];
	uint64_t count = 0;
	ssize_t len;

	while ((len = read(from, events, sizeof(events))) > 0) {
		if (len % sizeof(events[0]))
			complain("read gave a part of an event: %zd bytes", len);
		for (size_t n = 0; n < len / sizeof(events[0]); n++) {
			const struct emd_event *event = &events[n];

			if (event->size != sizeof(*event))
				complain("an event's size is %u", event->size);
			if (event->kind == EMD_EVENT_LOST) {
				*lost += event->value;
				count += event->value;
				if (*seq && event->seq != *seq + event->value)
					complain("after %llu, %llu lost, LOST has %llu", (unsigned long long)*seq, (unsigned long long)event->value,
						 (unsigned long long)event->seq);
			} else {
				count++;
				if (*seq && event->seq != *seq + 1)
					complain("event %llu follows %llu", (unsigned long long)event->seq, (unsigned long long)*seq);
			}
			*seq = event->seq;
		}
	}
	if (len != 0 && errno != EAGAIN)
		complain("read: errno %d", errno);
	return count;
}

static int watch(unsigned int array)
{
	int own = open("/dev/emd", O_RDONLY | O_NONBLOCK), slow = open("/dev/emd", O_RDONLY | O_NONBLOCK);
	struct pollfd wait = { .fd = own, .events = POLLIN };
	struct emd_events place;
	uint64_t seq = 0, lost = 0, count;
	unsigned char small[8];
	struct emd_event event;
	int status;

	if (own < 0 || slow < 0)
		die("/dev/emd");
	if (read(own, &event, sizeof(event)) >= 0 || errno != EAGAIN)
		complain("there is an event, or errno %d", errno);
	if (poll(&wait, 1, 0) != 0)
		complain("poll says that there is something");
	if (read(own, small, sizeof(small)) >= 0 || errno != EINVAL)
		complain("a read of 8 bytes: errno %d", errno);

	/* Who waits is woken: one in read, one in poll. What is told before it is open is not for it, however late it runs. */
	int blocking = open("/dev/emd", O_RDONLY);
	if (blocking < 0)
		die("/dev/emd");
	pid_t reader = fork();
	if (!reader) {
		alarm(20);
		_exit(read(blocking, &event, sizeof(event)) != sizeof(event));
	}
	close(blocking);
	pid_t poller = fork();
	if (!poller) {
		alarm(20);
		_exit(poll(&wait, 1, 15000) != 1 || wait.revents != POLLIN);
	}
	usleep(300000);
	rename_array(array, 0);
	if (waitpid(poller, &status, 0) != poller || status)
		complain("poll was not woken: %#x", status);
	if (waitpid(reader, &status, 0) != reader || status)
		complain("read was not woken: %#x", status);
	if (read(own, (void *)KERNEL_ADDRESS, sizeof(event)) >= 0 || errno != EFAULT)
		complain("a read into the kernel: errno %d", errno);

	for (unsigned int n = 1; n < 100; n++)
		rename_array(array, n);
	count = read_events(own, &seq, &lost);
	if (count < 100 || lost)
		complain("100 renames gave %llu events, %llu lost", (unsigned long long)count, (unsigned long long)lost);

	for (unsigned int n = 100; n < 100 + EMD_EVENTS_MAX + 44; n++)
		rename_array(array, n);
	uint64_t slow_seq = 0, slow_lost = 0;
	uint64_t all = read_events(slow, &slow_seq, &slow_lost);
	count += read_events(own, &seq, &lost);
	if (!slow_lost || all - slow_lost != EMD_EVENTS_MAX)
		complain("the slow reader got %llu, %llu lost", (unsigned long long)all, (unsigned long long)slow_lost);
	if (all != count || seq != slow_seq)
		complain("one reader has %llu events to %llu, the other %llu to %llu", (unsigned long long)count, (unsigned long long)seq,
			 (unsigned long long)all, (unsigned long long)slow_seq);

	FRESH(place), place.seq = UINT64_MAX;
	done("EVENTS to the end", EMD_IOC_EVENTS, &place);
	if (place.next_seq != seq + 1 || place.seq != place.next_seq)
		complain("the next event is %llu, place %llu", (unsigned long long)place.next_seq, (unsigned long long)place.seq);
	if (place.next_seq - place.oldest_seq != EMD_EVENTS_MAX)
		complain("from %llu to %llu are kept", (unsigned long long)place.oldest_seq, (unsigned long long)place.next_seq);
	return wrong != 0;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "ioctl-events: see the source\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	open_emd();
	return watch(atoi(argv[1]));
}
