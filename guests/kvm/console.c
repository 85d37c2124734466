/* The inner serial line and the monitor's standard streams; a terminal is raw while the guest has it. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "vmm.h"

#define ESCAPE 0x1d /* Ctrl-]: Ctrl-A is Powervisor's own */
#define PAUSE 5     /* milliseconds that output may wait for more */
#define FULL 1      /* milliseconds until the guest is offered more input */

static struct lock lock;
static bool waiting; /* output that is not on its way yet */
static int wake[2];  /* a pipe: a byte in it when output begins to wait */
static bool raw;
static struct termios before;

void console_write(uint8_t byte)
{
	take_lock(&lock);
	putchar(byte);
	if (!waiting && write(wake[1], "", 1) == 1)
		waiting = true;
	release_lock(&lock);
}

static void flush(void)
{
	char byte;

	poll(NULL, 0, PAUSE);
	take_lock(&lock);
	if (read(wake[0], &byte, 1) == 1)
		waiting = false;
	fflush(stdout);
	release_lock(&lock);
}

static void *run(void *unused)
{
	uint8_t input[64];
	ssize_t count = 0, done = 0;
	int source = STDIN_FILENO;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = wake[0], .events = POLLIN }, { .fd = done < count ? -1 : source, .events = POLLIN },
		};

		poll(fds, 2, done < count ? FULL : -1);
		if (fds[0].revents)
			flush();
		if (fds[1].revents) {
			done = 0;
			count = read(source, input, sizeof input);
			if (count == 0)
				source = -1; /* no more input; the guest goes on */
		}
		for (; done < count; done++) {
			if (raw && input[done] == ESCAPE)
				end(0);
			else if (!uart_receive(input[done]))
				break;
		}
	}
	return unused;
}

static void restore(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	raw = false;
}

static void interrupted(int number)
{
	restore();
	signal(number, SIG_DFL);
	raise(number);
}

void console_close(void)
{
	take_lock(&lock); /* for good: nobody writes but whoever ends the process */
	fflush(stdout);
	restore();
}

void console_open(void)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGTERM };
	pthread_t thread;
	int error;

	if (pipe(wake) < 0)
		fail(errno, "a pipe");
	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0) {
		struct termios mode = before;

		for (unsigned n = 0; n < sizeof ends / sizeof *ends; n++)
			signal(ends[n], interrupted);
		cfmakeraw(&mode);
		raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &mode) == 0;
	}
	if ((error = pthread_create(&thread, NULL, run, NULL)))
		fail(error, "a thread for the console");
}
