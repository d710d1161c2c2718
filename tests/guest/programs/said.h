/* SPDX-License-Identifier: GPL-2.0 */
/* What programs that test /dev/emd share: it open, calls that have to be done, complaints. Include it after emd.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int fd = -1;
static int wrong; /* complaints */
static char reason[EMD_REASON_BYTES];

static void complain(const char *text, ...)
{
	va_list args;

	va_start(args, text);
	vprintf(text, args);
	va_end(args);
	printf("\n");
	wrong++;
}

static void die(const char *text)
{
	perror(text);
	exit(2);
}

static void open_emd(void)
{
	fd = open("/dev/emd", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("/dev/emd");
}

static struct emd_head head(unsigned int size)
{
	memset(reason, 'x', sizeof(reason));
	return (struct emd_head){ .size = size, .reason_ptr = (uintptr_t)reason, .reason_len = sizeof(reason) };
}

/* An argument with nothing in it but its head. */
#define FRESH(arg) (memset(&(arg), 0, sizeof(arg)), (arg).head = head(sizeof(arg)))

/* The call is done. */
static void done(const char *what, unsigned long cmd, void *arg)
{
	if (ioctl(fd, cmd, arg) < 0)
		complain("%s: errno %d (%.200s)", what, errno, reason);
}
